"""Whose turn it is, and how many jobs a project may have."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from app.config import Settings
from app.db import Database
from app.lifecycle import claim as claiming
from app.lifecycle.claim import claim, waiting
from app.lifecycle.lease import Lease
from app.main import create_app
from app.tables import Job, Project
from tests.app.conftest import SPEC, RecordingDoorbell, bearer, make_key, submit
from tests.app.running import WORKER, ended


def limit(database: Database, project: str, **limits: int | None) -> None:
    with database.transaction() as session:
        session.execute(update(Project).where(Project.name == project).values(**limits))


def take(database: Database, running_limit: int | None = None) -> Lease | None:
    with database.transaction() as session:
        return claim(session, replace(WORKER, running_limit=running_limit), lease_seconds=60)


def owner(database: Database, lease: Lease | None) -> str:
    assert lease is not None
    with database.reading() as session:
        return session.get_one(Project, session.get_one(Job, lease.job_id).project_id).name


@pytest.fixture
def other(client: TestClient, database: Database) -> Iterator[TestClient]:
    """A client of a second project."""
    with TestClient(client.app, headers=bearer(make_key(database, project="elsewhere"))) as speaking:
        yield speaking


def test_within_a_priority_the_project_with_the_fewest_running_comes_first(
    client: TestClient, other: TestClient, database: Database
) -> None:
    for _ in range(3):
        submit(client)
    for _ in range(2):
        submit(other)
    owners = [owner(database, take(database)) for _ in range(5)]
    assert owners == ["default", "elsewhere", "default", "elsewhere", "default"]


def test_a_higher_priority_comes_before_a_fair_share(client: TestClient, other: TestClient, database: Database) -> None:
    submit(other)
    for _ in range(2):
        submit(client, resources={"priority": 5})
    assert [owner(database, take(database)) for _ in range(3)] == ["default", "default", "elsewhere"]


def test_a_project_at_its_running_limit_waits_and_others_do_not(
    client: TestClient, other: TestClient, database: Database
) -> None:
    limit(database, "default", running_limit=1)
    for _ in range(2):
        submit(client, resources={"priority": 5})
    first = take(database)
    assert owner(database, first) == "default"
    assert take(database) is None
    with database.reading() as session:
        assert waiting(session, WORKER) is None
    submit(other)
    assert owner(database, take(database)) == "elsewhere"
    assert first is not None
    ended(database, first, "bad_dataset")
    assert owner(database, take(database)) == "default"


def test_a_job_goes_to_a_worker_with_as_many_devices_as_it_asks_for(client: TestClient, database: Database) -> None:
    two = submit(client, resources={"gpus": 2, "priority": 5})
    one, none = submit(client), submit(client, resources={"gpus": 0})
    pair = replace(WORKER, devices=("cuda:0", "cuda:1"))
    taken = [take(database) for _ in range(2)]
    assert [lease.job_id for lease in taken if lease is not None] == [one, none]
    assert take(database) is None
    with database.reading() as session:
        assert (waiting(session, WORKER), waiting(session, pair)) == (None, two)
    with database.transaction() as session:
        lease = claim(session, pair, lease_seconds=60)
    assert lease is not None
    assert lease.job_id == two


def test_a_projects_own_limit_goes_before_the_installations(client: TestClient, database: Database) -> None:
    for _ in range(3):
        submit(client)
    assert take(database, running_limit=1) is not None
    assert take(database, running_limit=1) is None
    limit(database, "default", running_limit=2)
    assert take(database, running_limit=1) is not None
    assert take(database, running_limit=1) is None


def test_two_claims_at_one_moment_do_not_pass_the_limit_together(
    client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the second look is for: the statement chose before the other claim was seen. On SQLite that cannot happen,
    so the statement is made blind here."""
    limit(database, "default", running_limit=1)
    for _ in range(2):
        submit(client)
    assert take(database) is not None
    seeing = claiming._best
    monkeypatch.setattr(claiming, "_best", lambda session, worker: _blind(seeing(session, worker)))
    assert take(database) is None
    monkeypatch.undo()
    with database.reading() as session:
        statuses = sorted(job.status for job in session.query(Job))
        assert statuses == ["queued", "running"]
        assert {job.attempt for job in session.query(Job) if job.status == "queued"} == {0}


def _blind(_statement: object) -> object:
    return select(Job.id).where(Job.status == "queued").limit(1)


def test_of_claims_at_one_moment_as_many_win_as_may_run(client: TestClient, database: Database) -> None:
    for allowed in (1, 2):
        for _ in range(5):
            submit(client)
        limit(database, "default", running_limit=allowed)
        with ThreadPoolExecutor(5) as pool:
            leases = [lease for lease in pool.map(lambda _: take(database), range(5)) if lease is not None]
        assert 1 <= len(leases) <= allowed
        for lease in leases:
            ended(database, lease, "bad_dataset")


def test_more_than_may_wait_are_refused_with_a_remedy(client: TestClient, database: Database) -> None:
    limit(database, "default", waiting_limit=2)
    first = submit(client)
    headers = {"Idempotency-Key": "k"}
    second = client.post("/v1/jobs", json=SPEC, headers=headers)
    assert second.status_code == 201
    client.post(f"/v1/jobs/{first}/pause")
    refused = client.post("/v1/jobs", json=SPEC)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_jobs")
    assert "2 jobs waiting of 2" in refused.json()["detail"]
    assert "cancel" in refused.json()["detail"]
    assert refused.json()["detail"] in client.post("/v1/jobs?dry_run=true", json=SPEC).json()["warnings"]
    assert client.post("/v1/jobs", json=SPEC, headers=headers).status_code == 200  # a replay makes nothing new
    client.post(f"/v1/jobs/{first}/cancel")
    assert client.post(f"/v1/jobs/{first}/retry").status_code == 201
    assert client.post(f"/v1/jobs/{first}/retry").status_code == 429


def test_a_project_that_may_run_nothing_is_told_so(
    tmp_path: Path, settings: Settings, database: Database, doorbell: RecordingDoorbell
) -> None:
    none = settings.model_copy(update={"project_running_limit": 0})
    with TestClient(create_app(none, doorbell=doorbell), headers=bearer(make_key(database))) as client:
        answer = client.post("/v1/jobs?dry_run=true", json=SPEC).json()
        assert not answer["admissible"]
        assert any("may run no job" in sentence for sentence in answer["warnings"])
        submit(client)
        assert take(database, running_limit=0) is None
        limit(database, "default", running_limit=1)
        assert client.post("/v1/jobs?dry_run=true", json=SPEC).json()["admissible"]
