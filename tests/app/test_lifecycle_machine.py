"""Random interleavings of clients, two workers, upkeep and crashes; what must hold holds after every step."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import select, text, update

from app.db import Database, now
from app.errors import Conflict
from app.ids import new_id
from app.lifecycle import stop
from app.lifecycle.claim import Worker, claim
from app.lifecycle.events import append
from app.lifecycle.lease import Lease, LeaseLost, held, renew
from app.lifecycle.moves import HELD, MOVES, lock
from app.lifecycle.settle import end, succeed
from app.lifecycle.upkeep import sweep
from app.tables import Artifact, Attempt, Base, Event, Job, Project
from stillhouse.spec.reasons import REASONS, TERMINAL
from tests.servers import postgres

WORKERS = [Worker(name=f"w{n}", host="h", devices=("cpu",) * (n + 1), queues=("default",)) for n in range(2)]
JOBS = 3


class JobsLife(RuleBasedStateMachine):
    """Leases are kept for ever, so that dead attempts come back and try to write."""

    def __init__(self) -> None:
        super().__init__()
        self.database = self.opened()
        self.leases: list[Lease] = []
        self.ended: dict[str, str] = {}
        with self.database.transaction() as session:
            session.add(Project(id="prj", name="p", created_at=now(session)))
            session.flush()
            for number in range(JOBS):
                job = Job(
                    id=f"job_{number}",
                    project_id="prj",
                    name="n",
                    spec={},
                    queue="default",
                    priority=number,
                    gpus=number,
                    status="queued",
                    progress={},
                    attempt=0,
                    losses=0,
                    last_seq=0,
                    log_bytes=0,
                    run_seconds=0.0,
                    created_at=now(session),
                )
                session.add(job)
                session.flush()
                append(session, job, "job.created", {})

    def opened(self) -> Database:
        """A database with empty tables."""
        self.folder = tempfile.TemporaryDirectory()
        database = Database(f"sqlite:///{Path(self.folder.name) / 'x.db'}")
        Base.metadata.create_all(database.engine)
        return database

    def teardown(self) -> None:
        self.database.dispose()
        self.folder.cleanup()

    @rule(worker=st.sampled_from(WORKERS))
    def claims(self, worker: Worker) -> None:
        with self.database.transaction() as session:
            session.execute(update(Job).values(not_before=None))
            lease = claim(session, worker, lease_seconds=60)
            if lease is not None:
                assert session.get_one(Job, lease.job_id).gpus <= len(worker.devices)
        if lease is not None:
            self.leases.append(lease)

    @rule(data=st.data(), act=st.sampled_from(["renew", "succeed", *sorted(REASONS)]))
    def attempt_writes(self, data: st.DataObject, act: str) -> None:
        if not self.leases:
            return
        lease = data.draw(st.sampled_from(self.leases))
        try:
            with self.database.transaction() as session:
                if act == "renew":
                    renew(session, lease, seconds=60)
                elif act == "succeed":
                    job = held(session, lease)
                    artifact = Artifact(
                        id=new_id("art"), job_id=job.id, name="x", key="k", bytes=1, sha256="0", media_type="x"
                    )
                    succeed(session, job, result={}, artifacts=[artifact], max_losses=3)
                elif REASONS[act].status in ("queued", "failed"):
                    end(session, held(session, lease), reason=act, max_losses=3)
        except LeaseLost:
            assert not self.is_current(lease)
        else:
            assert act in REASONS or self.was_current(lease)

    @rule(number=st.integers(0, JOBS - 1), act=st.sampled_from([stop.cancel, stop.pause, stop.resume]))
    def client_asks(self, number: int, act: stop.Action) -> None:
        try:
            with self.database.transaction() as session:
                job = lock(session, f"job_{number}")
                assert job is not None
                act(session, job)
        except Conflict:
            pass

    @rule(number=st.integers(0, JOBS - 1))
    def lease_runs_out(self, number: int) -> None:
        with self.database.transaction() as session:
            past = now(session) - timedelta(seconds=1)
            session.execute(
                update(Job)
                .where(Job.id == f"job_{number}", Job.lease_expires_at.is_not(None))
                .values(lease_expires_at=past)
            )
        sweep(self.database, max_losses=3)

    def is_current(self, lease: Lease) -> bool:
        with self.database.reading() as session:
            job = session.get_one(Job, lease.job_id)
            return (job.attempt, job.lease_token) == (lease.attempt, lease.token)

    def was_current(self, lease: Lease) -> bool:
        with self.database.reading() as session:
            return session.get_one(Job, lease.job_id).attempt == lease.attempt

    @invariant()
    def every_job_is_sound(self) -> None:
        with self.database.reading() as session:
            for job in session.scalars(select(Job)):
                self.check_lease(job)
                events = list(session.scalars(select(Event).where(Event.job_id == job.id).order_by(Event.seq)))
                assert [event.seq for event in events] == list(range(1, job.last_seq + 1))
                for event in events:
                    if event.type == "job.status_changed":
                        assert event.data["to"] in MOVES[event.data["from"]]
                artifacts = session.scalars(select(Artifact).where(Artifact.job_id == job.id)).all()
                assert bool(artifacts) == (job.status == "succeeded")
                attempts = session.scalars(select(Attempt).where(Attempt.job_id == job.id).order_by(Attempt.n)).all()
                assert [attempt.n for attempt in attempts] == list(range(1, job.attempt + 1))
                open_ones = [attempt.n for attempt in attempts if attempt.ended_at is None]
                assert open_ones == ([job.attempt] if job.status in HELD else [])

    def check_lease(self, job: Job) -> None:
        assert (job.lease_token is not None) == (job.status in HELD)
        if job.id in self.ended:
            assert job.status == self.ended[job.id], "a terminal state changed"
        elif job.status in TERMINAL:
            self.ended[job.id] = job.status


class JobsLifeOnPostgres(JobsLife):
    """The same on PostgreSQL."""

    url = ""

    def opened(self) -> Database:
        database = Database(self.url)
        with database.transaction() as session:
            session.execute(text("TRUNCATE projects CASCADE"))
        return database

    def teardown(self) -> None:
        self.database.dispose()


def lived(life: type[JobsLife], *, examples: int) -> None:
    """Play a life so many times."""
    run_state_machine_as_test(
        life,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


def test_the_life_of_jobs() -> None:
    lived(JobsLife, examples=40)


def test_the_life_of_jobs_on_postgres(monkeypatch: pytest.MonkeyPatch) -> None:
    url = postgres.fresh()
    monkeypatch.setattr(JobsLifeOnPostgres, "url", url)
    lived(JobsLifeOnPostgres, examples=20)
    postgres.drop(url)
