"""Submitting, listing and steering jobs, through HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from app.db import Database
from app.storage import open_storage
from tests.app.conftest import LAYERS, SPEC, RecordingDoorbell, bearer, make_key, submit
from tests.app.running import claimed, ended, succeeded


def test_a_job_is_stored_with_every_default_filled_in(client: TestClient, doorbell: RecordingDoorbell) -> None:
    response = client.post("/v1/jobs", json=SPEC)
    job = response.json()
    assert response.status_code == 201
    assert response.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert job["status"] == "queued"
    assert not job["terminal"]
    assert job["spec"]["method"] == {
        "name": "kd",
        "weight": 1.0,
        "temperature": 4.0,
        "weight_ce": 0.1,
        "weight_kd": 0.9,
        "standardise": False,
    }
    assert job["spec"]["teacher"]["train"]["epochs"] == 2
    assert doorbell.rung == [job["id"]]
    assert client.get(f"/v1/jobs/{job['id']}").json() == job


def test_a_stored_spec_makes_the_same_job_again(client: TestClient) -> None:
    stored = client.post("/v1/jobs", json=SPEC).json()["spec"]
    assert client.post("/v1/jobs", json=stored).json()["spec"] == stored


def test_an_idempotency_key_makes_one_job(client: TestClient) -> None:
    headers = {"Idempotency-Key": "once"}
    first = client.post("/v1/jobs", json=SPEC, headers=headers)
    second = client.post("/v1/jobs", json=SPEC, headers=headers)
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert first.json()["id"] == second.json()["id"]
    assert len(client.get("/v1/jobs").json()["data"]) == 1


def test_an_idempotency_key_with_another_spec_is_refused(client: TestClient) -> None:
    headers = {"Idempotency-Key": "once"}
    client.post("/v1/jobs", json=SPEC, headers=headers)
    response = client.post("/v1/jobs", json={**SPEC, "name": "other"}, headers=headers)
    assert response.status_code == 422
    assert response.json()["code"] == "idempotency_mismatch"


def test_a_dry_run_shows_the_feature_points_and_their_shapes(client: TestClient) -> None:
    spec = {**SPEC, "teacher": {"architecture": "resnet20"}, "student": {"architecture": "resnet8"}}
    body = client.post("/v1/jobs?dry_run=true", json={**spec, "method": {"name": "fitnet"}}).json()
    assert body["feature_points"] == {"student": {"layer2": [32, 4, 4]}, "teacher": {"layer2": [32, 4, 4]}}
    assert client.post("/v1/jobs?dry_run=true", json=spec).json()["feature_points"] == {"student": {}, "teacher": {}}
    layers = [
        {"name": "conv", "channels": 4},
        {"name": "relu"},
        {"name": "residual", "layers": [{"name": "conv", "channels": 6, "stride": 2}, {"name": "batchnorm"}]},
        {"name": "globalpool"},
        {"name": "linear"},
    ]
    spec |= {"student": {"layers": layers}}
    body = client.post("/v1/jobs?dry_run=true", json={**spec, "method": {"name": "rkd"}}).json()
    assert body["feature_points"] == {"student": {"4:input": [6]}, "teacher": {"fc:input": [64]}}
    named = {"name": "at", "student_points": ["1", "2.branch.0"], "teacher_points": ["layer1", "layer2"]}
    body = client.post("/v1/jobs?dry_run=true", json={**spec, "method": named}).json()
    assert body["feature_points"]["student"] == {"1": [4, 8, 8], "2.branch.0": [6, 4, 4]}


def test_a_dry_run_stores_nothing_and_warns(client: TestClient, doorbell: RecordingDoorbell) -> None:
    spec = {**SPEC, "teacher": {"layers": LAYERS}, "student": {"architecture": "resnet8"}}
    answer = client.post("/v1/jobs?dry_run=true", json=spec)
    assert answer.status_code == 200
    body = answer.json()
    assert body["admissible"]
    assert body["estimate"]["student_parameters"] == 77_754
    assert body["estimate"]["seconds"] is None
    assert any("is smaller than its student" in warning for warning in body["warnings"])
    alike = {**spec, "teacher": spec["student"]}
    reborn = {**spec, "training": {"epochs": 1, "generations": 2}}
    for changed in (alike, reborn):
        warnings = client.post("/v1/jobs?dry_run=true", json=changed).json()["warnings"]
        assert not any("larger teacher" in warning for warning in warnings), warnings
    assert client.get("/v1/jobs").json()["data"] == []
    assert doorbell.rung == []


def test_a_dry_run_estimates_time_from_jobs_like_it(
    client: TestClient, database: Database, settings: Settings, tmp_path: Path
) -> None:
    submit(client)
    succeeded(database, open_storage(settings.storage_url), claimed(database))
    body = client.post("/v1/jobs?dry_run=true", json=SPEC).json()
    assert body["estimate"]["seconds"] >= 0


@pytest.mark.parametrize(
    ("changes", "pointer", "words"),
    [
        ({"dataset": {"id": "digit"}}, "/dataset/id", "did you mean digits"),
        ({"teacher": {"architecture": "resnet21"}}, "/teacher/architecture", "resnet20"),
        ({"method": {"name": "kd", "temperature": 0}}, "/method/temperature", "greater than 0"),
        ({"method": {"name": "kd", "alpha": 0.5}}, "/method/alpha", "there is no such field"),
        ({"method": {"name": "nope"}}, "/method", "nothing here is called 'nope'; did you mean none?"),
        ({"training": {"epochs": -1}}, "/training/epochs", "greater than or equal to 1"),
        ({"training": {"epochs": True}}, "/training/epochs", "valid integer"),
        ({"training": {"optimizer": {"name": "sgd", "lr": "fast"}}}, "/training/optimizer/lr", "valid number"),
        ({"student": {"layers": [*LAYERS, {"name": "conv", "channels": 8}]}}, "/student/layers/4", "takes a map"),
        ({"student": {"layers": [{"name": "conv", "channels": 0}]}}, "/student/layers/0/channels", "greater than"),
        ({"student": {"layers": LAYERS[:1]}}, "/student/layers/0", "10 classes"),
        ({"student": {}}, "/student/architecture", "required"),
        ({"dataset": {"id": "digits", "validation": 0.001}}, "/dataset/validation", "without an image"),
        ({"tags": ["ok", "grün"]}, "/tags/1", "'grün' is not made of letters (a to z, A to Z), digits and '._:/-'"),
        ({"metadata": {"a b": "x"}}, "/metadata/a b", "'a b' is not made of letters"),
        ({"resources": {"queue": "a/b"}}, "/resources/queue", "digits, '_' and '-' alone"),
        ({"unknown": 1}, "/unknown", "there is no such field"),
        ({"teacher": None}, "/teacher", "needs a teacher"),
    ],
)
def test_a_bad_field_is_named_by_a_pointer(
    client: TestClient, changes: dict[str, object], pointer: str, words: str
) -> None:
    response = client.post("/v1/jobs", json={**SPEC, **changes})
    assert response.status_code == 422
    assert response.headers["Content-Type"] == "application/problem+json"
    (error, *_) = response.json()["errors"]
    assert error["pointer"] == pointer
    assert words in error["message"]


def test_jobs_are_listed_newest_first_page_by_page(client: TestClient) -> None:
    made = [submit(client, name=f"job {number}") for number in range(5)]
    seen: list[str] = []
    cursor = None
    while True:
        page = client.get("/v1/jobs", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [job["id"] for job in page["data"]]
        cursor = page["next_cursor"]
        if not page["has_more"]:
            break
    assert sorted(seen, reverse=True) == seen
    assert sorted(seen) == sorted(made)


def test_jobs_are_filtered(client: TestClient) -> None:
    one = submit(client, name="alpha", tags=["nightly", "a"], metadata={"git": "1a2b"})
    submit(client, name="beta", tags=["nightly"])
    for query in ("tag=nightly&tag=a", "metadata[git]=1a2b", "q=alph", f"q={one}"):
        assert [job["id"] for job in client.get(f"/v1/jobs?{query}").json()["data"]] == [one], query
    assert len(client.get("/v1/jobs?status=queued&status=failed").json()["data"]) == 2
    assert client.get("/v1/jobs?status=failed").json()["data"] == []
    assert client.get("/v1/jobs", params={"created_after": "2999-01-01T00:00:00Z"}).json()["data"] == []


def test_a_name_is_found_whatever_its_case_and_its_wildcards_are_letters(client: TestClient) -> None:
    apples, half = submit(client, name="Äpfel"), submit(client, name="50%_off")
    for wanted, found in (("äPF", [apples]), ("%_", [half]), ("a%l", [])):
        assert [job["id"] for job in client.get("/v1/jobs", params={"q": wanted}).json()["data"]] == found


def test_a_cursor_of_other_filters_is_refused(client: TestClient) -> None:
    for number in range(2):
        submit(client, name=f"job {number}")
    cursor = client.get("/v1/jobs?limit=1").json()["next_cursor"]
    response = client.get("/v1/jobs", params={"cursor": cursor, "status": "queued"})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_cursor")


def test_a_waiting_job_is_cancelled_at_once_and_stays_so(client: TestClient) -> None:
    job_id = submit(client)
    for _ in range(2):
        response = client.post(f"/v1/jobs/{job_id}/cancel")
        assert (response.status_code, response.json()["status"]) == (200, "cancelled")


def test_a_running_job_is_asked_to_stop_and_its_worker_ends_it(client: TestClient, database: Database) -> None:
    job_id = submit(client)
    lease = claimed(database)
    for _ in range(2):
        response = client.post(f"/v1/jobs/{job_id}/cancel")
        assert (response.status_code, response.json()["status"]) == (202, "cancelling")
    ended(database, lease, "drained")
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["status"], job["status_reason"], job["terminal"]) == ("cancelled", "user_cancelled", True)


def test_a_job_that_has_ended_cannot_be_cancelled_or_paused(client: TestClient, database: Database) -> None:
    job_id = submit(client)
    ended(database, claimed(database), "nan_loss")
    for action in ("cancel", "pause", "resume"):
        response = client.post(f"/v1/jobs/{job_id}/{action}")
        assert (response.status_code, response.json()["code"]) == (409, "invalid_state")


def test_a_job_is_paused_and_resumed(client: TestClient, database: Database, doorbell: RecordingDoorbell) -> None:
    job_id = submit(client)
    lease = claimed(database)
    assert client.post(f"/v1/jobs/{job_id}/pause").status_code == 202
    ended(database, lease, "drained")
    assert client.get(f"/v1/jobs/{job_id}").json()["status"] == "paused"
    assert client.post(f"/v1/jobs/{job_id}/pause").status_code == 200
    resumed = client.post(f"/v1/jobs/{job_id}/resume")
    assert (resumed.status_code, resumed.json()["status"]) == (202, "queued")
    assert doorbell.rung == [job_id, job_id]
    assert claimed(database).attempt == 2


def test_retry_makes_a_new_job_of_one_that_has_ended(client: TestClient, database: Database) -> None:
    job_id = submit(client)
    assert client.post(f"/v1/jobs/{job_id}/retry").status_code == 409
    ended(database, claimed(database), "nan_loss")
    response = client.post(f"/v1/jobs/{job_id}/retry")
    again = response.json()
    assert response.status_code == 201
    assert (again["retry_of"], again["status"]) == (job_id, "queued")
    assert again["spec"] == client.get(f"/v1/jobs/{job_id}").json()["spec"]


def test_a_job_that_has_ended_is_deleted_with_its_files(
    client: TestClient, database: Database, settings: Settings, tmp_path: Path
) -> None:
    job_id = submit(client)
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 409
    storage = open_storage(settings.storage_url)
    succeeded(database, storage, claimed(database))
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert client.get(f"/v1/jobs/{job_id}").status_code == 404
    assert list((tmp_path / "storage" / "jobs").iterdir()) == []


def test_a_key_without_the_scope_may_look_but_not_touch(client: TestClient, database: Database) -> None:
    job_id = submit(client)
    reading = bearer(make_key(database, scopes=("jobs:read",)))
    assert client.get(f"/v1/jobs/{job_id}", headers=reading).status_code == 200
    assert client.post("/v1/jobs", json=SPEC, headers=reading).status_code == 403
    assert client.get("/v1/api-keys", headers=reading).status_code == 403
