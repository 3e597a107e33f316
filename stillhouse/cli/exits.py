"""Exit statuses, so that a shell script can tell what happened.

| status | meaning |
| --- | --- |
| 0 | done; a watched job succeeded |
| 1 | the watched job failed, or something unforeseen went wrong |
| 2 | wrong usage, or a spec that is not valid |
| 3 | the watched job was cancelled |
| 4 | there is no such thing |
| 5 | no server answered |
| 6 | refused: key, scope or the job's state |
| 7 | a downloaded file is not what its digest says |
| 130 | interrupted; a watched job goes on |
"""

from __future__ import annotations

from stillhouse.client.errors import (
    Conflict,
    ConnectionFailed,
    Forbidden,
    IntegrityError,
    InvalidSpec,
    NotConfigured,
    NotFound,
    StillhouseError,
    Unauthorized,
    WrongFile,
)
from stillhouse.spec import Status

FAILED, USAGE, CANCELLED, MISSING, UNREACHABLE, REFUSED, CORRUPT, INTERRUPTED = 1, 2, 3, 4, 5, 6, 7, 130

_BY_ERROR: tuple[tuple[type[StillhouseError], int], ...] = (
    (InvalidSpec, USAGE),
    (WrongFile, USAGE),
    (NotFound, MISSING),
    (ConnectionFailed, UNREACHABLE),
    (NotConfigured, UNREACHABLE),
    (Unauthorized, REFUSED),
    (Forbidden, REFUSED),
    (Conflict, REFUSED),
    (IntegrityError, CORRUPT),
)


class CommandError(StillhouseError):
    """What a command finds by itself: a sentence, and the status to end with."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


def of_error(error: StillhouseError) -> int:
    """The status for an error."""
    if isinstance(error, CommandError):
        return error.status
    return next((status for kind, status in _BY_ERROR if isinstance(error, kind)), FAILED)


def of_job(status: Status) -> int:
    """The status for a job that was watched to its end."""
    return {"succeeded": 0, "cancelled": CANCELLED}.get(status, FAILED)
