"""A TCP proxy before a server, for the faults of a network: refused, slow, half open."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Literal

from tests.servers import free_port

Mode = Literal["open", "refused", "half-open"]


class Proxy:
    """Passes bytes on to ``port`` of 127.0.0.1, as ``mode`` and ``delay`` say; both may be changed at any moment."""

    def __init__(self, port: int) -> None:
        self.port = free_port()
        self.delay = 0.0
        self.room: int | None = None
        """Bytes that may still go to the server before every connection is cut; None for any number."""
        self._to = port
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
            try:
                server = socket.create_connection(("127.0.0.1", self._to), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._connections += [client, server]
            for ends in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

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
