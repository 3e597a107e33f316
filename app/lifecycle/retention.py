"""What is thrown away: jobs that ended long ago, and what a job that succeeded no longer needs."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import Database, now, on_commit
from app.storage import Storage
from app.tables import Checkpoint, Job
from stillhouse.spec.reasons import TERMINAL

_AT_ONCE = 50
TIDY_AFTER = timedelta(hours=1)
"""By then an attempt that was thought dead, and woke, has been refused and has stopped leaving files."""


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
    on_commit(session, partial(storage.delete_prefix, f"jobs/{job.id}"))


def tidy(database: Database, storage: Storage) -> int:
    """Drop what only an unfinished job needs: checkpoints, and the files of attempts that did not publish.

    Its student is the best epoch's, so nothing of value goes. How many jobs were tidied.
    """
    with database.transaction() as session:
        untidy = (
            select(Job)
            .where(Job.kind == "distillation", Job.status == "succeeded", Job.tidied_at.is_(None))
            .where(Job.finished_at < now(session) - TIDY_AFTER)
            .order_by(Job.finished_at)
            .limit(_AT_ONCE)
            .with_for_update(skip_locked=True)
        )
        jobs = list(session.scalars(untidy))
        for job in jobs:
            job.tidied_at = now(session)
            for row in session.scalars(select(Checkpoint).where(Checkpoint.job_id == job.id)):
                session.delete(row)
            prefix = f"jobs/{job.id}/attempts"
            on_commit(session, partial(storage.delete_prefix, f"{prefix}/{job.attempt}/checkpoints"))
            for earlier in range(1, job.attempt):
                on_commit(session, partial(storage.delete_prefix, f"{prefix}/{earlier}"))
    return len(jobs)
