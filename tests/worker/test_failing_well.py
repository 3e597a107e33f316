"""What a child says of its own failure: the reason, and what to do about it in words of the spec."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from stillhouse.spec import REASONS, JobSpec
from worker import train
from worker.assembly import rehearse
from worker.engine.data.builtin import BUILTIN
from worker.engine.data.split import split_dataset
from worker.engine.errors import EngineError, OutOfMemory
from worker.phases import Phase, phases

TEACHER = {"architecture": "resnet8"}
JOB = {"dataset": {"id": "digits"}, "student": {"architecture": "resnet8"}}


def failing(spec: JobSpec, phase: Phase, error: Exception, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    def distill(_run: Any) -> Iterator[Any]:
        raise error

    monkeypatch.setattr(train, "distill", distill)
    job = train.Job.__new__(train.Job)
    job.spec = spec
    with pytest.raises(type(error)) as caught:
        list(job._events(phase, None))  # type: ignore[arg-type]  # the run is the fake's
    return train._explain(caught.value)


@pytest.mark.parametrize(
    ("teacher", "fields"),
    [
        (TEACHER, ["teacher.train.batch_size", "training.batch_size", "training.batch_size"]),
        ([TEACHER], ["teacher.0.train.batch_size", "training.batch_size", "training.batch_size"]),
    ],
)
def test_a_batch_that_does_not_fit_is_named_by_its_field(
    teacher: Any, fields: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = JobSpec.model_validate({**JOB, "teacher": teacher}).complete()
    for phase, field in zip(phases(spec), fields, strict=True):
        error = OutOfMemory("a step of 64 images needs more memory than there is (no room).", fits=16)
        reason, detail = failing(spec, phase, error, monkeypatch)
        assert reason == "out_of_memory"
        assert detail.endswith(f"(no room). Set {field} to 16: that fits with room to spare.")
    error = OutOfMemory("a step of 64 images needs more memory than there is (no room).", fits=None)
    assert failing(spec, phases(spec)[0], error, monkeypatch)[1].endswith("a smaller network, or a smaller input_size.")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_memory_that_runs_out_elsewhere_is_recognised_too(error: Exception) -> None:
    reason, detail = train._explain(error)
    assert reason == "out_of_memory"
    said = (str(error) or "no memory left").removesuffix(".").removeprefix("[enforce fail at alloc_cpu.cpp:127] ")
    assert detail.startswith(f"the job needs more memory than there is ({said}). Use smaller networks, or a smaller b")
    assert train._explain(RuntimeError("a defect"))[0] == "internal"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("CUDA error: uncorrectable ECC error encountered", "gpu_fault"),
        ("CUDA error: unspecified launch failure", "gpu_fault"),
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", "gpu_fault"),
        ("No CUDA GPUs are available", "gpu_fault"),
        ("CUDA error: device-side assert triggered", "internal"),
        ("CUDA error: an illegal memory access was encountered", "internal"),
    ],
)
def test_a_gpu_that_fails_is_told_apart_from_a_defect(said: str, reason: str) -> None:
    found, detail = train._explain(torch.AcceleratorError(f"{said}\nCompile with TORCH_USE_CUDA_DSA"))
    assert found == reason
    assert said in detail
    assert REASONS["gpu_fault"].retryable
    assert train._explain(RuntimeError("no hardware in here"))[0] == "internal"


def test_a_feature_point_that_is_none_ends_with_its_reason_and_what_there_is() -> None:
    """Before a teacher is trained: the student's, the teacher's, and a place that gives no map."""
    dataset = split_dataset(BUILTIN["digits"](None, Path()), validation=0.1, seed=0)
    for changes, words in (
        (
            {"student_points": ["layer4"], "teacher_points": ["layer2"]},
            "the student has no feature point 'layer4'; did",
        ),
        (
            {"student_points": ["layer1"], "teacher_points": ["nowhere"]},
            "the teacher has no feature point 'nowhere'; it",
        ),
        (
            {"student_points": ["fc"], "teacher_points": ["layer2"]},
            "'fc' gives a vector of 10, and this method compares",
        ),
    ):
        spec = JobSpec.model_validate({**JOB, "teacher": TEACHER, "method": {"name": "at", **changes}}).complete()
        with pytest.raises(EngineError) as caught:
            rehearse(spec, dataset, {})
        reason, detail = train._explain(caught.value)
        assert reason == "method_refused"
        assert REASONS[reason].fault == "user"
        assert words in detail
        assert "Name a" in detail
