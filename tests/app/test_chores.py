"""What the upkeep throws away, and what it leaves."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from app import chores
from app.config import Settings
from app.db import Database, now
from app.dependencies import Services
from app.lifecycle import retention
from app.queue import Doorbell, create_celery, purge_stale
from app.storage import Storage
from app.tables import Checkpoint, Job, Kind
from tests.app.conftest import submit
from tests.app.running import claimed, ended, succeeded


@pytest.fixture
def given(client: TestClient) -> Services:
    return client.app.state.services  # type: ignore[attr-defined,no-any-return]


def age(database: Database, days: float, kind: Kind = "distillation") -> None:
    with database.transaction() as session:
        finished = now(session) - timedelta(days=days)
        session.execute(update(Job).where(Job.finished_at.is_not(None)).values(finished_at=finished, kind=kind))


def keep(database: Database, storage: Storage, job_id: str, attempt: int) -> str:
    """A checkpoint of an attempt, file and row."""
    key = f"jobs/{job_id}/attempts/{attempt}/checkpoints/{attempt}.pt"
    with open(os.devnull, "rb") as empty:  # noqa: PTH123  # a path cannot be opened twice as easily
        stored = storage.put(key, empty)
    with database.transaction() as session:
        row = Checkpoint(
            id=f"ckpt_{attempt}",
            job_id=job_id,
            attempt=attempt,
            phase="student-0",
            complete=False,
            epoch=1,
            step=1,
            key=key,
            bytes=0,
            sha256=stored.sha256,
            created_at=now(session),
        )
        session.add(row)
    return key


def exists(storage: Storage, key: str) -> bool:
    path = storage.local_path(key)
    assert path is not None
    return path.exists()


def test_jobs_that_ended_long_ago_go_with_their_files(client: TestClient, database: Database, given: Services) -> None:
    old = submit(client)
    succeeded(database, given.storage, claimed(database))
    age(database, 31)
    recent, waiting = submit(client), submit(client)
    ended(database, claimed(database), "bad_dataset")
    assert retention.expire(database, given.storage, days=30) == 1
    assert client.get(f"/v1/jobs/{old}").status_code == 404
    assert not exists(given.storage, f"jobs/{old}/attempts")
    assert {row["id"] for row in client.get("/v1/jobs").json()["data"]} == {recent, waiting}
    assert retention.expire(database, given.storage, days=30) == 0


def test_validations_are_not_jobs_that_people_see_and_stay(
    client: TestClient, database: Database, given: Services
) -> None:
    submit(client)
    ended(database, claimed(database), "bad_dataset")
    age(database, 31, kind="validation")
    assert retention.expire(database, given.storage, days=30) == 0


def test_a_job_that_succeeded_keeps_what_it_published_alone(
    client: TestClient, database: Database, given: Services
) -> None:
    job_id = submit(client)
    lost = claimed(database)
    orphan = keep(database, given.storage, job_id, 1)
    ended(database, lost, "drained")
    lease = claimed(database)
    stale = keep(database, given.storage, job_id, 2)
    succeeded(database, given.storage, lease)
    assert retention.tidy(database, given.storage) == 0, "an attempt that was thought dead may still be writing"
    age(database, 1)
    assert retention.tidy(database, given.storage) == 1
    assert not exists(given.storage, orphan)
    assert not exists(given.storage, stale)
    (artifact,) = client.get(f"/v1/jobs/{job_id}/artifacts").json()["data"]
    assert client.get(f"/v1/artifacts/{artifact['id']}/content").content == b"weights"
    with database.reading() as session:
        assert session.scalars(select(Checkpoint)).all() == []
    assert retention.tidy(database, given.storage) == 0


def test_a_job_that_failed_keeps_its_checkpoints(client: TestClient, database: Database, given: Services) -> None:
    job_id = submit(client)
    lease = claimed(database)
    key = keep(database, given.storage, job_id, 1)
    ended(database, lease, "nan_loss")
    age(database, 1)
    assert retention.tidy(database, given.storage) == 0
    assert exists(given.storage, key)


def test_messages_that_nobody_takes_are_dropped_in_time(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    bell = Doorbell(create_celery(settings))
    for queue in ("nobody", "default"):
        bell.ring(queue, "job_x")
    folder = settings.data_dir / "broker" / "messages"
    old = next(folder.glob("*.nobody.msg"))
    os.utime(old, (time.time() - 700,) * 2)
    (settings.data_dir / "broker" / "drafts" / "1_x.default.msg").write_text("")
    assert purge_stale(settings, seconds=600) == 1
    assert [path.name.split(".")[1] for path in folder.glob("*.msg")] == ["default"]
    assert purge_stale(settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"}), seconds=0) == 0


def test_one_failed_chore_does_not_keep_the_next(
    given: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []
    stopping = asyncio.Event()

    def fail() -> None:
        raise RuntimeError("the database is away")

    def last() -> None:
        done.append("second")

    monkeypatch.setattr(chores, "_often", lambda _given: iter([("fail", fail), ("go on", last)]))
    monkeypatch.setattr(chores, "_seldom", lambda _given: iter([("stop", stopping.set)]))
    asyncio.run(asyncio.wait_for(chores.keep_up(given, stopping), 20))
    assert done == ["second"]
    assert "the upkeep failed to fail; it tries again" in caplog.text


def test_every_chore_runs_on_a_fresh_installation(given: Services) -> None:
    kept = partial(given.settings.model_copy, update={"retention_days": 1.0})
    everything = Services(kept(), given.database, given.storage, given.doorbell)
    for _, chore in [*chores._often(everything), *chores._seldom(everything)]:
        chore()
    assert len(list(chores._seldom(everything))) == len(list(chores._seldom(given))) + 1
