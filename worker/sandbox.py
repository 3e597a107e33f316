"""The child in which everything of a user's is opened: started by exec, with no secret in reach.

``spawn`` is the supervisor's side. ``confine`` is the first thing a child does, before it imports torch or opens a
file: limits, no network but loopback, no privileges to gain and, when it was started as root, another uid.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from worker import orphans
from worker.engine import failpoint

TREE = Path(__file__).resolve().parent.parent
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""For glibc: what a step frees stays for the next one (bytes), in huge pages where the kernel gives them. By default it
goes back to the kernel, and each step of resnet20 on 64 images faults 4,000 to 7,000 pages in again."""
NOBODY = 65534
_USERS = range(61184, 65520)
"""Ids of which each child has one to itself, so that none can signal another's; systemd gives its services these."""
_PASSED_ON = ("PATH", "LANG", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "OMP_WAIT_POLICY")
_PASSED_ON_WITH_NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
_FILE_SIZE_LIMIT = 64 * 2**30
_OPEN_FILES_LIMIT = 4096

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 23, 24, 38
_CAPABILITY_VERSION_3 = 0x20080522
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


@dataclass
class Child:
    """A running child: its events and its output are files to read, its lifeline is a pipe to keep open."""

    process: subprocess.Popen[bytes]
    events: int
    output: int
    lifeline: int

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the child and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def close(self) -> None:
        """Kill what is left of the group, and what left it, and close the pipes."""
        self.signal_group(signal.SIGKILL)
        self.process.wait()
        orphans.started.discard(self.process.pid)
        orphans.end()
        for descriptor in (self.events, self.output, self.lifeline):
            os.close(descriptor)


def spawn(job: str, arguments: Sequence[str] = (), *, folder: Path, network: bool) -> Child:
    """Start ``python -m worker.child job`` in ``folder`` with a clean environment and its own session.

    The child refers to files relative to ``folder`` only, so it needs no right on the folders above it.
    """
    passed_on = _PASSED_ON + (_PASSED_ON_WITH_NETWORK if network else ())
    environment = {name: os.environ[name] for name in passed_on if name in os.environ}
    environment |= {
        "HOME": ".",
        "TMPDIR": ".",
        **ALLOCATOR,
        "PYTHONPATH": str(TREE),
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",  # the scratch folder is no place to import from
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # cuBLAS repeats its bits only with a fixed workspace
        "TORCHINDUCTOR_CACHE_DIR": "/proc/self/cwd/compiled",  # torch wants it absolute, and makes it when imported
    }
    if job == "train":
        environment |= failpoint.hand_on()
    if os.geteuid() == 0 and _bound_to_root() is None:
        _give(folder, _free_user())
    events_read, events_write = os.pipe()
    output_read, output_write = os.pipe()
    lifeline_read, lifeline_write = os.pipe()
    command = [sys.executable, "-m", "worker.child", job, *arguments]
    command += ["--events", str(events_write), "--lifeline", str(lifeline_read), *(["--network"] if network else [])]
    with orphans.starting:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output_write,
            stderr=output_write,
            pass_fds=(events_write, lifeline_read),
            start_new_session=True,
        )
        orphans.started.add(process.pid)
    for descriptor in (events_write, output_write, lifeline_read):
        os.close(descriptor)
    return Child(process=process, events=events_read, output=output_read, lifeline=lifeline_write)


@dataclass
class Protections:
    """What holds in this process, and what the kernel or the installation did not allow."""

    held: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def confine(*, network: bool) -> Protections:
    """Give up what a child must not have. Protections that cannot be had here are named, not passed over."""
    protections = Protections()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # where memory runs out, the kernel should take this process and not its supervisor
        Path("/proc/self/oom_score_adj").write_text("800")
    for limit, value in ((resource.RLIMIT_FSIZE, _FILE_SIZE_LIMIT), (resource.RLIMIT_NOFILE, _OPEN_FILES_LIMIT)):
        hard = resource.getrlimit(limit)[1]
        ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (ceiling, ceiling))
    protections.held.append("limits")
    if not network:
        _record(protections, "no network", _leave_network())
    _record(protections, "separate uid", _leave_root())
    libc = ctypes.CDLL(None, use_errno=True)
    _record(protections, "no capabilities", _drop_capabilities(libc))
    failed = libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _record(protections, "no new privileges", os.strerror(ctypes.get_errno()) if failed else None)
    return protections


def _record(protections: Protections, name: str, problem: str | None) -> None:
    if problem is None:
        protections.held.append(name)
    else:
        protections.missing.append(f"{name}: {problem}")


def _leave_network() -> str | None:
    """A fresh network namespace with loopback up (a new one has it down). The problem, if any."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _CLONE_NEWNET if os.geteuid() == 0 else _CLONE_NEWUSER | _CLONE_NEWNET
    if libc.unshare(flags) != 0:
        return f"unshare: {os.strerror(ctypes.get_errno())}"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sH14x", b"lo", 0)
        current = struct.unpack("16sH14x", fcntl.ioctl(probe, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", current | _IFF_UP))
    return None


def _leave_root() -> str | None:
    """From root to the user that the working folder was given to, where all can read the interpreter and the code.

    Returns the problem, if any.
    """
    if os.geteuid() != 0:
        return "not started as root; run the worker as a user of its own"
    if (why := _bound_to_root()) is not None:
        return why
    os.setgroups([])
    user = Path().stat().st_uid or NOBODY
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    return None


def _free_user() -> int:
    """An id that no process of this machine has, as far as can be seen; at random, since others choose as well."""
    taken = set()
    for status in Path("/proc").glob("[0-9]*/status"):  # who owns the folder does not tell: a child's is root's
        with suppress(OSError):  # it has ended
            taken |= {int(user) for user in status.read_text().partition("\nUid:")[2].split("\n")[0].split()}
    return random.choice([user for user in _USERS if user not in taken])  # no secret


def _bound_to_root() -> str | None:
    """Why no other user could run a child here: what it reads lies in a closed folder. None when one could."""
    for needed in (Path(os.__file__), Path(sys.prefix), TREE):
        closed = _closed_to_others(needed)
        if closed is not None:
            return f"{closed} is closed to other users"
    return None


def _drop_capabilities(libc: ctypes.CDLL) -> str | None:
    """Everything that root may do, for good; else one that stays root could re-enter the network. The problem, if any.

    The bounding set goes first (while it may), so that no program started later gets any of them back.
    """
    capability = 0
    while (present := libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0)) >= 0:
        if present and os.geteuid() == 0 and libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            return f"prctl: {os.strerror(ctypes.get_errno())}"
        capability += 1
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    if libc.capset(header, bytes(24)) != 0:  # effective, permitted and inheritable, twice 32 bits each
        return f"capset: {os.strerror(ctypes.get_errno())}"
    return None


def _closed_to_others(path: Path) -> Path | None:
    return next((folder for folder in path.resolve().parents if not folder.stat().st_mode & 0o001), None)


def take_back(folder: Path) -> None:
    """Make a folder that a child has left this process's own, so that no other child may change it."""
    if os.geteuid() == 0:
        _give(folder, 0)


def _give(folder: Path, owner: int) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner, owner, follow_symlinks=False)


if __name__ == "__main__":
    print(json.dumps(asdict(confine(network=False))))
