"""What a scraper, a log reader and a trace collector see."""

from __future__ import annotations

import json
import logging
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update

from app import logs
from app.config import Settings
from app.db import Database, now
from app.errors import StorageError
from app.main import create_app
from app.queue import Doorbell, create_celery
from app.tables import Job
from tests.app.conftest import RecordingDoorbell, bearer, make_key, submit
from tests.app.running import claimed, ended
from tests.app.test_fleet import report, silence

Figures = dict[str, dict[tuple[str, ...], float]]


def scrape(client: TestClient) -> Figures:
    """By sample name, the values by their labels' values, in the labels' alphabetical order."""
    response = client.get("/v1/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    found: Figures = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def test_the_state_is_counted(client: TestClient, database: Database, settings: Settings) -> None:
    report(database)
    for _ in range(3):
        submit(client)
    lease = claimed(database)
    ended(database, lease, "bad_dataset")
    claimed(database)
    with database.transaction() as session:
        session.execute(update(Job).values(created_at=now(session) - timedelta(minutes=5)))
        past = now(session) + timedelta(seconds=settings.lease_seconds - 20)
        session.execute(update(Job).where(Job.status == "running").values(lease_expires_at=past))
    figures = scrape(client)
    assert figures["stillhouse_jobs"]["distillation", "failed"] == 1
    assert figures["stillhouse_jobs"]["distillation", "running"] == 1
    assert figures["stillhouse_jobs"]["validation", "running"] == 0
    assert figures["stillhouse_queue_jobs"] == {("distillation", "default"): 1, ("distillation", "large"): 0}
    assert 299 < figures["stillhouse_queue_oldest_seconds"]["distillation", "default"] < 330
    assert figures["stillhouse_leases"][()] == 1
    assert 19 < figures["stillhouse_lease_oldest_seconds"][()] < 50
    assert figures["stillhouse_attempts_total"]["user", "distillation", "bad_dataset"] == 1
    assert figures["stillhouse_attempts_total"]["none", "distillation", "succeeded"] == 0
    assert figures["stillhouse_workers"]["ready",] == 1
    silence(database, settings.lease_seconds + 1)
    assert scrape(client)["stillhouse_workers"]["silent",] == 1


def test_a_deleted_job_takes_nothing_from_the_counters(client: TestClient, database: Database) -> None:
    job_id = submit(client)
    ended(database, claimed(database), "bad_dataset")
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    figures = scrape(client)
    assert figures["stillhouse_jobs"]["distillation", "failed"] == 0
    assert figures["stillhouse_attempts_total"]["user", "distillation", "bad_dataset"] == 1


def test_any_process_gives_the_same_state(client: TestClient, settings: Settings, database: Database) -> None:
    submit(client)
    key = bearer(make_key(database, scopes=("metrics:read",)))
    with TestClient(create_app(settings, doorbell=RecordingDoorbell()), headers=key) as second:
        one, other = scrape(client), scrape(second)
    assert one["stillhouse_jobs"] == other["stillhouse_jobs"]


def test_a_scrapers_key_sees_figures_alone(client: TestClient, database: Database) -> None:
    scraper = bearer(make_key(database, scopes=("metrics:read",)))
    assert client.get("/v1/metrics", headers=scraper).status_code == 200
    assert client.get("/v1/jobs", headers=scraper).status_code == 403
    reader = bearer(make_key(database, scopes=("jobs:read",)))
    assert client.get("/v1/metrics", headers=reader).status_code == 403


def test_latencies_are_by_template_and_strangers_make_one_series(client: TestClient) -> None:
    job_id = submit(client)
    client.get(f"/v1/jobs/{job_id}")
    for number in range(3):
        client.get(f"/nothing/{number}")
    counts = scrape(client)["stillhouse_request_seconds_count"]
    assert counts["GET", "/v1/jobs/{job_id}", "200"] == 1
    assert counts["GET", "unmatched", "404"] == 3
    assert counts["POST", "/v1/jobs", "201"] == 1


def test_a_store_that_fails_is_counted(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = client.app.state.services.storage  # type: ignore[attr-defined]
    monkeypatch.setattr(storage, "put", lambda *_args, **_kwargs: refuse())
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "5"}
    upload = client.post("/v1/uploads", headers=tus).headers["Location"]
    piece = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    assert client.patch(upload, headers=piece, content=b"hello").status_code == 507
    assert scrape(client)["stillhouse_store_errors_total"][()] == 1


def test_a_record_carries_the_ids_of_what_it_happened_in(
    client: TestClient, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logs.configure("api", form="json", level=logging.WARNING)
        job_id = submit(client)
        client.get(f"/v1/jobs/{job_id}", headers={"X-Request-ID": "abc-1"})
        with logs.bound(job_id=job_id, attempt=2):
            logging.getLogger("worker").warning("odd %s", "thing")
        try:
            int("why")
        except ValueError:
            logging.getLogger("x").exception("failed")
    finally:
        root.handlers[:], root.level = before[0], before[1]
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    asked = next(line for line in lines if line.get("request_id") == "abc-1")
    assert (asked["route"], asked["status"], asked["job_id"]) == ("/v1/jobs/{job_id}", 200, job_id)
    odd = next(line for line in lines if line["message"] == "odd thing")
    assert (odd["level"], odd["part"], odd["job_id"], odd["attempt"]) == ("warning", "api", job_id, 2)
    assert "ValueError: invalid literal" in lines[-1]["exception"]
    assert "job_id" not in lines[-1]


def refuse() -> None:
    raise StorageError("the store does not answer; check STILLHOUSE_STORAGE_URL")


def test_what_is_down_is_named(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RecordingDoorbell, "complaint", lambda _self: "OperationalError: refused")
    degraded = client.get("/readyz")
    assert degraded.status_code == 200  # jobs are taken, and found by workers that look
    assert degraded.json()["parts"]["broker"] == "OperationalError: refused"
    storage = client.app.state.services.storage  # type: ignore[attr-defined]
    monkeypatch.setattr(storage, "check", refuse)
    down = client.get("/readyz")
    assert down.status_code == 503
    assert "check STILLHOUSE_STORAGE_URL" in down.json()["parts"]["storage"]


def test_a_broker_that_is_gone_is_said(settings: Settings) -> None:
    assert Doorbell(create_celery(settings)).complaint() is None
    away = settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"})
    assert "check STILLHOUSE_BROKER_URL" in str(Doorbell(create_celery(away)).complaint())
