"""Real servers for tests and benchmarks: found, started on free ports of 127.0.0.1, gone when the process ends.

What the modules of this package share (one module a kind of server: ``postgres``, ``redis``, ...):

- ``given(variable)``: the URL of a server that somebody else runs, from the environment; None otherwise.
- ``find(program, folders=...)``: a binary on the PATH or in one of the folders (patterns are allowed); None otherwise.
- ``require(program, package=..., folders=..., variable=...)``: the same, and where it is missing Debian's package is
  installed when this is root; else ``Missing`` says exactly what to install.
- ``free_port()``: a port of 127.0.0.1 that nobody holds; ports handed out are not handed out again.
- ``folder(name, owner=...)``: a new temporary folder, removed when this process ends.
- ``Server``: a process with a port and a log: ``start()``, ``stop()``, ``kill()``, ``freeze()``, ``thaw()``, and
  ``ready()`` for a subclass to say. It dies with this process, however that ends.

A server is made on its first use and shared for the rest of the session: ``@functools.cache def shared() -> ...``.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_APT_OPTIONS = ("-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Options::=--force-confold")
_libc = ctypes.CDLL(None)
_handed_out: set[int] = set()


class Missing(Exception):
    """A server that tests need is not there; the sentence says what to install."""


def given(variable: str) -> str | None:
    """The URL of a server that is run by somebody else; tests may fill it, and never stop or clear it."""
    return os.environ.get(variable) or None


def find(program: str, *, folders: Sequence[str] = ()) -> Path | None:
    """A program on the PATH or in one of ``folders``, which may be patterns."""
    if (found := shutil.which(program)) is not None:
        return Path(found)
    inside = [path for pattern in folders for path in Path("/").glob(f"{pattern.lstrip('/')}/{program}")]
    return max(inside, default=None)


def require(program: str, *, package: str, variable: str, folders: Sequence[str] = ()) -> Path:
    """A program, its Debian package installed if need be. Raises Missing."""
    if (found := find(program, folders=folders)) is not None:
        return found
    problem = "this is not root" if os.geteuid() != 0 else install(package)
    if (found := find(program, folders=folders)) is not None:
        return found
    raise Missing(
        f"{program} is not there and {package} could not be installed ({problem}). Run: apt-get install {package}; "
        f"or set {variable} to a server's URL"
    )


@functools.cache
def install(package: str) -> str:
    """Install a Debian package without a question, and without starting what it brings; what was wrong, if anything."""
    if find("apt-get") is None:
        return "there is no apt-get here"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _no_service_starts():
        for arguments in (["update"], ["install", "--no-install-recommends", "-y", package]):
            done = subprocess.run(
                ["apt-get", "-qq", *_APT_OPTIONS, *arguments],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
    return (
        f"apt-get said: {(done.stderr or done.stdout).strip()[-400:]}" if done.returncode else "it holds no such file"
    )


class _no_service_starts:  # noqa: N801  # used as a function
    """While it lasts, Debian's packages start no service and PostgreSQL's makes no cluster of its own."""

    def __enter__(self) -> None:
        self._made: list[Path] = []
        for path, text, mode in (
            (Path("/usr/sbin/policy-rc.d"), "#!/bin/sh\nexit 101\n", 0o755),
            (Path("/etc/postgresql-common/createcluster.conf"), "create_main_cluster = false\n", 0o644),
        ):
            if path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(mode)
            if path.name == "policy-rc.d":
                self._made.append(path)

    def __exit__(self, *_: object) -> None:
        for path in self._made:
            path.unlink(missing_ok=True)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody holds now, and that is not given out twice."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _handed_out:
            _handed_out.add(port)
            return port


def folder(name: str, *, owner: str | None = None) -> Path:
    """A new folder for a server's data, short enough for a socket's path, removed when this process ends."""
    made = Path(tempfile.mkdtemp(prefix=f"stillhouse-{name}-"))
    if owner is not None and os.geteuid() == 0:
        entry = pwd.getpwnam(owner)
        os.chown(made, entry.pw_uid, entry.pw_gid)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


class Server:
    """One server process on a port of its own."""

    stop_signal = signal.SIGTERM

    def __init__(self, name: str, data: Path, *, user: str | None = None) -> None:
        self.name = name
        self.data = data
        self.port = free_port()
        self.log = data.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None
        self._user = user if os.geteuid() == 0 else None
        atexit.register(self._end)

    def command(self) -> Sequence[str]:
        """What is run."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Added to the environment."""
        return {}

    def ready(self) -> bool:
        """Whether it answers; anything that is raised counts as not yet."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(self.command()),
                cwd=self.data,
                env={**os.environ, **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=self._user,
                extra_groups=None if self._user is None else [],
                preexec_fn=functools.partial(_die_with_parent, self.stop_signal),  # noqa: PLW1509  # one system call, no lock
            )
        self._await(self.ready)

    def stop(self) -> None:
        """End it in order, and wait."""
        self.signal(self.stop_signal)
        self.wait()

    def kill(self) -> None:
        """kill -9 of all its processes, and wait."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.wait()

    def freeze(self) -> None:
        """Stop it as a machine stops that hangs: connections stay, nothing answers."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo ``freeze``."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its first process."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def wait(self) -> None:
        """Until it has ended."""
        if self.process is not None:
            self.process.wait(timeout=60)

    def _await(self, answers: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                break
            try:
                if answers():
                    return
            except Exception:  # noqa: BLE001  # whatever a client raises, the server is not up yet
                pass
            time.sleep(0.02)
        raise AssertionError(f"{self.name} did not start; its log:\n{self.log.read_text()[-4000:]}")

    def _end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGCONT)
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.kill()
        self.log.unlink(missing_ok=True)


def _die_with_parent(number: signal.Signals) -> None:
    """In the new process: end when the one that started it has ended, even by kill -9."""
    _libc.prctl(_PR_SET_PDEATHSIG, number)
