"""The one table of allowed moves between statuses, and the one function that makes a move."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import now, storable
from app.errors import Conflict
from app.lifecycle import events
from app.tables import Job
from stillhouse.spec.reasons import TERMINAL, Status

MOVES: dict[Status, frozenset[Status]] = {
    "queued": frozenset({"running", "paused", "cancelled"}),
    "running": frozenset({"queued", "pausing", "cancelling", "succeeded", "failed"}),
    "pausing": frozenset({"paused", "cancelling", "queued", "succeeded", "failed"}),
    "paused": frozenset({"queued", "cancelled"}),
    "cancelling": frozenset({"cancelled", "failed"}),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
HELD: frozenset[Status] = frozenset({"running", "pausing", "cancelling"})
"""Statuses in which a worker holds a lease."""


_LONGEST_DETAIL = 4000


def lock(session: Session, job_id: str) -> Job | None:
    """The job's row, locked until the transaction ends (on SQLite the transaction itself is the lock)."""
    return session.scalar(
        select(Job).where(Job.id == job_id).with_for_update().execution_options(populate_existing=True)
    )


def move(session: Session, job: Job, to: Status, *, reason: str | None = None, detail: str | None = None) -> None:
    """Move a locked job to another status and record it. Raises Conflict when the table does not allow it."""
    if to not in MOVES[job.status]:
        raise Conflict(f"a job that is {job.status} cannot become {to}", code="invalid_state")
    moment = now(session)
    if detail is not None:  # a child's words may be long
        detail = storable(detail)[:_LONGEST_DETAIL]
    before, job.status, job.status_reason, job.status_detail = job.status, to, reason, detail
    if to == "running" and job.started_at is None:
        job.started_at = moment
    if to in TERMINAL:
        job.finished_at = moment
    if to not in HELD:
        job.stage = job.lease_token = job.lease_owner = job.lease_expires_at = job.stop_reason = None
    data = {"from": before, "to": to, "reason": reason, "detail": detail, "terminal": to in TERMINAL}
    events.append(session, job, "job.status_changed", data, at=moment)
