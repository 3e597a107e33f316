"""What several do at the same moment, through HTTP and in the database: each thing happens once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, TypeVar

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from app import openapi
from app.config import Settings
from app.db import Database, now
from app.lifecycle.claim import claim
from app.lifecycle.upkeep import sweep
from app.main import create_app
from app.tables import ApiKey, Attempt, Event, Job, Project
from tests.app.conftest import SPEC, RecordingDoorbell, bearer, make_key, submit
from tests.app.running import WORKER

Value = TypeVar("Value")
AT_ONCE = 6


def together(does: Sequence[Callable[[], Value]]) -> list[Value]:
    """What each returns; all begin at the same moment."""
    begin = threading.Barrier(len(does))

    def do(one: Callable[[], Value]) -> Value:
        begin.wait()
        return one()

    with ThreadPoolExecutor(len(does)) as pool:
        return list(pool.map(do, does))


def test_a_key_sent_from_many_connections_makes_one_job(client: TestClient) -> None:
    def send() -> httpx.Response:
        return client.post("/v1/jobs", json=SPEC, headers={"Idempotency-Key": "once"})

    answers = together([send] * AT_ONCE)
    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: AT_ONCE - 1}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(client.get("/v1/jobs").json()["data"]) == 1


def test_each_job_is_claimed_once(client: TestClient, database: Database) -> None:
    jobs = [submit(client) for _ in range(2 * AT_ONCE)]

    def claim_all() -> list[str]:
        mine = []
        while True:
            with database.transaction() as session:
                lease = claim(session, WORKER, lease_seconds=60)
            if lease is None:
                return mine
            mine.append(lease.job_id)

    claimed = together([claim_all] * AT_ONCE)
    assert sorted(job for mine in claimed for job in mine) == sorted(jobs)


def test_many_upkeep_loops_end_an_attempt_once(client: TestClient, database: Database) -> None:
    jobs = [submit(client) for _ in range(AT_ONCE)]
    with database.transaction() as session:
        for _ in jobs:
            assert claim(session, WORKER, lease_seconds=60) is not None
        session.execute(update(Job).values(lease_expires_at=now(session) - timedelta(seconds=1)))
    ended = together([lambda: sweep(database, max_losses=3)] * AT_ONCE)
    assert sum(ended) == len(jobs)
    with database.reading() as session:
        assert [row.reason for row in session.scalars(select(Attempt))] == ["worker_lost"] * len(jobs)
        for job in session.scalars(select(Job)):
            seen = session.scalars(select(Event.seq).where(Event.job_id == job.id).order_by(Event.seq)).all()
            assert seen == list(range(1, job.last_seq + 1))


def test_many_cancels_and_pauses_leave_a_gapless_log(client: TestClient, database: Database) -> None:
    job_id = submit(client)
    with database.transaction() as session:
        assert claim(session, WORKER, lease_seconds=60) is not None
    asked = ["pause", "cancel"] * (AT_ONCE // 2)
    answers = together([lambda act=act: client.post(f"/v1/jobs/{job_id}/{act}") for act in asked])
    assert {answer.status_code for answer in answers} <= {202, 409}
    seen = client.get(f"/v1/jobs/{job_id}/events").json()["data"]
    assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))
    assert client.get(f"/v1/jobs/{job_id}").json()["status"] == "cancelling"


def test_one_upload_becomes_one_data_set(client: TestClient) -> None:
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "1"}
    place = client.post("/v1/uploads", headers=headers).headers["Location"]
    piece = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    assert client.patch(place, content=b"x", headers=piece).status_code == 204
    body = {"name": "one", "upload": place.rsplit("/", 1)[1]}
    answers = together([lambda: client.post("/v1/datasets", json=body)] * AT_ONCE)
    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: AT_ONCE - 1}
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_the_last_room_of_a_quota_is_given_once(settings: Settings, database: Database) -> None:
    small = settings.model_copy(update={"project_quota_bytes": 100})
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "60"}
    with TestClient(create_app(small, doorbell=RecordingDoorbell()), headers=bearer(make_key(database))) as client:
        answers = together([lambda: client.post("/v1/uploads", headers=headers)] * AT_ONCE)
    assert Counter(answer.status_code for answer in answers) == {201: 1, 413: AT_ONCE - 1}


def test_first_requests_at_one_moment_have_the_description_made_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    making = openapi.get_openapi
    made: list[int] = []

    def slowly(**given: Any) -> dict[str, Any]:
        made.append(1)
        time.sleep(0.2)  # longer than the others take to come
        return making(**given)

    monkeypatch.setattr(openapi, "get_openapi", slowly)
    app = create_app(settings, doorbell=RecordingDoorbell())
    documents = together([app.openapi] * AT_ONCE)
    app.state.services.database.dispose()
    assert made == [1]
    assert all(document is documents[0] for document in documents)


def test_a_project_is_made_once(database: Database) -> None:
    together([lambda: make_key(database, project="new")] * AT_ONCE)
    with database.reading() as session:
        assert session.scalars(select(Project.name)).all() == ["new"]
        assert len(session.scalars(select(ApiKey.id)).all()) == AT_ONCE


def test_two_admins_cannot_revoke_each_other(client: TestClient, database: Database) -> None:
    first = client.get("/v1/api-keys").json()["data"][0]["id"]
    second = client.post("/v1/api-keys", json={"name": "second", "scopes": ["admin"]}).json()
    together(
        [
            lambda: client.delete(f"/v1/api-keys/{second['id']}"),
            lambda: client.delete(f"/v1/api-keys/{first}", headers=bearer(second["key"])),
        ]
    )
    with database.reading() as session:
        assert len(session.scalars(select(ApiKey.id).where(ApiKey.revoked_at.is_(None))).all()) == 1


def test_text_that_no_database_takes_is_refused_at_the_door(client: TestClient) -> None:
    assert client.get("/v1/jobs/job_%00").status_code == 404
    assert client.get("/v1/jobs?q=%00").status_code == 422
    assert client.get("/v1/jobs?metadata[a]=%00").status_code == 422
    for changes, pointer in (
        ({"name": "a\x00b"}, "/name"),
        ({"dataset": {"id": "ds_\x00"}}, "/dataset/id"),
        ({"tags": ["\x00"]}, "/tags/0"),
    ):
        response = client.post("/v1/jobs", json={**SPEC, **changes})
        assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, pointer)
    for body in ({"name": "a\x00", "upload": "upl_1"}, {"name": "a", "upload": "upl_\x00"}):
        assert client.post("/v1/datasets", json=body).status_code == 422
