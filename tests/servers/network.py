"""A network of its own for a process, joined to this one by a cable that can be pulled: Linux' network namespaces."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import Missing, Server, folder, require


class Island(Server):
    """A network namespace with nothing in it but loopback and one end of a cable; the other end is here.

    The namespace has no name: it is held by a process that ends with this one, and the cable goes with it. Whatever
    happens to the tests, nothing of it stays.
    """

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise Missing("a network namespace with a cable to this one needs root")
        super().__init__("network", folder("network"))
        self._ip_program = str(require("ip", package="iproute2", variable="PATH", folders=("/usr/sbin", "/sbin")))
        net = 4 * (os.getpid() % 2**15)  # of 198.18.0.0/15, which RFC 2544 keeps for tests
        self.here, self.there = (f"198.{18 + net // 2**16}.{net // 2**8 % 2**8}.{net % 2**8 + end}" for end in (1, 2))
        self._cable = (f"sh{os.getpid()}h", f"sh{os.getpid()}t")

    def command(self) -> list[str]:
        """What holds the namespace open."""
        return ["unshare", "--net", "sleep", "infinity"]

    def ready(self) -> bool:
        """Whether it has left this network."""
        assert self.process is not None
        return _network_of(self.process.pid) != _network_of(os.getpid())

    def start(self) -> None:
        """Make the namespace, and lay the cable. Raises Missing where the kernel does not allow it."""
        try:
            super().start()
            assert self.process is not None
            here, there = self._cable
            self._ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", str(self.process.pid))
            self._ip("addr", "add", f"{self.here}/30", "dev", here)
            self._ip("link", "set", here, "up")
            self._ip("addr", "add", f"{self.there}/30", "dev", there, inside=True)
            for link in (there, "lo"):
                self._ip("link", "set", link, "up", inside=True)
        except (AssertionError, subprocess.CalledProcessError) as error:
            self.kill()
            said = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
            raise Missing(f"no network namespace can be made here: {said.strip()}") from error

    @property
    def wrapper(self) -> tuple[str, ...]:
        """What starts a process in there."""
        assert self.process is not None
        return ("nsenter", f"--net=/proc/{self.process.pid}/ns/net")

    def cut(self) -> None:
        """Pull the cable: packets are lost both ways, and no end is told."""
        self._ip("link", "set", self._cable[0], "down")

    def mend(self) -> None:
        """Plug it in again."""
        self._ip("link", "set", self._cable[0], "up")

    def _ip(self, *arguments: str, inside: bool = False) -> None:
        command = [*(self.wrapper if inside else ()), self._ip_program, *arguments]
        subprocess.run(command, check=True, capture_output=True, text=True)


def _network_of(pid: int) -> Path:
    return Path(f"/proc/{pid}/ns/net").readlink()


@contextmanager
def island() -> Iterator[Island]:
    """Raises Missing."""
    made = Island()
    made.start()
    try:
        yield made
    finally:
        made.kill()
