"""Data sets and models: made of an upload, looked at by a worker, used by jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from app.db import Database
from app.lifecycle.claim import Worker, claim
from app.lifecycle.lease import Lease, LeaseLost, held
from app.lifecycle.settle import end
from app.lifecycle.upkeep import release
from app.lifecycle.uploads import folder
from app.lifecycle.validation import conclude
from app.storage import open_storage
from app.tables import Upload
from tests.app.conftest import SPEC, submit
from tests.app.running import claimed
from tests.app.test_uploads import begin, content, uploaded

VALIDATOR = Worker(name="w1", host="host", devices=("cpu",), queues=("default",), kind="validation")
FACTS = {
    "classes": ["ants", "bees"],
    "shape": [3, 16, 16],
    "splits": {"train": 200, "test": 40},
    "mean": [0.5, 0.5, 0.5],
    "std": [0.2, 0.2, 0.2],
    "sha256": "0" * 64,
    "smallest_class": 100,
}
MODEL = {"architecture": "resnet8", "classes": ["a", "b"], "mean": [0.5], "std": [0.5], "input_size": 32}
Validated = Callable[..., str]


def make(client: TestClient, data: bytes = b"data") -> str:
    response = client.post("/v1/datasets", json={"name": "mine", "upload": uploaded(client, data)})
    assert response.status_code == 201, response.text
    assert response.headers["Location"] == f"/v1/datasets/{response.json()['id']}"
    return str(response.json()["id"])


def taken(database: Database) -> Lease:
    with database.transaction() as session:
        lease = claim(session, VALIDATOR, lease_seconds=60)
    assert lease is not None
    return lease


def judge(database: Database, lease: Lease, facts: dict[str, Any] | None, **report: Any) -> None:
    with database.transaction() as session:
        files = {"data.safetensors": {"key": "datasets/x/data.safetensors", "bytes": 7, "sha256": "1" * 64}}
        conclude(
            session,
            held(session, lease),
            report=report,
            facts=facts,
            files=files if facts is not None else {},
            max_losses=3,
        )


@pytest.fixture
def ready(client: TestClient, database: Database) -> Validated:
    def validated(**changes: Any) -> str:
        dataset = make(client)
        judge(database, taken(database), {**FACTS, **changes})
        return dataset

    return validated


def state(client: TestClient, dataset: str) -> str:
    return str(client.get(f"/v1/datasets/{dataset}").json()["state"])


def test_a_data_set_goes_from_pending_to_ready(client: TestClient, database: Database) -> None:
    dataset = make(client)
    assert state(client, dataset) == "pending"
    lease = taken(database)
    assert state(client, dataset) == "validating"
    judge(database, lease, FACTS, notes=["fine"])
    shown = client.get(f"/v1/datasets/{dataset}").json()
    assert (shown["state"], shown["classes"], shown["shape"]) == ("ready", ["ants", "bees"], [3, 16, 16])
    assert (shown["splits"], shown["bytes"], shown["report"]) == (FACTS["splits"], 7, {"notes": ["fine"]})
    assert client.get("/v1/datasets").json()["data"] == [shown]
    with database.reading() as session:
        assert session.query(Upload).count() == 0


def test_a_rejected_one_says_why(client: TestClient, database: Database) -> None:
    dataset = make(client)
    judge(database, taken(database), None, problems=["it has one class"])
    shown = client.get(f"/v1/datasets/{dataset}").json()
    assert (shown["state"], shown["report"], shown["classes"]) == ("rejected", {"problems": ["it has one class"]}, None)


def test_the_same_upload_again_gives_the_same_data_set(client: TestClient) -> None:
    upload = uploaded(client, b"data")
    first = client.post("/v1/datasets", json={"name": "mine", "upload": upload})
    second = client.post("/v1/datasets", json={"name": "other", "upload": upload})
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    elsewhere = client.post("/v1/models", json={"name": "m", "upload": upload, **MODEL})
    assert (elsewhere.status_code, elsewhere.json()["errors"][0]["pointer"]) == (422, "/upload")


def test_only_a_whole_upload_of_the_project_becomes_something(client: TestClient, stranger: dict[str, str]) -> None:
    half, whole = begin(client, 10), uploaded(client, b"data")
    for upload, headers in ((half, {}), ("upl_nothing", {}), ("../x", {}), (whole, stranger)):
        response = client.post("/v1/datasets", json={"name": "x", "upload": upload}, headers=headers)
        assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/upload"), upload


def test_an_upload_in_use_takes_no_more(client: TestClient) -> None:
    upload = uploaded(client, b"data")
    client.post("/v1/datasets", json={"name": "mine", "upload": upload})
    assert client.delete(f"/v1/uploads/{upload}", headers={"Tus-Resumable": "1.0.0"}).status_code == 409


def test_a_lost_validation_is_done_again_and_the_old_one_writes_nothing(client: TestClient, database: Database) -> None:
    """kill -9 of the worker: its lease is ended, another claims, and what the first still says is fenced off."""
    dataset = make(client)
    first = taken(database)
    release(database, owner="w1", max_losses=3)
    assert state(client, dataset) == "pending"
    second = taken(database)
    with pytest.raises(LeaseLost):
        judge(database, first, None, problems=["late"])
    judge(database, second, FACTS)
    with pytest.raises(LeaseLost):
        judge(database, first, None, problems=["late"])
    assert state(client, dataset) == "ready"
    with database.transaction() as session:
        assert claim(session, VALIDATOR, lease_seconds=60) is None


def test_a_validation_that_kills_its_child_three_times_is_rejected_as_poison(
    client: TestClient, database: Database
) -> None:
    dataset = make(client)
    for _ in range(3):
        with database.transaction() as session:
            session.connection().exec_driver_sql("UPDATE jobs SET not_before = NULL")
        lease = taken(database)
        with database.transaction() as session:
            end(session, held(session, lease), reason="worker_lost", detail="signal 11 (SIGSEGV)", max_losses=3)
    shown = client.get(f"/v1/datasets/{dataset}").json()
    assert shown["state"] == "rejected"
    assert "poison" in shown["report"]["problems"][0]
    assert "SIGSEGV" in shown["report"]["problems"][0]


def test_a_validation_is_no_job_that_people_see(client: TestClient, database: Database) -> None:
    make(client)
    lease = taken(database)
    assert client.get("/v1/jobs").json()["data"] == []
    for path in ("", "/events", "/logs", "/attempts"):
        assert client.get(f"/v1/jobs/{lease.job_id}{path}").status_code == 404
    assert client.post(f"/v1/jobs/{lease.job_id}/cancel").status_code == 404
    job = submit(client)
    assert claimed(database).job_id == job  # and a job is no validation


def test_deleting_drops_validation_files_and_upload(client: TestClient, database: Database, settings: Settings) -> None:
    dataset = make(client)
    storage = open_storage(settings.storage_url)
    upload = client.get(f"/v1/datasets/{dataset}").json()["upload"]
    assert content(database, settings, upload) == b"data"
    lease = taken(database)
    assert client.delete(f"/v1/datasets/{dataset}").status_code == 204
    assert list(storage.find(folder(upload))) == []
    with pytest.raises(LeaseLost):
        judge(database, lease, FACTS)
    assert client.get(f"/v1/datasets/{dataset}").status_code == 404


def test_data_sets_belong_to_their_project(client: TestClient, ready: Validated, stranger: dict[str, str]) -> None:
    dataset = ready()
    assert client.get("/v1/datasets", headers=stranger).json()["data"] == []
    assert client.get(f"/v1/datasets/{dataset}", headers=stranger).status_code == 404
    assert client.delete(f"/v1/datasets/{dataset}", headers=stranger).status_code == 404
    response = client.post("/v1/jobs", json={**SPEC, "dataset": {"id": dataset}}, headers=stranger)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/dataset/id")


def test_lists_have_pages(client: TestClient) -> None:
    made = [make(client, b"data") for _ in range(3)]
    first = client.get("/v1/datasets?limit=2").json()
    assert ([row["id"] for row in first["data"]], first["has_more"]) == (made[:0:-1], True)
    second = client.get("/v1/datasets", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert ([row["id"] for row in second["data"]], second["has_more"]) == (made[:1], False)
    assert client.get("/v1/datasets?cursor=nonsense").json()["code"] == "invalid_cursor"


def test_a_job_names_a_ready_data_set(client: TestClient, ready: Validated) -> None:
    dataset = ready()
    job = client.post("/v1/jobs", json={**SPEC, "dataset": {"id": dataset, "input_size": 32}})
    assert job.status_code == 201, job.text
    assert job.json()["spec"]["dataset"] == {"id": dataset, "validation": 0.1, "input_size": 32}
    used = client.delete(f"/v1/datasets/{dataset}")
    assert (used.status_code, used.json()["code"]) == (409, "in_use")
    client.post(f"/v1/jobs/{job.json()['id']}/cancel")
    assert client.delete(f"/v1/datasets/{dataset}").status_code == 204
    again = client.post(f"/v1/jobs/{job.json()['id']}/retry")
    assert (again.status_code, again.json()["errors"][0]["pointer"]) == (422, "/dataset/id")


def test_a_job_is_held_against_the_uploaded_sets_shape(client: TestClient, ready: Validated) -> None:
    dataset = ready(shape=[3, 6, 6], smallest_class=4)
    spec = {**SPEC, "student": {"architecture": "lenet5"}, "dataset": {"id": dataset}}
    response = client.post("/v1/jobs", json=spec)
    pointers = {error["pointer"]: error["message"] for error in response.json()["errors"]}
    assert set(pointers) == {"/student/architecture", "/dataset/validation"}
    assert "takes images of at least 8x8, not 6x6" in pointers["/student/architecture"]
    assert "takes 0 of the 4 images of a class" in pointers["/dataset/validation"]
    larger = client.post(
        "/v1/jobs?dry_run=true", json={**spec, "dataset": {"id": dataset, "input_size": 12, "validation": 0}}
    )
    assert larger.status_code == 200, larger.text
    assert "input_size 12 enlarges images of 6x6" in larger.json()["warnings"]
    assert larger.json()["estimate"]["student_parameters"] is None


@pytest.mark.parametrize("finished", [False, True])
def test_a_job_with_a_set_that_is_not_ready_is_refused(
    client: TestClient, database: Database, *, finished: bool
) -> None:
    dataset = make(client)
    if finished:
        judge(database, taken(database), None, problems=["no"])
    for query in ("", "?dry_run=true"):
        response = client.post(f"/v1/jobs{query}", json={**SPEC, "dataset": {"id": dataset}})
        assert response.status_code == 422
        assert response.json()["errors"][0]["pointer"] == "/dataset/id"
        assert ("rejected" if finished else "pending") in response.json()["detail"]


def test_models_are_declared_and_validated_alike(client: TestClient, database: Database) -> None:
    response = client.post("/v1/models", json={"name": "m", "upload": uploaded(client, b"weights"), **MODEL})
    assert response.status_code == 201, response.text
    model = response.json()["id"]
    facts = {"input": {"shape": [1, 32, 32], "mean": [0.5], "std": [0.5]}, "parameters": 10}
    with database.transaction() as session:
        lease = claim(session, VALIDATOR, lease_seconds=60)
        assert lease is not None
        files = {"model.safetensors": {"key": "models/x", "bytes": 9, "sha256": "2" * 64}}
        conclude(session, held(session, lease), report={}, facts=facts, files=files, max_losses=3)
    shown = client.get(f"/v1/models/{model}").json()
    assert (shown["state"], shown["sha256"], shown["parameters"]) == ("ready", "2" * 64, 10)
    assert client.get("/v1/models").json()["data"] == [shown]
    assert client.delete(f"/v1/models/{model}").status_code == 204


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"classes": ["a"]}, "/classes"),
        ({"classes": ["a", "a"]}, ""),
        ({"std": [0.5, 0.5]}, ""),
        ({"std": [0.0]}, "/std/0"),
        ({"input_size": 0}, "/input_size"),
        ({"weights": "x"}, "/weights"),
    ],
)
def test_a_model_is_declared_in_full(client: TestClient, changes: dict[str, Any], pointer: str) -> None:
    response = client.post("/v1/models", json={"name": "m", "upload": "upl_x", **MODEL, **changes})
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, pointer)


LOGITS = {"architecture": "logits", "classes": [str(number) for number in range(10)]}


@pytest.fixture
def rows(client: TestClient, database: Database) -> Validated:
    """A file of logits that a worker has looked at."""

    def validated(*, named: bool = False, **counts: int) -> str:
        response = client.post("/v1/models", json={"name": "m", "upload": uploaded(client, b"rows"), **LOGITS})
        assert response.status_code == 201, response.text
        facts = {**LOGITS, "rows": {"train": 1797, **counts}, "kind": "logits", "parameters": None, "named": named}
        files = {"model.safetensors": {"key": "models/x", "bytes": 9, "sha256": "2" * 64}}
        with database.transaction() as session:
            lease = claim(session, VALIDATOR, lease_seconds=60)
            assert lease is not None
            conclude(session, held(session, lease), report={}, facts=facts, files=files, max_losses=3)
        return str(response.json()["id"])

    return validated


def test_a_file_of_logits_is_a_model_and_a_teacher(client: TestClient, rows: Validated) -> None:
    model = rows()
    shown = client.get(f"/v1/models/{model}").json()
    assert (shown["rows"], shown["parameters"], shown["input"]) == ({"train": 1797}, None, None)
    spec = {**SPEC, "teacher": {"architecture": "logits", "weights": model}}
    answer = client.post("/v1/jobs?dry_run=true", json=spec).json()
    assert answer["spec"]["teacher"]["train"] is None
    assert answer["estimate"]["teacher_parameters"] is None
    assert not any("same view" in warning for warning in answer["warnings"])
    training = {**SPEC["training"], "augmentation": "crop"}
    warned = client.post("/v1/jobs?dry_run=true", json={**spec, "training": training}).json()
    assert any("the student will see crop of them" in warning for warning in warned["warnings"])


def test_rows_with_names_may_be_more_than_the_images_and_not_fewer(client: TestClient, rows: Validated) -> None:
    for count, status in ((1800, 200), (1797, 200), (1796, 422)):
        spec = {**SPEC, "teacher": {"architecture": "logits", "weights": rows(train=count, named=True)}}
        assert client.post("/v1/jobs?dry_run=true", json=spec).status_code == status


@pytest.mark.parametrize(
    ("counts", "changes", "pointer", "said"),
    [
        ({"train": 1617}, {}, "/teacher/weights", "1,617 rows for train, and digits 1,797 train images"),
        ({"test": 10}, {}, "/teacher/weights", "10 rows for test, and digits no test split"),
        ({}, {"method": {"name": "at"}}, "/method/name", "a file has none"),
        ({}, {"method": {"name": "patient"}}, "/method/name", "set mixup: false"),
        ({}, {"method": [{"name": "kd"}, {"name": "fitnet"}]}, "/method/1/name", "a file has none"),
        ({}, {"teacher": {"train": {"epochs": 1}}}, "/teacher/train", "cannot be trained further"),
        ({}, {"teacher": {"input_size": 32}}, "/teacher/input_size", "used as it is"),
        ({}, {"teacher": {"weights": "job_1"}}, "/teacher/weights", "an uploaded model"),
    ],
)
def test_what_a_file_of_logits_cannot_do_is_refused_by_its_place(
    client: TestClient, rows: Validated, counts: dict[str, int], changes: dict[str, Any], pointer: str, said: str
) -> None:
    teacher = {"architecture": "logits", "weights": rows(**counts), **changes.get("teacher", {})}
    response = client.post("/v1/jobs", json={**SPEC, **changes, "teacher": teacher})
    assert response.status_code == 422
    *_, error = response.json()["errors"]  # a student of layers may lack the points that a method reads, too
    assert error["pointer"] == pointer
    assert said in error["message"]


def test_a_file_of_logits_teaches_among_others_and_does_not_learn(client: TestClient, rows: Validated) -> None:
    file = {"architecture": "logits", "weights": rows(), "weight": 2.0}
    among = {**SPEC, "teacher": [{"architecture": "resnet8"}, file]}
    answer = client.post("/v1/jobs?dry_run=true", json=among)
    assert (answer.status_code, answer.json()["spec"]["teacher"][1]["weight"]) == (200, 2.0)
    assert answer.json()["estimate"]["teacher_parameters"] is None
    short = {"architecture": "logits", "weights": rows(train=1617)}
    refused = client.post("/v1/jobs", json={**among, "teacher": [file, short]}).json()
    assert refused["errors"][0]["pointer"] == "/teacher/1/weights"
    learns = client.post("/v1/jobs", json={**SPEC, "student": short})
    assert "cannot be a student" in learns.json()["detail"]


def test_a_file_of_logits_is_shown_no_images(client: TestClient) -> None:
    given = {"name": "m", "upload": "upl_x", **LOGITS, "mean": [0.5]}
    response = client.post("/v1/models", json=given)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/mean")
    without = {name: value for name, value in MODEL.items() if name != "std"}
    response = client.post("/v1/models", json={"name": "m", "upload": "upl_x", **without})
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/std")


def test_an_onnx_model_is_shown_with_its_digest(client: TestClient, database: Database) -> None:
    declared = {**MODEL, "architecture": "onnx"}
    model = client.post("/v1/models", json={"name": "m", "upload": uploaded(client, b"x"), **declared}).json()["id"]
    with database.transaction() as session:
        lease = claim(session, VALIDATOR, lease_seconds=60)
        assert lease is not None
        files = {
            name: {"key": "k", "bytes": 1, "sha256": digit * 64}
            for name, digit in (("model.json", "1"), ("model.onnx", "2"))
        }
        conclude(session, held(session, lease), report={}, facts={"architecture": "onnx"}, files=files, max_losses=3)
    assert client.get(f"/v1/models/{model}").json()["sha256"] == "2" * 64
