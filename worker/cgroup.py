"""A limit on the memory of one child, by a cgroup of its own, in version 2 or 1: where this system keeps memory.

The limit counts what the child itself needs; pages of files that are mapped count too, but the kernel takes those back
before it ends a process. ``python -m worker.cgroup`` says whether a limit can be had here.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_PREFIX = "stillhouse"
_REMOVAL_SECONDS = 5.0


class Unavailable(Exception):
    """No limit can be had here; ``str()`` says why, and what to do."""


@dataclass(frozen=True)
class _Version:
    """The names of what is written and read."""

    limit: str
    with_swap: tuple[str, str | None]
    """The file that bounds memory and swap, and its value; None is the limit itself."""
    peak: str
    events: str


_ONE = _Version(
    "memory.limit_in_bytes", ("memory.memsw.limit_in_bytes", None), "memory.max_usage_in_bytes", "memory.oom_control"
)
_TWO = _Version("memory.max", ("memory.swap.max", "0"), "memory.peak", "memory.events")


@dataclass(frozen=True)
class MemoryGroup:
    """A cgroup with a limit, for one child and what it starts."""

    folder: Path
    version: _Version
    limit: int

    def enter(self, pid: int) -> None:
        """Put a process into it; one that has ended already stays where it was."""
        with suppress(ProcessLookupError):
            (self.folder / "cgroup.procs").write_text(str(pid))

    def killed(self) -> bool:
        """Whether the kernel has ended a process in it for want of memory."""
        lines = (line.split() for line in (self.folder / self.version.events).read_text().splitlines())
        return any(int(words[1]) > 0 for words in lines if words[0] == "oom_kill")

    def peak(self) -> int | None:
        """Bytes that were charged at most, pages of files included; None where the kernel does not count it."""
        with suppress(OSError):
            return int((self.folder / self.version.peak).read_text())
        return None


@contextmanager
def limited(limit: int) -> Iterator[MemoryGroup]:
    """A group that may have ``limit`` bytes, gone afterwards with what is left in it. Raises Unavailable."""
    version, parent = _parent()
    _sweep(parent)
    folder = parent / f"{_PREFIX}-{os.getpid()}-{time.monotonic_ns()}"
    try:
        folder.mkdir()
        group = MemoryGroup(folder, version, limit)
        (folder / version.limit).write_text(str(limit))
    except OSError as error:
        with suppress(OSError):
            folder.rmdir()
        raise Unavailable(f"{error.strerror} at {parent}; {_remedy(version)}") from error
    name, value = version.with_swap
    with suppress(OSError):  # there may be no swap to bound
        (folder / name).write_text(value or str(limit))
    try:
        yield group
    finally:
        _remove(folder)


@contextmanager
def memory_limit(limit: int | None, *, warn: Callable[[str], None]) -> Iterator[Memory]:
    """The memory of a child. A limit that is asked for and cannot be had is said, and the work goes on without."""
    with ExitStack() as stack:
        group: MemoryGroup | None = None
        try:
            if limit is not None:
                group = stack.enter_context(limited(limit))
        except Unavailable as error:
            warn(f"the limit of {limit:,} bytes of memory is not kept: {error}")
        yield Memory(group)


@dataclass(frozen=True)
class Memory:
    """What a child may have: a group's limit, or whatever there is."""

    group: MemoryGroup | None

    def enter(self, pid: int) -> None:
        """Hold a process to it."""
        if self.group is not None:
            self.group.enter(pid)

    def exceeded(self) -> str | None:
        """A sentence, when the kernel has ended a process for it."""
        if self.group is None or not self.group.killed():
            return None
        return (
            f"it needed more than the {self.group.limit:,} bytes of memory that STILLHOUSE_TRAINING_MEMORY_BYTES allows"
        )


def _parent() -> tuple[_Version, Path]:
    """Below which folder a group may be made. Raises Unavailable."""
    try:
        lines = OWN.read_text().splitlines()
    except OSError as error:
        raise Unavailable(f"this system has no cgroups ({error.strerror}); {_remedy(_TWO)}") from error
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if "memory" in controllers.split(","):
            return _ONE, _existing(ROOT / "memory", place)
    place = next((line.split(":", 2)[2] for line in lines if line.startswith("0::")), "/")
    own = _existing(ROOT, place)
    tried = [own, own.parent] if own != ROOT else [own]  # processes may be in the one or in groups below it, not both
    for folder in tried:
        if _hands_on_memory(folder):
            return _TWO, folder
    raise Unavailable(f"{own} does not hand memory on to groups below it; {_remedy(_TWO)}")


def _existing(root: Path, place: str) -> Path:
    """Within a container the path that is told may be the host's, and the root the container's own."""
    inside = root / place.strip("/")
    return inside if inside.is_dir() else root


def _hands_on_memory(folder: Path) -> bool:
    control = folder / "cgroup.subtree_control"
    try:
        if "memory" not in control.read_text().split():
            control.write_text("+memory")
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _remedy(version: _Version) -> str:
    if version is _ONE:
        return "run the worker where it may make memory cgroups (as root, or with its cgroup's folder made its own)"
    return "run the worker in a delegated cgroup (systemd: Delegate=memory and DelegateSubgroup=worker)"


def _sweep(parent: Path) -> None:
    """Remove the groups of workers that were killed."""
    for folder in parent.glob(f"{_PREFIX}-*-*"):
        pid = folder.name.split("-")[1]
        if not Path(f"/proc/{pid}").exists():
            with suppress(OSError):  # a child of theirs may be about to end
                folder.rmdir()


def _remove(folder: Path) -> None:
    """Processes that were killed a moment ago are still being taken down."""
    deadline = time.monotonic() + _REMOVAL_SECONDS
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                return  # the next one to be made sweeps it away
            time.sleep(0.02)
        else:
            return


if __name__ == "__main__":
    try:
        with limited(2**30) as probe:
            print(json.dumps({"held": [f"memory by {probe.folder.parent}"], "missing": []}))
    except Unavailable as error:
        print(json.dumps({"held": [], "missing": [str(error)]}))
