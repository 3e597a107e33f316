"""A TCP proxy before one server or several alike: for the faults of a network, and as a balancer of load."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from typing import Literal

from tests.servers import free_port

Mode = Literal["open", "refused", "half-open"]


class Proxy:
    """Passes bytes on to ``ports`` of 127.0.0.1, as ``mode`` and ``delay`` say; both may be changed at any moment.

    Of several ports each connection gets the next one that takes it.
    """

    def __init__(self, *ports: int) -> None:
        self.port = free_port()
        self.delay = 0.0
        self.url = f"http://127.0.0.1:{self.port}"
        self.room: int | None = None
        """Bytes that may still go to the server before every connection is cut; None for any number."""
        self._ports = deque(ports)
        self._mode: Mode = "open"
        self._connections: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._listen()

    @property
    def mode(self) -> Mode:
        """``refused``: nobody listens and connections are cut. ``half-open``: they stay, and no byte comes through."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._mode = mode
        if mode == "refused":
            self.close()
        elif self._listener is None:
            self._listen()
        if mode == "open":
            self.cut()  # what hung would have lost bytes

    def cut(self) -> None:
        """Reset every connection."""
        with self._lock:
            cut, self._connections = self._connections, []
        for connection in cut:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def close(self) -> None:
        """Listen no more."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def _listen(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port))
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = self._connected()
            if server is None:
                client.close()
                continue
            with self._lock:
                self._connections += [client, server]
            for ends in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _connected(self) -> socket.socket | None:
        for port in tuple(self._ports):
            self._ports.rotate(-1)  # the next connection begins with the next port
            with contextlib.suppress(OSError):
                server = socket.create_connection(("127.0.0.1", port), timeout=5)
                server.settimeout(None)
                return server
        return None

    def _pass_on(self, reading: socket.socket, writing: socket.socket, up: bool) -> None:  # noqa: FBT001  # a thread's
        with contextlib.suppress(OSError):
            while piece := reading.recv(2**16):
                time.sleep(self.delay)
                if self._mode == "half-open":
                    continue  # swallowed: neither side learns of it
                if up and self.room is not None:
                    self.room -= len(piece)
                    if self.room < 0:
                        break
                writing.sendall(piece)
        for end in (reading, writing):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
