"""Models: what may be asked of one when it is made."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from app.db import Database
from app.lifecycle.lease import held
from app.lifecycle.validation import conclude
from app.storage import open_storage
from tests.app.conftest import SPEC, submit
from tests.app.running import claimed, succeeded
from tests.app.test_assets import FACTS, MODEL, judge, make, taken
from tests.app.test_uploads import uploaded


def asked(client: TestClient, dataset: str, **changes: object) -> tuple[int, str]:
    """The status, and what is said of /dataset."""
    body = {"name": "m", "upload": uploaded(client, b"weights"), **MODEL, "dataset": dataset, **changes}
    response = client.post("/v1/models", json=body)
    if response.status_code == 201:
        return 201, ""
    (error,) = response.json()["errors"]
    assert error["pointer"] == "/dataset"
    return response.status_code, str(error["message"])


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ("digit", "did you mean digits?"),
        ("digits", "digits has 10 classes and the model 2"),
        ("ds_nothing", "there is no data set ds_nothing in this project"),
        ("", "at least 1 character"),
    ],
)
def test_a_set_that_accuracy_cannot_be_measured_on_is_named_at_once(
    client: TestClient, dataset: str, words: str
) -> None:
    status, message = asked(client, dataset)
    assert status == 422
    assert words in message


def test_an_uploaded_set_must_be_ready_and_of_the_project(
    client: TestClient, stranger: dict[str, str], database: Database
) -> None:
    dataset = make(client)
    assert asked(client, dataset) == (422, f"{dataset} is pending; accuracy can be measured on a set that is ready")
    judge(database, taken(database), FACTS)
    assert asked(client, dataset) == (201, "")
    assert asked(client, "digits", classes=list("0123456789")) == (201, "")
    assert asked(client, dataset, classes=["a", "b", "c"])[0] == 422
    client.headers.update(stranger)
    assert asked(client, dataset) == (422, f"there is no data set {dataset} in this project; see /v1/datasets")


@pytest.fixture
def two_classes(client: TestClient, database: Database) -> str:
    """A model that a worker has looked at."""
    response = client.post("/v1/models", json={"name": "m", "upload": uploaded(client, b"weights"), **MODEL})
    files = {"model.safetensors": {"key": "models/x", "bytes": 9, "sha256": "2" * 64}}
    facts = {"architecture": MODEL["architecture"], "classes": MODEL["classes"]}
    lease = taken(database)
    with database.transaction() as session:
        conclude(session, held(session, lease), report={}, facts=facts, files=files, max_losses=3)
    return str(response.json()["id"])


def refused(client: TestClient, **changes: Any) -> list[tuple[str, str]]:
    """Pointers and messages; of a dry run and of a submission, which say the same."""
    dry, real = (client.post(path, json={**SPEC, **changes}) for path in ("/v1/jobs?dry_run=true", "/v1/jobs"))
    said = [[(each["pointer"], each["message"]) for each in found.json().get("errors", [])] for found in (dry, real)]
    assert said[0] == said[1]
    return said[0]


def test_a_teacher_of_other_classes_is_refused_with_the_spec_unless_it_is_fine_tuned(
    client: TestClient, two_classes: str
) -> None:
    teacher = {"architecture": "resnet8", "weights": two_classes}
    ((pointer, message),) = refused(client, teacher=teacher)
    assert pointer == "/teacher/weights"
    assert message.startswith(f"{two_classes} tells 2 classes apart, and digits has 10; give the teacher train:")
    assert refused(client, teacher={**teacher, "train": {"epochs": 1}}) == []
    assert refused(client, student=teacher) == []  # which gets a last layer of its own
    ((pointer, _),) = refused(client, teacher=[{"architecture": "resnet8"}, teacher])
    assert pointer == "/teacher/1/weights"


def test_published_weights_without_training_are_refused_where_they_cannot_fit(client: TestClient) -> None:
    published = {"architecture": "torchvision/resnet18", "weights": "pretrained", "input_size": 64}
    ((pointer, message),) = refused(client, teacher=published)
    assert (pointer, "as few as 10 classes" in message, "train: {epochs" in message) == ("/teacher/weights", True, True)
    assert refused(client, teacher={**published, "train": {"epochs": 1}}, student=published) == []


def test_another_jobs_student_of_other_classes_is_refused_too(
    client: TestClient, database: Database, settings: Settings
) -> None:
    job = submit(client)
    succeeded(database, open_storage(settings.storage_url), claimed(database))
    teacher = {**SPEC["student"], "weights": job}
    assert refused(client, teacher=teacher) == []
    ((pointer, message),) = refused(client, teacher=teacher, dataset={"id": "cifar100"})
    assert (pointer, f"{job} tells 10 classes apart, and cifar100 has 100" in message) == ("/teacher/weights", True)
