"""Taking a job: one guarded UPDATE, so that of any number of workers exactly one gets it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from sqlalchemy import Select, func, or_, select, update
from sqlalchemy.orm import Session

from app.db import now
from app.lifecycle import events, quotas
from app.lifecycle.lease import Lease
from app.lifecycle.moves import HELD, move
from app.tables import Attempt, Job, Kind, Project


@dataclass(frozen=True)
class Worker:
    """Who claims."""

    name: str
    host: str
    devices: tuple[str, ...]
    queues: tuple[str, ...]
    running_limit: int | None = None
    """Jobs of one project that may run at once, where the project has no limit of its own."""
    kind: Kind = "distillation"
    """What it takes: a person who uploads shall not wait for a training, so validations have a slot of their own."""


def _best(session: Session, worker: Worker) -> Select[str]:
    """The job to take: highest priority, then of the project that has the fewest running, then the oldest.

    None that asks for more devices than the worker has; of a project that runs as many as it may, none.
    """
    running = (
        select(Job.project_id, func.count().label("jobs"))
        .where(Job.kind == worker.kind, Job.status.in_(HELD))
        .group_by(Job.project_id)
        .subquery()
    )
    already = func.coalesce(running.c.jobs, 0)
    moment = now(session)
    found = (
        select(Job.id)
        .join(Project, Project.id == Job.project_id)
        .outerjoin(running, running.c.project_id == Job.project_id)
        .where(Job.kind == worker.kind, Job.status == "queued", Job.queue.in_(worker.queues))
        .where(Job.gpus <= len(worker.devices))
        .where(or_(Job.not_before.is_(None), Job.not_before <= moment))
        .order_by(Job.priority.desc(), already, Job.created_at, Job.id)
        .limit(1)
    )
    if worker.kind == "distillation":
        own = Project.running_limit
        limit = own if worker.running_limit is None else func.coalesce(own, worker.running_limit)
        found = found.where(or_(limit.is_(None), already < limit))
    return found


def waiting(session: Session, worker: Worker) -> str | None:
    """The id of a job that could be claimed now, if there is one."""
    return session.scalar(_best(session, worker))


def claim(session: Session, worker: Worker, *, lease_seconds: float) -> Lease | None:
    """Take the best eligible job: a new lease token, the attempt raised by one."""
    moment = now(session)
    best = _best(session, worker).with_for_update(skip_locked=True, of=Job).correlate(None).scalar_subquery()
    token = uuid4().hex
    taking = (
        update(Job)
        .where(Job.id == best, Job.status == "queued")
        .values(
            attempt=Job.attempt + 1,
            lease_token=token,
            lease_owner=worker.name,
            lease_expires_at=moment + timedelta(seconds=lease_seconds),
            not_before=None,
        )
        .returning(Job.id, Job.attempt, Job.project_id)
        .execution_options(synchronize_session=False)
    )
    try:
        with session.begin_nested():
            taken = session.execute(taking).first()
            if taken is None:
                return None
            lease = Lease(job_id=taken.id, attempt=taken.attempt, token=token)
            _begin_attempt(session, lease, worker, moment)
            if worker.kind == "distillation":
                quotas.check_running(session, taken.project_id, worker.running_limit)
    except quotas.OneTooMany:
        return None
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
