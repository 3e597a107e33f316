"""Asking a job to stop. A waiting job stops at once; for a held one its worker acts at the next heartbeat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from sqlalchemy.orm import Session

from app.errors import Conflict
from app.lifecycle.moves import move
from app.tables import Job

Outcome = Literal["done", "already", "asked"]
"""``done``: it has stopped now; ``already``: it had; ``asked``: a worker must act."""
Action = Callable[[Session, Job], Outcome]


def cancel(session: Session, job: Job) -> Outcome:
    """Cancel a locked job. Raises Conflict when it has ended otherwise."""
    if job.status == "cancelled":
        return "already"
    if job.status == "cancelling":
        return "asked"
    if job.status in ("queued", "paused"):
        move(session, job, "cancelled", reason="user_cancelled")
        return "done"
    _ask(session, job, "cancelling", reason="user_cancelled")
    return "asked"


def pause(session: Session, job: Job) -> Outcome:
    """Pause a locked job: it stops at a checkpoint and keeps its place for ``resume``."""
    if job.status == "paused":
        return "already"
    if job.status == "pausing":
        return "asked"
    if job.status == "queued":
        move(session, job, "paused", reason="user_paused")
        return "done"
    _ask(session, job, "pausing", reason="user_paused")
    return "asked"


def resume(session: Session, job: Job) -> Outcome:
    """Put a paused job back into the queue. A job that waits or runs already is left as it is."""
    if job.status in ("queued", "running"):
        return "already"
    if job.status == "pausing":
        raise Conflict("the job is still pausing; resume it once it is paused", code="invalid_state")
    if job.status != "paused":
        raise Conflict(f"a job that is {job.status} cannot be resumed", code="invalid_state")
    move(session, job, "queued")
    return "asked"


def _ask(session: Session, job: Job, to: Literal["cancelling", "pausing"], *, reason: str) -> None:
    move(session, job, to, reason=reason)
    job.stop_reason = reason
