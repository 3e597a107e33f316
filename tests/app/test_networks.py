"""What a spec may say of its networks: names by the thousand, stems, sizes, and weights from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from app.db import Database
from app.storage import open_storage
from stillhouse.spec import JobSpec
from tests.app.conftest import LAYERS, SPEC, submit
from tests.app.running import claimed, succeeded

pytestmark = pytest.mark.parametrize("settings", ["embedded"], indirect=True)
"""What is checked here never reaches a database."""


@pytest.mark.parametrize(
    ("changes", "pointer", "words"),
    [
        ({"teacher": {"architecture": "resnet18"}}, "/teacher/architecture", "did you mean"),
        ({"teacher": {"architecture": "zzzzz"}}, "/teacher/architecture", "see the catalog for the 1,"),
        ({"teacher": {"architecture": "torchvision/alexnet"}}, "/teacher/architecture", "at least 64x64, not 8x8"),
        (
            {"teacher": {"architecture": "torchvision/alexnet", "input_size": 32}},
            "/teacher/input_size",
            "at least 64x64, not 32x32",
        ),
        (
            {"teacher": {"architecture": "torchvision/vit_b_16", "input_size": 64}},
            "/teacher/input_size",
            "takes images of 224 only",
        ),
        ({"student": {"architecture": "resnet8", "stem": "small"}}, "/student/stem", "leave stem out"),
        ({"teacher": {"architecture": "resnet20", "weights": "pretrained"}}, "/teacher/weights", "no pretrained"),
        (
            {"teacher": {"architecture": "torchvision/resnet18", "weights": "pretrained", "stem": "small"}},
            "/teacher/stem",
            "standard stem",
        ),
        (
            {"teacher": {"architecture": "timm/resnet50.a1in1k", "weights": "pretrained"}},
            "/teacher/architecture",
            "timm/resnet50 has no weights tagged .a1in1k; did you mean timm/resnet50.a1_in1k",
        ),
        (
            {"student": {"architecture": "timm/resnet18.a1_in1k"}},
            "/student/architecture",
            "add weights: pretrained, or write timm/resnet18",
        ),
        (
            {"student": {"architecture": "timm/resnet18.a1_in1k", "weights": "job_1"}},
            "/student/architecture",
            "the tag .a1_in1k chooses pretrained weights",
        ),
        (
            {"teacher": {"architecture": "timm/resnet17.a1_in1k", "weights": "pretrained"}},
            "/teacher/architecture",
            "no architecture is called 'timm/resnet17.a1_in1k'; did you mean timm/resnet1",
        ),
        ({"student": {"architecture": "timm/resnet50t", "weights": "pretrained"}}, "/student/weights", "no pretrained"),
        ({"teacher": {"layers": LAYERS, "weights": "pretrained"}}, "/teacher", "no pretrained weights"),
        ({"teacher": {"architecture": "resnet20", "weights": "/etc/passwd"}}, "/teacher/weights", "pattern"),
        ({"teacher": {"architecture": "resnet20", "weights": "mdl_1"}}, "/teacher/weights", "no model mdl_1"),
        ({"teacher": {"architecture": "onnx"}}, "/teacher/weights", "an ONNX file as a teacher is an uploaded model"),
        (
            {"teacher": {"architecture": "onnx", "weights": "mdl_1", "train": {"epochs": 1}}},
            "/teacher/train",
            "cannot be trained further",
        ),
        ({"student": {"architecture": "onnx", "weights": "mdl_1"}}, "/student/architecture", "cannot be a student"),
        ({"student": {"architecture": "resnet8", "weights": "job_1"}}, "/student/weights", "no job job_1"),
    ],
)
def test_a_network_that_cannot_be_is_named_by_a_pointer(
    client: TestClient, changes: dict[str, object], pointer: str, words: str
) -> None:
    for path in ("/v1/jobs", "/v1/jobs?dry_run=true"):
        response = client.post(path, json={**SPEC, **changes})
        assert response.status_code == 422
        assert len(response.content) < 2000
        (error, *_) = response.json()["errors"]
        assert error["pointer"] == pointer
        assert words in error["message"]


def test_figures_come_for_any_number_of_classes_or_are_null_with_a_warning(client: TestClient) -> None:
    teacher = {"architecture": "torchvision/resnet18", "input_size": 224}
    answer = client.post("/v1/jobs?dry_run=true", json={**SPEC, "teacher": teacher}).json()
    assert answer["estimate"]["teacher_parameters"] == 11_175_370  # of one channel and ten classes
    assert answer["estimate"]["teacher_flops"] == 3_391_094_784 + 10 * 1024 + 78_675_968
    answer = client.post("/v1/jobs?dry_run=true", json={**SPEC, "teacher": {**teacher, "input_size": 40}}).json()
    assert answer["estimate"]["teacher_flops"] is None
    assert any(
        "does not tell flops of torchvision/resnet18 on images of 1x40x40" in each for each in answer["warnings"]
    )


def test_a_teacher_with_weights_is_not_trained_unless_asked(client: TestClient) -> None:
    teacher = {"architecture": "torchvision/resnet18", "weights": "pretrained"}
    given = JobSpec.model_validate({**SPEC, "teacher": teacher}).complete()
    assert given.teachers[0].train is None
    teacher["train"] = {"epochs": 3}  # type: ignore[assignment]
    spec = client.post("/v1/jobs?dry_run=true", json={**SPEC, "teacher": teacher}).json()["spec"]
    assert spec["teacher"]["train"]["epochs"] == 3
    assert spec["teacher"]["train"]["batch_size"] == 64
    spec = client.post("/v1/jobs?dry_run=true", json=SPEC).json()["spec"]
    assert spec["teacher"]["train"]["epochs"] == 2


def test_a_tag_chooses_pretrained_weights_and_their_size(client: TestClient) -> None:
    """Of resnet50's weights some were made for 176 pixels; the figures for 224 are not theirs."""
    asked: dict[str, Any] = {"architecture": "timm/resnet50.a1h_in1k", "weights": "pretrained", "train": {"epochs": 1}}
    answer = client.post("/v1/jobs?dry_run=true", json={**SPEC, "teacher": asked}).json()
    assert answer["spec"]["teacher"]["architecture"] == "timm/resnet50.a1h_in1k"
    assert answer["estimate"]["teacher_parameters"] == 23_498_624 + 10 * 2049 + 3 * 3136
    assert any("timm/resnet50 on images of 3x176x176" in each for each in answer["warnings"])
    asked["architecture"] = "timm/resnet50.a1_in1k"
    answer = client.post("/v1/jobs?dry_run=true", json={**SPEC, "teacher": asked}).json()
    assert answer["estimate"]["teacher_flops"] is not None


