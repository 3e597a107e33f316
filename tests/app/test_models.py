"""Models: what may be asked of one when it is made."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from app.db import Database
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
