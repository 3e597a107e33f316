"""Whole jobs, in this process, whose teachers are files: what is not known of them is null, and nothing fails of it."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from stillhouse.cli.tables import comparison
from stillhouse.resources import Result, TeacherHeadline
from stillhouse.spec import JobSpec
from tests.worker.test_empty_splits import Heard, undisturbed  # noqa: F401  # a fixture
from tests.worker.test_given_weights import linear_model
from worker import train
from worker.assembly import architecture_of
from worker.engine import recorded, weights
from worker.engine.data import RawDataset, store
from worker.engine.data.builtin import BUILTIN
from worker.engine.network import Preprocessing
from worker.phases import teachers_of
from worker.sandbox import Protections

FLAT = [{"name": "flatten"}, {"name": "linear"}]
ONNX = {"architecture": "onnx", "weights": "mdl_1"}
LOGITS = {"architecture": "logits", "weights": "mdl_2"}
TAUGHT = {"epochs": 4, "optimizer": {"name": "adam", "lr": 0.02}}
IMAGES = 300
Finished = Callable[[Any], tuple[Result, str, list[dict[str, Any]]]]


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: None) -> Iterator[Finished]:  # noqa: F811
    """Run a job with this teacher, or these, as a child does: (its result, its HTML report, what it said)."""
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)
    whole = BUILTIN["digits"](None, Path())
    some = whole.train.take(torch.arange(IMAGES))
    store.save(tmp_path / "dataset", RawDataset(whole.name, whole.classes, whole.mean, whole.std, some, None))
    for name in ("outbox", "bundle", "weights", "tables"):
        (tmp_path / name).mkdir()

    def run(teacher: Any) -> tuple[Result, str, list[dict[str, Any]]]:
        given = {
            "dataset": {"id": "digits"},
            "teacher": teacher,
            "student": {"layers": FLAT},
            "training": {"epochs": 1, "batch_size": 64},
            "control": False,
        }
        spec = JobSpec.model_validate(given).complete(classes=10)
        for role, network in teachers_of(spec).items():
            stage(tmp_path / "weights", role, architecture_of(network), whole)
        plan = {"spec": spec.model_dump(mode="json"), "settled": None, "checkpoint_seconds": 60, "devices": "cpu"}
        (tmp_path / "plan.json").write_text(json.dumps({**plan, "table_limit_bytes": 2**20}))
        heard = Heard()
        status = train.run([], heard, Protections())
        assert (status, heard.said[-1]["event"]) == (0, "result"), heard.said[-1]
        page = (tmp_path / "bundle" / "report.html").read_text()
        return Result.model_validate(heard.said[-1]["result"]), page, heard.said

    yield run
    signal.signal(signal.SIGTERM, handler)


def stage(folder: Path, role: str, architecture: object, data: RawDataset) -> None:
    """What a supervisor puts there for a teacher that is a file; they know the digits."""
    labels = torch.nn.functional.one_hot(data.train.labels, 10).float()
    if architecture == "onnx":
        shape = Preprocessing((1, 8, 8), data.mean, data.std)
        pixels = (data.train.images.float() / 255 - data.mean[0]) / data.std[0]
        fitted = torch.linalg.lstsq(pixels.flatten(1), 4 * labels, driver="gelsd").solution
        described = weights.describe(weights.ONNX, "standard", shape, data.classes, 0)
        (folder / f"{role}.json").write_text(json.dumps(described))
        (folder / f"{role}.onnx").write_bytes(linear_model(fitted))
    elif architecture == "logits":
        rows = 4 * labels[:IMAGES].numpy()
        recorded.stored.save(folder, role, {"train": (IMAGES, [rows])}, {"classes": data.classes, "kind": "logits"})


def shown(result: Result) -> str:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(comparison(result))
    return next(line for line in captured.get().splitlines() if "teacher" in line)


def teacher_of(result: Result) -> TeacherHeadline:
    assert result.teacher is not None
    return result.teacher


@pytest.mark.parametrize(
    ("teacher", "parameters"),
    [(ONNX, 640), ([ONNX, {"layers": FLAT, "train": TAUGHT}], 640 + 650), ([ONNX, ONNX], 2 * 640)],
    ids=["alone", "with a network", "two"],
)
def test_an_onnx_teachers_job_comes_to_its_result(finished: Finished, teacher: Any, parameters: int) -> None:
    result, page, said = finished(teacher)
    judged = teacher_of(result)
    assert (judged.parameters, judged.flops) == (parameters, None)
    assert judged.top1 is not None
    assert judged.latency_ms is not None
    assert judged.bytes > 4 * 640
    assert result.agreement is not None
    assert shown(result).split().count("unknown") == 1
    assert page.count("<td>unknown</td>") == 1
    assert "A file of logits teaches" not in page
    fractions = [event["fraction"] for event in said if event["event"] == "progress"]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1


@pytest.mark.parametrize("teacher", [LOGITS, [ONNX, LOGITS]], ids=["alone", "with an ONNX file"])
def test_a_recorded_teachers_job_comes_to_its_result(finished: Finished, teacher: Any) -> None:
    result, page, _ = finished(teacher)
    judged = teacher_of(result)
    assert (judged.parameters, judged.flops, judged.latency_ms) == (None, None, None)
    assert judged.top1 is not None
    assert judged.bytes >= 4 * 10 * IMAGES
    assert shown(result).split().count("unknown") == 3
    assert "A file of logits teaches" in page
