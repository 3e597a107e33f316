"""The register of workers: what each says of itself, how long it is believed, what that means for a queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from app.db import Database, now
from app.ids import new_id
from app.lifecycle.quotas import WAITING
from app.tables import Job, Worker
from stillhouse.fleet import WorkerState


@dataclass(frozen=True)
class Description:
    """What a worker says of itself, for as long as it lives."""

    name: str
    host: str
    pid: int
    devices: list[str]
    memory_bytes: int
    versions: dict[str, str]
    queues: list[str]


def report(session: Session, who: Description, *, state: WorkerState, reason: str | None, newborn: bool) -> None:
    """Write that ``who`` lives, and how it is. ``newborn`` marks the first report of a life under this name."""
    moment = now(session)
    row = session.scalar(select(Worker).where(Worker.name == who.name).with_for_update())
    if row is None:
        row = Worker(id=new_id("wrk"), started_at=moment)
        session.add(row)
    elif newborn:
        row.started_at = moment
    for name, value in asdict(who).items():
        setattr(row, name, value)
    row.state, row.reason, row.heartbeat_at = state, reason, moment


def leave(session: Session, name: str) -> None:
    """A worker has ended as it should: nothing is left to say of it."""
    session.execute(delete(Worker).where(Worker.name == name))


def forget(database: Database, *, seconds: float) -> None:
    """Drop the workers that have not been heard of for so long."""
    with database.transaction() as session:
        session.execute(delete(Worker).where(Worker.heartbeat_at < now(session) - timedelta(seconds=seconds)))


def is_live(session: Session, row: Worker, *, lease_seconds: float) -> bool:
    """Whether a worker has been heard of within the time a lease lasts."""
    return row.heartbeat_at >= now(session) - timedelta(seconds=lease_seconds)


def unserved(session: Session, *, lease_seconds: float) -> list[str]:
    """The queues that no live worker serves, of jobs that wait, or waited within a day."""
    moment = now(session)
    named = select(Job.queue).where(
        Job.kind == "distillation", or_(Job.status.in_(WAITING), Job.finished_at >= moment - timedelta(days=1))
    )
    live = select(Worker.queues).where(Worker.heartbeat_at >= moment - timedelta(seconds=lease_seconds))
    served = {queue for queues in session.scalars(live) for queue in queues}
    return sorted(set(session.scalars(named.distinct())) - served)


def _live(session: Session, *, lease_seconds: float) -> Sequence[Worker]:
    """Those that ``is_live`` is true of, by name."""
    heard_of = now(session) - timedelta(seconds=lease_seconds)
    return session.scalars(select(Worker).where(Worker.heartbeat_at >= heard_of).order_by(Worker.name)).all()


def most_memory(session: Session, queue: str, *, lease_seconds: float) -> int | None:
    """Bytes of the live worker that has most of those that serve ``queue``; None when there is none."""
    live = _live(session, lease_seconds=lease_seconds)
    return max((row.memory_bytes for row in live if queue in row.queues), default=None)


def complaint(session: Session, queue: str, *, gpus: int, lease_seconds: float) -> str | None:
    """Why a job in ``queue`` that asks for ``gpus`` would not be taken now; None when a worker is ready for it."""
    live = _live(session, lease_seconds=lease_seconds)
    serving = [row for row in live if queue in row.queues]
    large_enough = [row for row in serving if len(row.devices) >= gpus]
    if any(row.state == "ready" for row in large_enough):
        return None
    if large_enough:
        states = "; ".join(f"{row.name} is {row.state}: {row.reason}" for row in large_enough[:3])
        return f"no worker that serves the queue {queue!r} is ready ({states}); the job waits until one is"
    if serving:
        most = max(serving, key=lambda row: len(row.devices))
        has = f"{most.name} has most of them, {len(most.devices)}"
        remedy = "ask for fewer, or start a worker that has so many"
        return f"no live worker that serves the queue {queue!r} has {gpus} devices ({has}); the job waits: {remedy}"
    served = sorted({name for row in live for name in row.queues})
    others = f"live workers serve {', '.join(served)}" if served else "no worker is live"
    remedy = f"start one with STILLHOUSE_QUEUES={queue}"
    return f"no live worker serves the queue {queue!r} ({others}); the job waits until one does: {remedy}"
