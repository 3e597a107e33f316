"""A TCP proxy of a few lines that can be slow, cut its connections, or take them and say nothing."""

from __future__ import annotations

import socket
import threading
import time

_PIECE = 2**14


class Proxy:
    """Stands before a port of 127.0.0.1; ``delay`` is the pause before each piece in either direction."""

    def __init__(self, port: int) -> None:
        self.delay = 0.0
        self.room: int | None = None
        """Bytes that may still go to the server before every connection is cut; None for any number."""
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                inside, _ = self._listener.accept()
            except OSError:
                return
            try:
                outside = socket.create_connection(("127.0.0.1", self._target))
            except OSError:  # the server is down, and so is what stands before it
                inside.close()
                continue
            for source, sink, upwards in ((inside, outside, True), (outside, inside, False)):
                threading.Thread(target=self._pump, args=(source, sink, upwards), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, upwards: bool) -> None:  # noqa: FBT001  # a thread's
        try:
            while piece := source.recv(_PIECE):
                time.sleep(self.delay)
                if upwards and self.room is not None:
                    self.room -= len(piece)
                    if self.room < 0:
                        break
                sink.sendall(piece)
        except OSError:
            pass
        for end in (source, sink):
            end.close()
