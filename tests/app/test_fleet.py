"""The register of workers, and what it says of a queue that nobody serves."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from fastapi.testclient import TestClient
from sqlalchemy import select, update

from app.config import Settings
from app.db import Database, now
from app.lifecycle import fleet
from app.tables import Worker
from stillhouse.fleet import WorkerState
from tests.app.conftest import SPEC, RecordingDoorbell, submit
from tests.app.running import claimed

WHO = fleet.Description(
    name="w1",
    host="host",
    pid=7,
    devices=["cpu"],
    memory_bytes=2**30,
    versions={"python": "3.11.7"},
    queues=["default", "large"],
)


def report(
    database: Database, state: WorkerState = "ready", reason: str | None = None, *, newborn: bool = True
) -> None:
    with database.transaction() as session:
        fleet.report(session, WHO, state=state, reason=reason, newborn=newborn)


def silence(database: Database, seconds: float) -> None:
    with database.transaction() as session:
        session.execute(update(Worker).values(heartbeat_at=now(session) - timedelta(seconds=seconds)))


def warnings(client: TestClient, queue: str = "default", gpus: int = 1) -> list[str]:
    resources = {"queue": queue, "gpus": gpus}
    answer = client.post("/v1/jobs?dry_run=true", json={**SPEC, "resources": resources}).json()
    assert answer["admissible"]
    return [sentence for sentence in answer["warnings"] if "the job waits" in sentence]


def test_networks_that_no_worker_has_the_memory_for_are_warned_of(client: TestClient, database: Database) -> None:
    """Of a GiB: with momentum a parameter takes 12 bytes, so 66 million fit and 132 million do not."""

    def said(width: int) -> list[str]:
        layers = [
            {"name": "flatten"},
            *({"name": "linear", "features": features} for features in (width, 65_536)),
            {"name": "linear"},
        ]
        answer = client.post("/v1/jobs?dry_run=true", json={**SPEC, "student": {"layers": layers}}).json()
        return [sentence for sentence in answer["warnings"] if "GiB" in sentence]

    assert said(2_000) == []  # nobody is there yet
    report(database)
    assert said(1_000) == []
    (sentence,) = said(2_000)
    assert sentence.startswith("weights, gradients and the optimizer's state alone take 1.5 GiB, and no live worker")
    assert "more than 1.0 GiB; use smaller networks" in sentence


def test_a_worker_is_listed_with_what_it_runs(client: TestClient, database: Database) -> None:
    report(database)
    submit(client)
    claimed(database)
    (row,) = client.get("/v1/workers").json()["data"]
    assert (row["name"], row["state"], row["live"], row["running"]) == ("w1", "ready", True, 1)
    assert row["id"].startswith("wrk_")
    assert row["queues"] == ["default", "large"]
    report(database, "unfit", "the disk is full", newborn=False)
    (later,) = client.get("/v1/workers").json()["data"]
    assert (later["id"], later["state"], later["reason"]) == (row["id"], "unfit", "the disk is full")
    assert later["started_at"] == row["started_at"]


def test_a_worker_that_comes_back_under_its_name_is_the_same_line(client: TestClient, database: Database) -> None:
    report(database)
    first = client.get("/v1/workers").json()["data"][0]
    report(database)
    (second,) = client.get("/v1/workers").json()["data"]
    assert second["id"] == first["id"]
    assert second["started_at"] > first["started_at"]


def test_a_worker_that_falls_silent_is_not_live_and_then_forgotten(
    client: TestClient, database: Database, settings: Settings
) -> None:
    report(database)
    silence(database, settings.lease_seconds + 1)
    fleet.forget(database, seconds=settings.worker_forget_seconds)
    assert [row["live"] for row in client.get("/v1/workers").json()["data"]] == [False]
    silence(database, settings.worker_forget_seconds + 1)
    fleet.forget(database, seconds=settings.worker_forget_seconds)
    assert client.get("/v1/workers").json()["data"] == []


def test_a_job_for_a_queue_that_nobody_serves_is_taken_with_a_warning(
    client: TestClient, database: Database, doorbell: RecordingDoorbell
) -> None:
    assert "no worker is live" in warnings(client)[0]
    report(database)
    assert warnings(client) == []
    assert warnings(client, "large") == []
    (sentence,) = warnings(client, "elsewhere")
    assert "'elsewhere'" in sentence
    assert "default, large" in sentence
    assert "STILLHOUSE_QUEUES=elsewhere" in sentence
    job = client.post("/v1/jobs", json={**SPEC, "resources": {"queue": "elsewhere"}}).json()
    assert job["warnings"] == [sentence]
    assert doorbell.rung == [job["id"]]
    assert client.get("/v1/jobs").json()["data"][0]["warnings"] == [sentence]
    assert client.post(f"/v1/jobs/{job['id']}/pause").json()["warnings"] == []


def test_a_worker_that_may_take_nothing_is_named(client: TestClient, database: Database) -> None:
    report(database, "unfit", "only 3 MiB free")
    (sentence,) = warnings(client)
    assert "w1 is unfit: only 3 MiB free" in sentence


def test_a_job_that_asks_for_more_devices_than_any_worker_has_says_so(client: TestClient, database: Database) -> None:
    with database.transaction() as session:
        pair = replace(WHO, name="w2", devices=["cuda:0", "cuda:1"], queues=["large"])
        fleet.report(session, pair, state="unfit", reason="GPU 1 fell off the bus", newborn=True)
    report(database)
    assert warnings(client, "large", gpus=1) == []
    (sentence,) = warnings(client, "large", gpus=2)
    assert "w2 is unfit: GPU 1 fell off the bus" in sentence
    (sentence,) = warnings(client, "large", gpus=4)
    assert "no live worker that serves the queue 'large' has 4 devices (w2 has most of them, 2)" in sentence
    jobs = [client.post("/v1/jobs", json={**SPEC, "resources": {"gpus": gpus}}).json() for gpus in (4, 1)]
    assert [len(job["warnings"]) for job in jobs] == [1, 0]
    assert "has 4 devices (w1 has most of them, 1)" in jobs[0]["warnings"][0]
    shown = {row["id"]: row["warnings"] for row in client.get("/v1/jobs").json()["data"]}
    assert shown == {job["id"]: job["warnings"] for job in jobs}


def test_a_worker_that_ends_leaves_the_register(database: Database) -> None:
    report(database)
    with database.transaction() as session:
        fleet.leave(session, "w1")
    with database.reading() as session:
        assert session.scalars(select(Worker)).all() == []
