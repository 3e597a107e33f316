"""Requests that come too late or at the very moment: whoever is first in the database decides, and both are told."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError

from app import db
from app.config import Settings
from app.db import Database, now, unavailable
from app.lifecycle.claim import claim
from app.lifecycle.upkeep import sweep
from app.storage import open_storage
from app.tables import Job
from tests.app.conftest import submit
from tests.app.running import WORKER, claimed, ended, succeeded
from tests.app.test_races import together
from tests.servers import postgres

ROUNDS = 6


def status(client: TestClient, job_id: str) -> str:
    return str(client.get(f"/v1/jobs/{job_id}").json()["status"])


def ask(client: TestClient, job_id: str, action: str) -> int:
    return client.post(f"/v1/jobs/{job_id}/{action}").status_code


def take(database: Database) -> object:
    with database.transaction() as session:
        return claim(session, WORKER, lease_seconds=60)


def run_out(database: Database, job_id: str) -> None:
    """Let a job's lease have run out."""
    with database.transaction() as session:
        past = now(session) - timedelta(seconds=1)
        session.execute(update(Job).where(Job.id == job_id).values(lease_expires_at=past))


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_cancel_that_races_success_wins_or_is_refused(
    client: TestClient, database: Database, settings: Settings, number: int
) -> None:
    job_id = submit(client)
    lease, storage = claimed(database), open_storage(settings.storage_url)
    answers = together([lambda: ask(client, job_id, "cancel"), lambda: succeeded(database, storage, lease)])
    outcome = (answers[0], status(client, job_id), len(client.get(f"/v1/jobs/{job_id}/artifacts").json()["data"]))
    assert outcome in {(202, "cancelled", 0), (409, "succeeded", 1)}


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_pause_that_races_the_loss_of_its_worker_is_kept(client: TestClient, database: Database, number: int) -> None:
    job_id = submit(client)
    claimed(database)
    run_out(database, job_id)
    together([lambda: ask(client, job_id, "pause"), lambda: sweep(database, max_losses=3)])
    sweep(database, max_losses=3)  # a row that the client held was passed over
    assert status(client, job_id) == "paused"
    assert take(database) is None
    assert ask(client, job_id, "resume") == 202
    assert take(database) is not None


def test_a_pausing_or_cancelling_job_whose_worker_is_lost_ends_as_it_was_asked_to(
    client: TestClient, database: Database
) -> None:
    for action, end in (("pause", "paused"), ("cancel", "cancelled")):
        job_id = submit(client)
        claimed(database)
        assert ask(client, job_id, action) == 202
        run_out(database, job_id)
        assert sweep(database, max_losses=3) == 1
        assert status(client, job_id) == end


def test_a_message_for_a_job_that_was_cancelled_meanwhile_starts_nothing(
    client: TestClient, database: Database
) -> None:
    job_id = submit(client)
    assert ask(client, job_id, "cancel") == 200
    assert take(database) is None
    assert status(client, job_id) == "cancelled"


def test_what_waits_for_another_try_or_is_paused_is_cancelled_at_once(client: TestClient, database: Database) -> None:
    backing_off, paused = submit(client), submit(client)
    ended(database, claimed(database), "storage_error")
    assert status(client, backing_off) == "queued"
    assert ask(client, paused, "pause") == 200
    for job_id in (backing_off, paused):
        assert ask(client, job_id, "cancel") == 200
        assert status(client, job_id) == "cancelled"
        assert client.get(f"/v1/jobs/{job_id}").json()["terminal"]


def test_a_process_that_freezes_in_mid_transaction_loses_its_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL ends its session, so its job can be given to another worker. Awake, it may try again."""
    options = db._POSTGRESQL["options"].replace("session_timeout=20000", "session_timeout=300")
    monkeypatch.setitem(db._POSTGRESQL, "options", options)
    url = postgres.fresh()
    frozen, other = Database(url), Database(url)
    insert = text("INSERT INTO projects (id, name, created_at) VALUES ('p', 'p', now())")
    lock = text("SELECT id FROM projects FOR UPDATE")
    copy = text("INSERT INTO projects (id, name, created_at) VALUES (:id, :id, now())")
    with other.transaction() as session:
        session.execute(insert)

    found: list[str | None] = []

    def freeze() -> None:
        with frozen.transaction() as session:
            session.execute(lock)
            session.execute(copy, [{"id": "a"}, {"id": "b"}])  # for many rows the driver has a way of its own
            with other.transaction() as waiting:
                found.append(waiting.scalar(lock))
            session.execute(text("DELETE FROM projects"))

    with pytest.raises(DBAPIError) as caught:
        freeze()
    assert unavailable(caught.value)
    assert found == ["p"]
    for each in (frozen, other):
        each.dispose()
    postgres.drop(url)
