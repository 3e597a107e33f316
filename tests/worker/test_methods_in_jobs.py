"""From a spec to a bundle without a child: several teachers, combinations, a student that grows."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.encoders import jsonable_encoder
from pydantic import ValidationError

from stillhouse.resources import Result
from stillhouse.spec import JobSpec
from stillhouse.spec.pointers import pointer
from stillhouse.spec.review import review
from worker.assembly import build, build_run, build_teacher, rehearse, teacher_of
from worker.bundle import write_bundle
from worker.engine import weights
from worker.engine.data import Dataset, RawDataset
from worker.engine.data.builtin import BUILTIN
from worker.engine.data.images import Origin
from worker.engine.data.split import split_dataset
from worker.engine.distill import distill
from worker.engine.ensemble import Ensemble
from worker.engine.errors import MethodRefused
from worker.engine.evaluate import evaluate
from worker.engine.network import Network
from worker.engine.precision import Precision
from worker.engine.recorded import RecordedTeacher
from worker.engine.run import Run
from worker.phases import phases
from worker.sandbox import Protections

FLAT = [{"name": "flatten"}, {"name": "linear"}]
POOLED = [{"name": "conv", "channels": 8, "stride": 2}, {"name": "relu"}, {"name": "globalpool"}, {"name": "linear"}]
WIDE = [{"name": "conv", "channels": 16, "stride": 2}, {"name": "relu"}, {"name": "globalpool"}, {"name": "linear"}]
FP32 = Precision("fp32", scales_gradients=False)
CPU = torch.device("cpu")


def job(**changes: Any) -> JobSpec:
    return JobSpec.model_validate(
        {
            "dataset": {"id": "digits"},
            "teacher": [{"layers": FLAT, "weight": 3.0}, {"layers": POOLED, "train": {"epochs": 8}}],
            "student": {"layers": POOLED},
            "training": {"epochs": 4, "batch_size": 64, "optimizer": {"name": "adam", "lr": 0.02}},
            **changes,
        }
    ).complete()


@pytest.fixture(scope="module")
def digits() -> Dataset:
    whole = BUILTIN["digits"](None, Path())
    few = RawDataset(whole.name, whole.classes, whole.mean, whole.std, whole.train.take(torch.arange(500)), None)
    return split_dataset(few, validation=0.1, seed=0)


def trained(spec: JobSpec, digits: Dataset) -> dict[str, Run]:
    runs: dict[str, Run] = {}
    for phase in phases(spec):
        networks: dict[str, Network] = {name: run.student for name, run in runs.items()}
        teacher = build_teacher(spec, networks)
        run = build_run(spec, phase, digits, teacher=teacher, device=CPU, precision=FP32)
        for _ in distill(run):
            pass
        run.student.body.load_state_dict(run.result_state())
        runs[phase.name] = run
    return runs


def bundle(folder: Path, spec: JobSpec, digits: Dataset) -> dict[str, Any]:
    return bundled(folder, spec, digits, trained(spec, digits))


def bundled(folder: Path, spec: JobSpec, digits: Dataset, runs: dict[str, Run]) -> dict[str, Any]:
    return write_bundle(
        folder,
        spec=spec,
        dataset=digits,
        runs=runs,
        networks={name: run.student for name, run in runs.items()},
        settled={},
        protections=Protections([], []),
        on_stage=lambda _stage: None,
        alive=lambda: None,
    )


def test_several_teachers_are_trained_and_judged_as_one(digits: Dataset, tmp_path: Path) -> None:
    spec = job()
    assert [phase.name for phase in phases(spec)] == ["teacher-0", "teacher-1", "student-0", "control-0"]
    result = bundle(tmp_path, spec, digits)
    parts = json.loads((tmp_path / "report.json").read_text())
    assert result["teacher"]["parameters"] == 650 + (80 + 90)
    assert result["teacher"]["top1"] > max(0.3, parts["phases"]["teacher-1"]["test"]["top1"])
    assert {"teacher-0", "teacher-1"} <= set(parts["phases"])
    assert parts["environment"]["teacher_sha256"]
    assert result["agreement"] is not None


def test_a_file_of_logits_that_says_nothing_of_the_test_split_has_no_figures_there(
    digits: Dataset, tmp_path: Path
) -> None:
    """A set with a test split of its own; the file has rows for its training images alone."""
    own = replace(digits, origin=Origin(len(digits.train), torch.arange(len(digits.train)), None, len(digits.test)))
    rows = 4 * torch.nn.functional.one_hot(digits.train.labels, 10).float()
    spec = job(teacher={"architecture": "logits", "weights": "mdl_1"}, control=False)
    assert [phase.name for phase in phases(spec)] == ["student-0"]
    (phase,), told = phases(spec), RecordedTeacher(rows, own)
    rehearse(spec, own, {}, {"teacher": told})
    run = build_run(spec, phase, own, teacher=told, device=CPU, precision=FP32)
    for _ in distill(run):
        pass
    result = write_bundle(
        tmp_path,
        spec=spec,
        dataset=own,
        runs={phase.name: run},
        networks={phase.name: run.student},
        files={"teacher": told},
        settled={},
        protections=Protections([], []),
        on_stage=lambda _stage: None,
        alive=lambda: None,
    )
    known = {name: value for name, value in result["teacher"].items() if value is not None}
    assert known == {"bytes": rows.nbytes}
    assert result["agreement"] is None
    shown = Result.model_validate(result)
    assert shown.teacher is not None
    assert shown.teacher.top1 is None
    page = (tmp_path / "report.html").read_text()
    assert "how good it is there is not known" in page
    assert page.count("<td>unknown</td>") == 6
    assert json.loads((tmp_path / "report.json").read_text())["environment"]["teacher_sha256"] == told.fingerprint()


def test_teachers_of_one_job_start_from_different_weights(digits: Dataset) -> None:
    spec = job(teacher=[{"layers": FLAT}, {"layers": FLAT}])
    one, other = (
        build_run(spec, phase, digits, teacher=None, device=CPU, precision=FP32).student.fingerprint()
        for phase in phases(spec)[:2]
    )
    assert one != other


def test_a_list_of_one_teacher_teaches_as_that_teacher(digits: Dataset) -> None:
    spec = job(teacher=[{"layers": FLAT}], control=False)
    runs = trained(spec, digits)
    assert isinstance(build_teacher(spec, {name: run.student for name, run in runs.items()}), Ensemble)
    assert runs["student-0"].history


def test_several_teachers_have_no_features_in_common() -> None:
    found = review(job(method={"name": "at"}))
    assert [error.pointer for error in found.errors] == ["/method/name"]
    combined = review(job(method=[{"name": "kd"}, {"name": "crd"}]))
    assert [error.pointer for error in combined.errors] == ["/method/1/name"]
    alone = review(job())
    assert not alone.errors
    assert alone.teacher is not None
    assert alone.teacher.parameters == 650 + 170


def test_an_error_points_to_the_teacher_at_fault() -> None:
    body = jsonable_encoder(job())
    body["teacher"][1]["weight"] = -1
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate(body)
    assert [pointer(error["loc"], body) for error in caught.value.errors()] == ["/teacher/1/weight"]
    wrong = review(job(teacher=[{"layers": FLAT}, {"architecture": "resnet21"}]))
    assert [error.pointer for error in wrong.errors] == ["/teacher/1/architecture"]


def test_a_method_that_cannot_work_is_refused_before_a_teacher_is_trained(digits: Dataset) -> None:
    state = torch.random.get_rng_state()
    rehearse(job(), digits, {})
    rehearse(job(teacher={"layers": WIDE}, method=[{"name": "simkd"}, {"name": "crd"}]), digits, {})
    rehearse(job(teacher=None, method={"name": "none"}), digits, {})
    assert torch.equal(torch.random.get_rng_state(), state)
    wrong = {"name": "sp", "student_points": ["nowhere"]}
    with pytest.raises(MethodRefused, match="student has no feature point 'nowhere'"):
        rehearse(job(teacher={"layers": WIDE}, method=wrong), digits, {})


def test_simkd_and_a_combination_go_through_to_the_bundle_and_to_another_job(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = job(
        teacher={"layers": WIDE, "train": {"epochs": 10}},
        method=[{"name": "simkd"}, {"name": "kd", "weight": 0.5, "weight_ce": 0.0}],
        control=True,
    )
    result = bundle(tmp_path, spec, digits)
    described = json.loads((tmp_path / "student.json").read_text())
    assert described["additions"] == {"after": "1", "classifier": "3", "channels": [8, 8, 16]}
    assert described["parameters"] == result["student"]["parameters"] > result["control"]["parameters"]
    assert evaluate(weights.restore(tmp_path), digits.test).top1 == result["student"]["top1"]
    (tmp_path / "weights").mkdir()
    for suffix in (".json", ".safetensors"):
        shutil.copyfile(tmp_path / f"student{suffix}", tmp_path / "weights" / f"student{suffix}")
    monkeypatch.chdir(tmp_path)
    again = job(teacher=None, method={"name": "none"}, student={"layers": POOLED, "weights": "job_1"})
    student = build(again.student, digits, seed=0, role="student", fine_tune=True)
    assert evaluate(student, digits.test).top1 == result["student"]["top1"]


@pytest.mark.parametrize("views", [1, 2])
def test_the_control_sees_the_views_that_the_student_sees(digits: Dataset, views: int) -> None:
    """A teacher that is trained first sees the usual one."""
    spec = job(teacher={"layers": FLAT, "train": {"epochs": 1}}, method={"name": "mlkd", "views": views})
    teacher = build(spec.teachers[0], digits, seed=0, role="teacher", fine_tune=True)
    shown = {
        phase.kind: build_run(spec, phase, digits, teacher=teacher, device=CPU, precision=FP32).method.strong_view
        for phase in phases(spec)
    }
    assert shown == {"teacher": False, "student": views == 2, "control": views == 2}


@pytest.mark.parametrize("tells", [True, False])
def test_a_file_of_logits_is_one_of_several_teachers(digits: Dataset, tmp_path: Path, *, tells: bool) -> None:
    """With a test split drawn from train its rows are known, so the teacher is judged; else no figure is made up."""
    if not tells:
        origin = Origin(len(digits.train), torch.arange(len(digits.train)), None, len(digits.test))
        digits = replace(digits, origin=origin)
    rows = torch.zeros(digits.origin.images, 10)
    rows[digits.origin.train] = 4 * torch.nn.functional.one_hot(digits.train.labels, 10).float()
    files = {"teacher-1": RecordedTeacher(rows, digits)}
    listed = [{"layers": FLAT, "weight": 3.0}, {"architecture": "logits", "weights": "mdl_1"}]
    spec = job(teacher=listed, control=False)
    assert not review(spec).errors
    assert [phase.name for phase in phases(spec)] == ["teacher-0", "student-0"]
    rehearse(spec, digits, {}, files)
    runs: dict[str, Run] = {}
    for phase in phases(spec):
        networks = {name: run.student for name, run in runs.items()}
        taught = teacher_of(spec, phase, networks, files)
        assert (taught is None) == (phase.kind == "teacher")
        runs[phase.name] = build_run(spec, phase, digits, teacher=taught, device=CPU, precision=FP32)
        for _ in distill(runs[phase.name]):
            pass
    result = write_bundle(
        tmp_path,
        spec=spec,
        dataset=digits,
        runs=runs,
        networks={name: run.student for name, run in runs.items()},
        files=files,
        settled={},
        protections=Protections([], []),
        on_stage=lambda _stage: None,
        alive=lambda: None,
    )
    shown = Result.model_validate(result).teacher
    assert shown is not None
    assert (shown.top1 is not None) == tells == (result["agreement"] is not None)
    assert (shown.parameters, shown.latency_ms) == (None, None)
    assert shown.bytes > rows.nbytes
    assert "A file of logits teaches" in (tmp_path / "report.html").read_text()
