"""What a child says, written down: short transactions, each fenced by the attempt's lease."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.db import Database, now
from app.ids import new_id
from app.lifecycle import events
from app.lifecycle.lease import Lease, held
from app.storage import Stored
from app.tables import Attempt, Checkpoint, Event, Job, LogChunk, MetricPoint
from worker.engine import failpoint
from worker.patience import insist

_FLUSH_SECONDS = 1.0
_PROGRESS = "job.progress"
_SHOWN = ("fraction", "epoch", "epochs", "eta_seconds", "images_per_second")
KEPT_OF_A_PHASE = 2


@dataclass
class _Trace:
    """By what a transaction is known again: the last event that it added, and where the log ended with it.

    Nobody but the holder of the lease adds to the log.
    """

    event: str | None = None
    log_bytes: int | None = None

    def is_in(self, session: Session, job: Job) -> bool:
        if self.event is not None:
            return session.scalar(select(Event.seq).where(Event.id == self.event)) is not None
        return self.log_bytes is not None and job.log_bytes >= self.log_bytes


class Reporter:
    """Buffers what comes often (metrics, output, progress); writes at once what must not be lost."""

    def __init__(self, database: Database, lease: Lease, *, log_limit_bytes: int, lost: Callable[[], bool]) -> None:
        self._database = database
        self._lost = lost
        self._lease = lease
        self._log_limit = log_limit_bytes
        self._points: dict[tuple[str, int], tuple[float, float | None]] = {}
        self._log: list[str] = []
        self._log_length = 0
        self._events: list[tuple[str, dict[str, Any]]] = []
        self._flushed = time.monotonic()
        self._trace = _Trace()

    def metrics(self, points: list[tuple[str, int, float, float | None]]) -> None:
        """Buffer points of (name, step, Unix time, value)."""
        self._points.update({(name, step): (at, value) for name, step, at, value in points})

    def often(self, type_: str, data: Mapping[str, Any]) -> None:
        """Buffer an event of a kind that may come several times in a second; of progress only the newest counts."""
        if type_ == _PROGRESS:
            self._events = [event for event in self._events if event[0] != _PROGRESS]
        self._events.append((type_, dict(data)))

    def output(self, text: str) -> None:
        """Buffer what the child printed, and never more than is kept."""
        if self._log_length <= self._log_limit:
            self._log.append(text)
            self._log_length += len(text)

    def started(self, pid: int, resumed_from: str | None) -> None:
        """The child runs."""

        def record(session: Session, job: Job) -> None:
            attempt = session.get_one(Attempt, (job.id, job.attempt))
            attempt.pid, attempt.resumed_from = pid, resumed_from
            self._append(session, job, "job.child_started", {"pid": pid, "resumed_from": resumed_from})

        self.write(record)

    def stage(self, name: str) -> None:
        """The job has come to another stage."""

        def record(session: Session, job: Job) -> None:
            if job.stage != name:
                job.stage = name
                self._append(session, job, "job.stage_changed", {"stage": name})

        self.write(record)

    def plan(self, plan: Mapping[str, Any]) -> None:
        """Device, precision and threads of the first attempt, which later ones repeat."""

        def record(_session: Session, job: Job) -> None:
            job.plan = job.plan or dict(plan)

        self.write(record)

    def event(self, type_: str, data: Mapping[str, Any]) -> None:
        """Add an event to the job's log."""
        self.write(lambda session, job: self._append(session, job, type_, data))

    def checkpoint(self, stored: Stored, data: Mapping[str, Any]) -> list[str]:
        """A checkpoint has safely arrived: from now on a lost attempt costs nothing that lies before it.

        Returns the keys of those that are no longer needed: of each phase the newest and, should that one turn out
        to be damaged, the one before it are kept.
        """
        stale: list[str] = []

        def record(session: Session, job: Job) -> None:
            stale.clear()
            row = Checkpoint(
                id=new_id("ckpt"),
                job_id=job.id,
                attempt=job.attempt,
                phase=data["phase"],
                complete=data["complete"],
                epoch=data["epoch"],
                step=data["step"],
                key=stored.key,
                bytes=stored.bytes,
                sha256=stored.sha256,
                created_at=now(session),
            )
            for old in resumable(session, job.id).get(row.phase, [])[KEPT_OF_A_PHASE - 1 :]:
                stale.append(old.key)
                session.delete(old)
            session.add(row)
            job.losses = 0
            shown = {"id": row.id, "phase": row.phase, "epoch": row.epoch, "step": row.step}
            self._append(session, job, "job.checkpoint_saved", shown)

        self.write(record)
        return stale

    def write(self, record: Callable[[Session, Job], None]) -> None:
        """One fenced transaction: what is buffered first, in the order it came, then ``record``; all of it once.

        When an answer is lost, the fence waits until what it was of has arrived or never will.
        """
        self._trace = _Trace()

        def transaction() -> None:
            with self._database.transaction() as session:
                job = held(session, self._lease)
                if self._trace.is_in(session, job):
                    return  # written before, by a try whose answer was lost
                self._write_buffers(session, job)
                record(session, job)

        insist(transaction, lost=self._lost)
        self._clear()

    def flush(self, *, force: bool = False) -> None:
        """Write what is buffered, at most once a second unless forced."""
        pending = self._points or self._log or self._events
        if pending and (force or time.monotonic() - self._flushed >= _FLUSH_SECONDS):
            self.write(lambda _session, _job: None)

    def _clear(self) -> None:
        self._points, self._log, self._log_length, self._events = {}, [], 0, []
        self._flushed = time.monotonic()

    def _write_buffers(self, session: Session, job: Job) -> None:
        if self._points:
            _upsert(session, job.id, self._points)
            failpoint.reach("metric.commit")
        for type_, data in self._events:
            if type_ == _PROGRESS:
                job.progress = {name: data.get(name) for name in _SHOWN}
            self._append(session, job, type_, data)
        if self._log:
            self._append_log(session, job, "".join(self._log))

    def _append(self, session: Session, job: Job, type_: str, data: Mapping[str, Any]) -> None:
        self._trace.event = events.append(session, job, type_, dict(data)).id

    def _append_log(self, session: Session, job: Job, text: str) -> None:
        room = self._log_limit - job.log_bytes
        encoded = text.encode()
        if room <= 0:
            return
        if len(encoded) > room:
            encoded = encoded[:room] + f"\n[output beyond {self._log_limit} bytes is not kept]\n".encode()
        kept = encoded.decode(errors="ignore").replace("\x00", "\N{REPLACEMENT CHARACTER}")
        session.add(LogChunk(job_id=job.id, offset=job.log_bytes, attempt=job.attempt, text=kept))
        self._trace.log_bytes = job.log_bytes = job.log_bytes + len(kept.encode())


def resumable(session: Session, job_id: str) -> dict[str, list[Checkpoint]]:
    """For each phase its checkpoints, newest first."""
    rows = session.scalars(select(Checkpoint).where(Checkpoint.job_id == job_id).order_by(Checkpoint.id.desc()))
    found: dict[str, list[Checkpoint]] = {}
    for row in rows:
        found.setdefault(row.phase, []).append(row)
    return found


def run_seconds(session: Session, job: Job) -> float:
    """Seconds this job has run in all its attempts, the current one included."""
    attempt = session.get_one(Attempt, (job.id, job.attempt))
    return job.run_seconds + (now(session) - attempt.started_at).total_seconds()


def _upsert(session: Session, job_id: str, points: Mapping[tuple[str, int], tuple[float, float | None]]) -> None:
    rows = [
        {"job_id": job_id, "name": name, "step": step, "time": at, "value": value}
        for (name, step), (at, value) in points.items()
    ]
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    insert = dialect.insert(MetricPoint)
    session.execute(
        insert.on_conflict_do_update(
            index_elements=["job_id", "name", "step"],
            set_={"time": insert.excluded.time, "value": insert.excluded.value},
        ),
        rows,
    )