def test_another_jobs_student_can_be_named_once_it_has_succeeded(
    client: TestClient, stranger: dict[str, str], database: Database, settings: Settings, tmp_path: Path
) -> None:
    job_id = submit(client)
    wanted = {**SPEC, "teacher": {"layers": LAYERS, "weights": job_id}}

    def refused(spec: dict[str, object], words: str, **headers: str) -> None:
        response = client.post("/v1/jobs", json=spec, headers=headers)
        assert response.status_code == 422
        assert words in response.json()["errors"][0]["message"]
        assert response.json()["errors"][0]["pointer"] == "/teacher/weights"

    refused(wanted, "is queued; its student can be used once it has succeeded")
    succeeded(database, open_storage(settings.storage_url), claimed(database))
    refused(wanted, "there is no job", **stranger)
    other = {"architecture": "resnet8", "weights": job_id}
    refused({**SPEC, "teacher": other}, "is a list of 4 layers; give this network the same architecture")
    assert client.post("/v1/jobs", json=wanted).status_code == 201


def test_a_student_of_simkd_is_given_no_second_classifier(
    client: TestClient, database: Database, settings: Settings
) -> None:
    simkd = [{"name": "simkd"}, {"name": "kd", "weight_ce": 0.0}]
    job_id = submit(client, method=simkd, student={"architecture": "resnet8"})
    succeeded(database, open_storage(settings.storage_url), claimed(database))
    student = {"architecture": "resnet8", "weights": job_id}
    response = client.post("/v1/jobs", json={**SPEC, "student": student, "method": {"name": "simkd"}})
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert (error["pointer"], "has a teacher's last layer from simkd already" in error["message"]) == (
        "/student/weights",
        True,
    )
    assert client.post("/v1/jobs", json={**SPEC, "student": student}).status_code == 201
    taught_by_it = {"teacher": student, "student": {"architecture": "resnet8"}, "method": {"name": "simkd"}}
    assert client.post("/v1/jobs", json={**SPEC, **taught_by_it}).status_code == 201


def test_a_student_that_began_from_tagged_weights_is_of_the_plain_architecture(
    client: TestClient, database: Database, settings: Settings
) -> None:
    job_id = submit(client, student={"architecture": "timm/test_resnet.r160_in1k", "weights": "pretrained"})
    succeeded(database, open_storage(settings.storage_url), claimed(database))
    teacher = {"architecture": "timm/test_resnet", "weights": job_id}
    assert client.post("/v1/jobs", json={**SPEC, "teacher": teacher}).status_code == 201


def test_the_catalog_lists_every_network_with_its_figures(client: TestClient) -> None:
    entries = {entry["name"]: entry for entry in client.get("/v1/catalog/architectures").json()["data"]}
    assert len(entries) > 1200
    assert entries["torchvision/resnet18"]["details"]["small_stem"]["flops"]["32"]
    assert entries["torchvision/vit_b_16"]["details"]["fixed"]
    assert entries["timm/resnet50"]["details"]["tags"]["a1h_in1k"] == 176
    assert entries["torchvision/resnet18"]["details"]["tags"] == {}
