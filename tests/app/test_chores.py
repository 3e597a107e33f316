"""What the upkeep throws away, and what it leaves."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from app import chores
from app.chores import Chore
from app.db import Database, now
from app.dependencies import Services
from app.errors import StorageError
from app.lifecycle import retention
from app.storage import Storage
from app.tables import Job, Kind
from tests.app.conftest import submit
from tests.app.running import claimed, ended, succeeded


@pytest.fixture
def given(client: TestClient) -> Services:
    return client.app.state.services  # type: ignore[attr-defined,no-any-return]


def age(database: Database, days: float, kind: Kind = "distillation") -> None:
    with database.transaction() as session:
        finished = now(session) - timedelta(days=days)
        session.execute(update(Job).where(Job.finished_at.is_not(None)).values(finished_at=finished, kind=kind))


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


def test_one_failed_chore_does_not_keep_the_next(
    given: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stopping = asyncio.Event()
    done: list[str] = []

    def fail() -> None:
        done.append("failed")
        raise StorageError("the store is away")

    def last() -> None:
        done.append("went on")
        if len(done) > 5:
            stopping.set()

    listed = [Chore("fail", 0, fail), Chore("sit", 3600, lambda: done.append("sat")), Chore("go on", 0, last)]
    monkeypatch.setattr(chores, "chores", lambda _given: iter(listed))
    quick = Services(
        given.settings.model_copy(update={"upkeep_seconds": 0.01}), given.database, given.storage, given.doorbell
    )
    asyncio.run(asyncio.wait_for(chores.keep_up(quick, stopping), 20))
    assert done[:5] == ["failed", "sat", "went on", "failed", "went on"]
    assert "the upkeep could not fail, and tries again: the store is away" in caplog.text


def test_every_chore_runs_on_a_fresh_installation(given: Services) -> None:
    kept = given.settings.model_copy(update={"retention_days": 1.0})
    everything = list(chores.chores(Services(kept, given.database, given.storage, given.doorbell)))
    for chore in everything:
        chore.do()
    assert len(everything) == len(list(chores.chores(given))) + 1
