"""Watching one child: relay what it says, ask it to stop and make it where needed, and say how it ended."""

from __future__ import annotations

import json
import os
import selectors
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from app.config import Settings
from app.lifecycle.lease import LeaseLost
from worker.child import EXIT_STOPPED
from worker.handover import Untrustworthy
from worker.heartbeat import Heartbeat
from worker.sandbox import Child

_LONGEST_LINE = 16 * 2**20
_PIECE = 2**16
_LARGEST_PIPE = 2**20
"""Linux' pipe-max-size."""
_AFTERLIFE_SECONDS = 5.0
"""How long a child that has ended may be silent while something holds its pipes."""


@dataclass(frozen=True)
class Ending:
    """How a child came to its end: with success, or for a reason from the table."""

    reason: str | None
    detail: str | None = None
    exit: int | None = None


_TOO_LONG = Ending("max_runtime", "the job ran for longer than resources.max_runtime")


class Watch:
    """The rules by which an attempt's children are watched; the deadline and the flags hold for all of them."""

    def __init__(
        self,
        settings: Settings,
        beat: Heartbeat,
        draining: threading.Event,
        *,
        allowed_seconds: float | None,
        too_long: Ending = _TOO_LONG,
    ) -> None:
        self._settings = settings
        self._beat = beat
        self._draining = draining
        self._deadline = None if allowed_seconds is None else time.monotonic() + allowed_seconds
        self._too_long = too_long
        self._last_sign = time.monotonic()

    def until_ended(
        self,
        child: Child,
        *,
        relay: Callable[[dict[str, Any]], None],
        output: Callable[[str], None],
        tick: Callable[[], None],
    ) -> Ending:
        """Until ``child`` has ended and said its last. Raises LeaseLost, Untrustworthy."""
        stop: Ending | None = None
        asked_at = 0.0
        self._last_sign = time.monotonic()
        for line in _events_and_output(child, output):
            if self._beat.lost:
                raise LeaseLost
            if line:
                relay(_event(line))
                self._last_sign = time.monotonic()  # after the relay: an upload may take long
            tick()
            moment = time.monotonic()
            if stop is None:
                stop = self._why_stop()
                if stop is not None:
                    asked_at = moment
                    child.signal_group(signal.SIGKILL if stop.reason == "stalled" else signal.SIGTERM)
            elif moment - asked_at > self._settings.stop_grace_seconds:
                child.signal_group(signal.SIGKILL)
        if self._beat.lost:
            raise LeaseLost
        return _how(child.process.wait(), stop)

    def _why_stop(self) -> Ending | None:
        if self._beat.status != "running" or self._draining.is_set():
            return Ending("drained")  # where a pausing or cancelling job ends up, its own stop_reason decides
        if self._deadline is not None and time.monotonic() > self._deadline:
            return self._too_long
        if time.monotonic() - self._last_sign > self._settings.stall_seconds:
            return Ending("stalled", f"the training process gave no sign for {self._settings.stall_seconds:.0f} s")
        return None


def _how(status: int, stop: Ending | None) -> Ending:
    if stop is not None:
        return Ending(stop.reason, stop.detail, status)
    if status == 0:
        return Ending(None, None, status)
    if status == EXIT_STOPPED:
        return Ending("drained", None, status)
    how = f"signal {-status} ({_signal(-status)})" if status < 0 else f"exit status {status}"
    return Ending("worker_lost", f"the training process ended with {how}", status)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "a real-time signal"  # which have no names


def _event(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line.replace("\\u0000", "\\ufffd"))  # PostgreSQL takes no NUL
        if "\\ud" in line.lower():
            json.dumps(event, ensure_ascii=False).encode()  # raises for half of a surrogate pair, which is no text
    except ValueError as error:
        raise Untrustworthy(f"the child said what is no JSON: {line[:200]!r}") from error
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise Untrustworthy(f"the child said what is no event: {line[:200]!r}")
    return event


class _Remains:
    """What may still come of a child that has ended: what its pipes hold, and no more.

    Their end cannot be waited for, since a process that it has left behind may hold them for as long as it likes.
    """

    def __init__(self, child: Child) -> None:
        self._child = child
        self._bytes = 2 * _LARGEST_PIPE
        self._silent_since: float | None = None

    def awaited(self, pieces: int) -> bool:
        """Whether to listen on, after one more look at which so many pieces were ready."""
        if self._child.process.poll() is None:
            return True
        self._bytes -= pieces * _PIECE
        if pieces:
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = time.monotonic()
        silent = self._silent_since is not None and time.monotonic() - self._silent_since > _AFTERLIFE_SECONDS
        return self._bytes > 0 and not silent


def _events_and_output(child: Child, output: Callable[[str], None]) -> Iterator[str]:
    """Each line of the child's events, and at least every 0.2 s an empty one; ends when there will be no more."""
    buffer, remains = b"", _Remains(child)
    with selectors.DefaultSelector() as selector:
        selector.register(child.events, selectors.EVENT_READ)
        selector.register(child.output, selectors.EVENT_READ)
        while selector.get_map():
            found = selector.select(timeout=0.2)
            if not remains.awaited(len(found)):
                return
            for ready, _ in found:
                piece = os.read(ready.fd, _PIECE)
                if not piece:
                    selector.unregister(ready.fd)
                elif ready.fd == child.output:
                    output(piece.decode(errors="replace"))
                else:
                    *lines, buffer = (buffer + piece).split(b"\n")
                    if len(buffer) > _LONGEST_LINE:
                        raise Untrustworthy("the child said a line without an end")
                    yield from (line.decode(errors="replace") for line in lines)
            yield ""
