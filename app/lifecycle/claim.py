"""Taking a job: one guarded UPDATE, so that of any number of workers exactly one gets it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import Session

from app.db import now
from app.lifecycle import events
from app.lifecycle.lease import Lease
from app.lifecycle.moves import move
from app.tables import Attempt, Job, Kind


@dataclass(frozen=True)
class Worker:
    """Who claims."""

    name: str
    host: str
    devices: tuple[str, ...]
    queues: tuple[str, ...]
    kind: Kind = "distillation"
    """What it takes: a person who uploads shall not wait for a training, so validations have a slot of their own."""


def _eligible(queues: Sequence[str], kind: Kind, moment: datetime) -> ColumnElement[bool]:
    due = or_(Job.not_before.is_(None), Job.not_before <= moment)
    return (Job.kind == kind) & (Job.status == "queued") & Job.queue.in_(queues) & due


def waiting(session: Session, worker: Worker) -> str | None:
    """The id of a job that could be claimed now, if there is one."""
    return session.scalar(select(Job.id).where(_eligible(worker.queues, worker.kind, now(session))).limit(1))


def claim(session: Session, worker: Worker, *, lease_seconds: float) -> Lease | None:
    """Take the best eligible job (highest priority, then oldest): a new lease token, the attempt raised by one."""
    moment = now(session)
    best = (
        select(Job.id)
        .where(_eligible(worker.queues, worker.kind, moment))
        .order_by(Job.priority.desc(), Job.created_at, Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    token = uuid4().hex
    taken = session.execute(
        update(Job)
        .where(Job.id == best, Job.status == "queued")
        .values(
            attempt=Job.attempt + 1,
            lease_token=token,
            lease_owner=worker.name,
            lease_expires_at=moment + timedelta(seconds=lease_seconds),
            not_before=None,
        )
        .returning(Job.id, Job.attempt)
        .execution_options(synchronize_session=False)
    ).first()
    if taken is None:
        return None
    lease = Lease(job_id=taken.id, attempt=taken.attempt, token=token)
    _begin_attempt(session, lease, worker, moment)
    return lease


def _begin_attempt(session: Session, lease: Lease, worker: Worker, moment: datetime) -> None:
    job = session.get_one(Job, lease.job_id, populate_existing=True)
    move(session, job, "running")
    session.add(
        Attempt(
            job_id=lease.job_id,
            n=lease.attempt,
            worker=worker.name,
            host=worker.host,
            devices=list(worker.devices),
            started_at=moment,
        )
    )
    events.append(session, job, "job.attempt_started", {"worker": worker.name, "host": worker.host}, at=moment)
