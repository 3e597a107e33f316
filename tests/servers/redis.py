"""Redis for tests: one shared server, or one of a test's own that it may kill."""

from __future__ import annotations

import functools
import itertools
import socket
from urllib.parse import urlsplit

from redis import Redis as Client

from tests.servers import Server, folder, given, require

VARIABLE = "STILLHOUSE_TEST_REDIS_URL"
_DATABASES = 16
_taken = itertools.count()


class Redis(Server):
    """A redis-server without files: what it knew is gone when it is killed, as a broker's messages may be."""

    def __init__(self) -> None:
        super().__init__("redis", folder("redis"))

    def command(self) -> list[str]:
        program = require("redis-server", package="redis-server", variable=VARIABLE)
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.data),
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
        }
        return [str(program), *(part for name, value in settings.items() for part in (f"--{name}", value))]

    def ready(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16) == b"+PONG\r\n"

    def url(self, database: int = 0) -> str:
        """Of one of its databases."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def client(self) -> Client:
        """A connection for tests that look inside, or flush it all."""
        return Client(port=self.port)


@functools.cache
def shared() -> Redis:
    """The session's."""
    server = Redis()
    server.start()
    return server


def fresh() -> str:
    """The URL of an empty database of the session's server, or of the one that the environment names."""
    number = next(_taken) % _DATABASES
    if (url := given(VARIABLE)) is not None:
        url = urlsplit(url)._replace(path=f"/{number}").geturl()
    else:
        url = shared().url(number)
    with Client.from_url(url) as client:
        client.flushdb()
    return url
