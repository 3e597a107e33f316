"""What lost attempts come to: those that died are poison at last, those that an outage ended are not."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from app.db import Database, now
from app.lifecycle.settle import OUTAGE_TRIES
from app.tables import Checkpoint, Job
from tests.app.conftest import submit
from tests.app.running import claimed, ended


@pytest.fixture
def job_id(client: TestClient) -> str:
    return submit(client)


def lose(database: Database, *reasons: str) -> None:
    """Attempts that end so, one after another; their pauses are not waited for."""
    for reason in reasons:
        with database.transaction() as session:
            session.execute(update(Job).values(not_before=None))
        ended(database, claimed(database), reason)


def stands(client: TestClient, job_id: str) -> tuple[str, str]:
    job = client.get(f"/v1/jobs/{job_id}").json()
    return job["status"], job["status_reason"]


def test_an_outage_is_no_poison(client: TestClient, database: Database, job_id: str) -> None:
    lose(database, "storage_error", "storage_error", "worker_lost")
    assert stands(client, job_id) == ("queued", "worker_lost")
    lose(database, "download_failed", "stalled", "storage_error")
    assert stands(client, job_id) == ("queued", "storage_error")
    lose(database, "gpu_fault")
    assert stands(client, job_id) == ("failed", "poison")
    detail = client.get(f"/v1/jobs/{job_id}").json()["status_detail"]
    assert detail.startswith("3 attempts died without a new checkpoint; the last ended as gpu_fault")


def test_deaths_do_not_shorten_how_long_an_outage_is_waited_for(
    client: TestClient, database: Database, job_id: str
) -> None:
    lose(database, "worker_lost", "worker_lost", *["storage_error"] * (OUTAGE_TRIES - 1))
    assert stands(client, job_id) == ("queued", "storage_error")
    lose(database, "storage_error")
    assert stands(client, job_id) == ("failed", "storage_error")


def test_the_first_pause_of_an_outage_is_the_short_one(client: TestClient, database: Database, job_id: str) -> None:
    lose(database, "worker_lost", "worker_lost", "storage_error")
    with database.reading() as session:
        until = session.get_one(Job, job_id).not_before
        assert until is not None
        assert 0 < (until - now(session)).total_seconds() <= 4


def test_a_checkpoint_ends_both_counts(client: TestClient, database: Database, job_id: str) -> None:
    deaths, outages = ["worker_lost"] * 2, ["storage_error"] * (OUTAGE_TRIES - 1)
    lose(database, *deaths, *outages)
    with database.transaction() as session:
        session.add(
            Checkpoint(
                id="ckpt_1",
                job_id=job_id,
                attempt=len(deaths + outages) + 1,
                phase="teacher",
                complete=False,
                epoch=1,
                step=0,
                key="k",
                bytes=1,
                sha256="0",
                created_at=now(session),
            )
        )
    lose(database, *deaths, *outages)
    assert stands(client, job_id) == ("queued", "storage_error")
    lose(database, "worker_lost")
    assert stands(client, job_id) == ("failed", "poison")


def test_what_an_older_version_counted_together_is_told_apart(
    client: TestClient, database: Database, job_id: str
) -> None:
    lose(database, *["storage_error"] * 5)
    with database.transaction() as session:
        session.execute(update(Job).values(losses=5))
    lose(database, "worker_lost")
    assert stands(client, job_id) == ("queued", "worker_lost")
