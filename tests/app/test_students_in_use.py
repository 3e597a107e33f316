"""A job whose student another one begins from, or is taught by, stays until no job that has yet to end names it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from app.auth import Caller
from app.db import Database, now
from app.dependencies import Services
from app.jobs import service
from app.lifecycle import retention
from app.tables import Job, Project
from stillhouse.spec import JobSpec
from tests.app.conftest import LAYERS, SPEC, submit
from tests.app.running import claimed, ended, succeeded


@pytest.fixture
def given(client: TestClient) -> Services:
    return client.app.state.services  # type: ignore[attr-defined,no-any-return]


@pytest.fixture
def student(client: TestClient, database: Database, given: Services) -> str:
    """A job that has succeeded, long ago."""
    job_id = submit(client)
    succeeded(database, given.storage, claimed(database))
    with database.transaction() as session:
        session.execute(update(Job).values(finished_at=now(session) - timedelta(days=31)))
    return job_id


def taught_by(student: str) -> dict[str, object]:
    return {"teacher": [{"layers": LAYERS, "weights": student}, {"layers": LAYERS}]}


def expired(database: Database, given: Services) -> int:
    return retention.expire(database, given.storage, days=30)


@pytest.mark.parametrize("state", ["queued", "running", "paused"])
def test_a_student_that_a_job_needs_is_kept_until_it_has_ended(
    client: TestClient, database: Database, given: Services, student: str, state: str
) -> None:
    user = submit(client, **taught_by(student))
    lease = claimed(database) if state == "running" else None
    if state == "paused":
        assert client.post(f"/v1/jobs/{user}/pause").json()["status"] == "paused"
    refused = client.delete(f"/v1/jobs/{student}")
    assert (refused.status_code, refused.json()["code"]) == (409, "in_use")
    assert user in refused.json()["detail"]
    assert "cancel it first" in refused.json()["detail"]
    assert expired(database, given) == 0
    assert client.get(f"/v1/jobs/{student}").status_code == 200
    if lease is not None:
        ended(database, lease, "bad_dataset")
    else:
        client.post(f"/v1/jobs/{user}/cancel")
    assert client.delete(f"/v1/jobs/{student}").status_code == 204


def test_old_jobs_that_nobody_needs_go_beside_one_that_is_needed(
    client: TestClient, database: Database, given: Services, student: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that is needed is the oldest, and takes nobody's place."""
    monkeypatch.setattr(retention, "_AT_ONCE", 1)
    other = submit(client)
    ended(database, claimed(database), "bad_dataset")
    with database.transaction() as session:
        age = update(Job).where(Job.id == other).values(finished_at=now(session) - timedelta(days=30.5))
        session.execute(age)
    user = submit(client, student={"layers": LAYERS, "weights": student})
    assert expired(database, given) == 1
    assert client.get(f"/v1/jobs/{other}").status_code == 404
    client.post(f"/v1/jobs/{user}/cancel")
    assert expired(database, given) == 1
    assert client.get(f"/v1/jobs/{student}").status_code == 404


@pytest.mark.parametrize("way", ["request", "retention"])
def test_a_student_is_not_deleted_under_a_job_that_is_being_made(
    client: TestClient, database: Database, given: Services, student: str, way: str
) -> None:
    spec = JobSpec.model_validate({**SPEC, **taught_by(student)})
    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as session:
            project = session.scalars(select(Project.id).where(Project.name == "default")).one()
            caller = Caller(key_id="key_1", project_id=project, project="default", scopes=frozenset({"admin"}))
            service.create(session, given, caller, spec, idempotency_key=None)
            job = (expired, database, given) if way == "retention" else (client.delete, f"/v1/jobs/{student}")
            deletion = pool.submit(*job)
            wait([deletion], timeout=0.5)
        answer = deletion.result()
    if way == "retention":
        assert answer == 0
    else:
        assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    assert client.get(f"/v1/jobs/{student}").status_code == 200
