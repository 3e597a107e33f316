"""A worker's hold on a job. Every write a worker makes goes through ``held``, which fences it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import now
from app.tables import Job
from stillhouse.spec import Status


class LeaseLost(Exception):
    """Another attempt owns the job now, or it has ended: this one may write nothing."""


@dataclass(frozen=True)
class Lease:
    """What proves that an attempt is the current one."""

    job_id: str
    attempt: int
    token: str


def held(session: Session, lease: Lease) -> Job:
    """The job's row, locked, if ``lease`` still owns it; whatever this transaction writes is thereby fenced."""
    statement = (
        select(Job)
        .where(Job.id == lease.job_id, Job.attempt == lease.attempt, Job.lease_token == lease.token)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    job = session.scalar(statement)
    if job is None:
        raise LeaseLost(f"{lease.job_id} attempt {lease.attempt}")
    return job


def renew(session: Session, lease: Lease, *, seconds: float) -> Status:
    """Extend the lease by the database's clock; the answer carries the flags: running, pausing or cancelling."""
    job = held(session, lease)
    job.lease_expires_at = now(session) + timedelta(seconds=seconds)
    return job.status
