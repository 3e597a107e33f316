"""What a job trains on: as asked where the worker has it, and said where it has not."""

from __future__ import annotations

from typing import Any

import pytest

from app.config import Settings
from stillhouse.spec import JobSpec
from stillhouse.spec.review import review
from worker.__main__ import _devices
from worker.devices import offered, settle


def spec(gpus: int, **training: Any) -> JobSpec:
    return JobSpec.model_validate(
        {
            "dataset": {"id": "digits"},
            "teacher": {"architecture": "resnet20", "train": {}},
            "student": {"architecture": "resnet8"},
            "training": {"precision": "fp32", **training},
            "resources": {"gpus": gpus},
        }
    ).complete()


def settled(gpus: int, devices: str, earlier: dict[str, Any] | None = None) -> tuple[int, list[str]]:
    warnings: list[str] = []
    found = settle(spec(gpus), devices=devices, earlier=earlier, suits_bf16=lambda: False, warn=warnings.append)
    assert found["device"] == "cpu"
    return found["ranks"], warnings


@pytest.mark.parametrize(
    ("gpus", "devices", "ranks"), [(0, "cpu:2", 1), (1, "cpu:2", 1), (2, "cpu:2", 2), (1, "cpu", 1)]
)
def test_a_job_gets_the_devices_it_asks_for(gpus: int, devices: str, ranks: int) -> None:
    assert settled(gpus, devices) == (ranks, [])


def test_a_worker_with_fewer_devices_says_so() -> None:
    ranks, (warning,) = settled(4, "cpu:2")
    assert ranks == 2
    assert warning == "resources.gpus asks for 4 and this worker has 2 processes of its CPU: it trains on that alone"


def test_a_job_keeps_to_what_its_first_attempt_had() -> None:
    began = {"device": "cpu", "precision": "fp32", "ranks": 1, "threads": 2}
    assert settled(2, "cpu:2", began) == (1, [])
    assert settled(1, "cpu", {name: value for name, value in began.items() if name != "ranks"}) == (1, [])
    ranks, (warning,) = settled(2, "cpu", {**began, "ranks": 2})
    assert ranks == 1
    assert warning == "this job began on 2 processes of its CPU and goes on on its CPU; its bytes will differ"


def test_the_setting_names_what_a_worker_offers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert offered("cpu:3") == ("cpu", 3)
    assert _devices("cpu:2") == ("cpu:0", "cpu:1")
    assert _devices("cpu") == ("cpu",)
    monkeypatch.setenv("STILLHOUSE_DEVICES", "gpu")
    with pytest.raises(ValueError, match="devices"):
        Settings()


def test_a_spec_that_several_gpus_cannot_share_is_refused_before_it_runs() -> None:
    (error,) = review(spec(4, batch_size=7)).errors
    assert (error.pointer, error.message) == ("/resources/gpus", "a batch of 7 gives 4 GPUs fewer than two images each")
    (error,) = review(spec(1, sync_batchnorm=True)).errors
    assert error.pointer == "/training/sync_batchnorm"
    found = review(spec(2))
    assert found.errors == []
    assert any("batch norm counts within each part" in warning for warning in found.warnings)
    assert not any("GPU" in warning for warning in review(spec(1)).warnings)
