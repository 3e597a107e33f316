"""Jobs that ended long ago are thrown away."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import Database, now, on_commit
from app.lifecycle.garbage import discard
from app.storage import Storage
from app.tables import Job
from stillhouse.spec.reasons import TERMINAL

_AT_ONCE = 50


def expire(database: Database, storage: Storage, *, days: float) -> int:
    """Delete jobs that ended ``days`` ago, with their files once the rows are gone; how many there were."""
    with database.transaction() as session:
        old = (
            select(Job)
            .where(Job.kind == "distillation", Job.status.in_(TERMINAL))
            .where(Job.finished_at < now(session) - timedelta(days=days))
            .order_by(Job.finished_at)
            .limit(_AT_ONCE)
            .with_for_update(skip_locked=True)
        )
        jobs = list(session.scalars(old))
        for job in jobs:
            delete(session, storage, job)
    return len(jobs)


def delete(session: Session, storage: Storage, job: Job) -> None:
    """Delete a locked job that has ended, and its files after the commit."""
    session.delete(job)
    on_commit(session, partial(discard, storage, f"jobs/{job.id}"))
