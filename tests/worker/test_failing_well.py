"""What a child says of its own failure: the reason, and what to do about it in words of the spec."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from stillhouse.spec import JobSpec
from worker import train
from worker.assembly import Phase, phases
from worker.engine.errors import OutOfMemory

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
        assert detail.endswith(f"(no room). Set {field} to 16: a step of 16 images fits.")
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
    assert detail.startswith((str(error) or "no memory left").removesuffix("."))
    assert "Use a smaller batch_size" in detail
    assert train._explain(RuntimeError("a defect"))[0] == "internal"
