"""Jobs that ask for compiled steps, in the confined child: the same bytes each time, also on two devices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from stillhouse.spec.training import Training
from tests.harness import Service, eventually, service

LAYERS = [{"name": "conv", "channels": 4, "stride": 2}, {"name": "batchnorm"}, {"name": "relu"}]
SPEC: dict[str, Any] = {
    "name": "compiled",
    "dataset": {"id": "digits"},
    "student": {"layers": [*LAYERS, {"name": "globalpool"}, {"name": "linear"}]},
    "method": {"name": "none"},
    "training": {"epochs": 60, "batch_size": 64, "optimizer": {"name": "adam"}, "compile": True},
}


def test_batch_norm_over_all_ranks_is_not_compiled() -> None:
    with pytest.raises(ValidationError, match="compile and sync_batchnorm exclude each other"):
        Training(compile=True, sync_batchnorm=True)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("compiled") / "data", STILLHOUSE_DEVICES="cpu:2") as started:
        yield started


@pytest.mark.slow
def test_a_compiled_job_that_is_killed_ends_with_the_same_bytes(running: Service) -> None:
    undisturbed = running.submit(SPEC)
    assert running.wait(undisturbed)["status"] == "succeeded", running.job(undisturbed)
    assert json.loads(running.artifact(undisturbed, "environment.json"))["compiled"] is True
    log = running.http.get(f"/v1/jobs/{undisturbed}/logs").text
    assert "student-0: compiling took " in log
    job_id = running.submit(SPEC)

    def begun() -> bool:
        saved = running.get(f"/v1/jobs/{job_id}/checkpoints")["data"]
        return any(checkpoint["phase"] == "student-0" for checkpoint in saved)

    eventually(begun, what="a checkpoint of the student", seconds=200)
    assert running.kill("child", job_id)
    assert running.wait(job_id)["status"] == "succeeded", running.job(job_id)
    assert running.job(job_id)["attempt"] == 2
    student, again = (running.artifact(each, "student.safetensors") for each in (undisturbed, job_id))
    assert student == again


@pytest.mark.slow
def test_two_ranks_compile_each_their_own_part(running: Service) -> None:
    spec = {**SPEC, "training": {**SPEC["training"], "epochs": 4}, "resources": {"gpus": 2}}
    job_id = running.submit(spec)
    assert running.wait(job_id)["status"] == "succeeded", running.job(job_id)
    environment = json.loads(running.artifact(job_id, "environment.json"))
    assert (environment["ranks"], environment["compiled"]) == (2, True)
