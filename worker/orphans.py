"""What a child leaves running: a process that left its session, which a signal to its group does not reach.

A worker adopts orphans, as init would. So what is its child, lives in another session, and was not started by
``spawn`` can only be one.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_PATIENCE_SECONDS = 5.0
_adopting = threading.Event()
started: set[int] = set()
"""The children that run now."""
starting = threading.Lock()
"""Held from before a child is started until it is among them."""


def adopt() -> None:
    """From now on orphans become this process's children. For a process that starts others by ``spawn`` alone."""
    if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0:
        _adopting.set()


def end() -> int:
    """Kill every orphan, and those that this makes orphans; how many there were."""
    ended, deadline = 0, time.monotonic() + _PATIENCE_SECONDS
    while _adopting.is_set() and (found := _orphans()) and time.monotonic() < deadline:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
            ended += 1
    return ended


def _orphans() -> list[int]:
    with starting:
        listed = " ".join((task / "children").read_text() for task in Path("/proc/self/task").iterdir())
        return [pid for pid in map(int, listed.split()) if pid not in started and _elsewhere(pid)]


def _elsewhere(pid: int) -> bool:
    """Whether a process has left this one's session, as every child does, and none of its other helpers."""
    try:
        return os.getsid(pid) != os.getsid(0)
    except ProcessLookupError:
        return False
