"""Jobs that ended long ago are thrown away."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import Database, now, on_commit
from app.lifecycle.garbage import discard
from app.lifecycle.uses import jobs_in_use
from app.storage import Storage
from app.tables import Job
from stillhouse.spec.reasons import TERMINAL

_AT_ONCE = 50


def expire(database: Database, storage: Storage, *, days: float) -> int:
    """Delete jobs that ended ``days`` ago, with their files once the rows are gone; how many there were.

    One whose student a job needs that has not ended is left for later.
    """
    with database.transaction() as session:
        old = (
            select(Job)
            .where(Job.kind == "distillation", Job.status.in_(TERMINAL))
            .where(Job.finished_at < now(session) - timedelta(days=days), Job.id.not_in(jobs_in_use(session)))
            .order_by(Job.finished_at)
            .limit(_AT_ONCE)
            .with_for_update(skip_locked=True)
        )
        locked = list(session.scalars(old))
        in_use = jobs_in_use(session)  # once more, now that none of them can be named any longer
        jobs = [job for job in locked if job.id not in in_use]
        for job in jobs:
            delete(session, storage, job)
    return len(jobs)


def delete(session: Session, storage: Storage, job: Job) -> None:
    """Delete a locked job that has ended, and its files after the commit."""
    session.delete(job)
    on_commit(session, partial(discard, storage, f"jobs/{job.id}"))
