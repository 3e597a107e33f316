"""What is state is read from the database at each scrape, so any API process of a fleet gives the same figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.config import Settings
from app.db import now
from app.lifecycle.fleet import is_live
from app.lifecycle.moves import HELD
from app.tables import Job, Kind, Outcome, Worker
from stillhouse.spec.reasons import REASONS, STATUSES

_KINDS: tuple[Kind, ...] = ("distillation", "validation")
_WORKER_STATES = ("ready", "draining", "unfit", "silent")


def families(session: Session, settings: Settings) -> Iterator[Metric]:
    """Every figure of the state."""
    moment = now(session)
    yield _jobs(session)
    yield from _queues(session, moment)
    yield from _leases(session, settings, moment)
    yield _attempts(session)
    yield _workers(session, settings)


def _jobs(session: Session) -> Metric:
    rows = session.execute(select(Job.kind, Job.status, func.count()).group_by(Job.kind, Job.status))
    found = {(kind, status): count for kind, status, count in rows}
    family = GaugeMetricFamily("stillhouse_jobs", "Jobs that are kept, by status.", labels=("kind", "status"))
    for kind in _KINDS:
        for status in STATUSES:
            family.add_metric((kind, status), found.get((kind, status), 0))
    return family


def _queues(session: Session, moment: datetime) -> Iterator[Metric]:
    depth = GaugeMetricFamily("stillhouse_queue_jobs", "Jobs that wait, by queue.", labels=("kind", "queue"))
    oldest = GaugeMetricFamily(
        "stillhouse_queue_oldest_seconds", "Since the oldest waiting job was submitted.", labels=("kind", "queue")
    )
    rows = session.execute(
        select(Job.kind, Job.queue, func.count(), func.min(Job.created_at))
        .where(Job.status == "queued")
        .group_by(Job.kind, Job.queue)
    )
    waiting = {(str(kind), queue): (count, since) for kind, queue, count, since in rows}
    served = {("distillation", queue) for queues in session.scalars(select(Worker.queues)) for queue in queues}
    for key in sorted(served | set(waiting)):
        count, since = waiting.get(key, (0, moment))
        depth.add_metric(key, count)
        oldest.add_metric(key, max(0.0, (moment - since).total_seconds()))
    return iter((depth, oldest))


def _leases(session: Session, settings: Settings, moment: datetime) -> Iterator[Metric]:
    held = select(func.count(), func.min(Job.lease_expires_at)).where(Job.status.in_(HELD))
    count, first = session.execute(held).one()
    yield GaugeMetricFamily("stillhouse_leases", "Attempts that run now.", value=count)
    age = 0.0 if first is None else settings.lease_seconds - (first - moment).total_seconds()
    yield GaugeMetricFamily(
        "stillhouse_lease_oldest_seconds", "Since the lease that was renewed longest ago was renewed.", value=age
    )


def _attempts(session: Session) -> Metric:
    found = {(row.kind, row.reason): row.attempts for row in session.scalars(select(Outcome))}
    family = CounterMetricFamily(
        "stillhouse_attempts", "Attempts that have ended, by how.", labels=("kind", "reason", "fault")
    )
    known = {(kind, reason) for kind in _KINDS for reason in ("succeeded", *REASONS)}
    for kind, reason in sorted(known | set(found)):
        fault = REASONS[reason].fault if reason in REASONS else "none"
        family.add_metric((kind, reason, fault), found.get((kind, reason), 0))
    return family


def _workers(session: Session, settings: Settings) -> Metric:
    rows = session.scalars(select(Worker)).all()
    lease = settings.lease_seconds
    states = Counter(row.state if is_live(session, row, lease_seconds=lease) else "silent" for row in rows)
    family = GaugeMetricFamily("stillhouse_workers", "Workers in the register, by state.", labels=("state",))
    for state in _WORKER_STATES:
        family.add_metric((state,), states[state])
    return family
