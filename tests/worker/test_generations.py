"""Born-again networks (Furlanello et al. 2018): each generation's student teaches the next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.jobs.estimate import _epochs
from stillhouse.spec import JobSpec
from stillhouse.spec.review import review
from tests.worker.test_methods_in_jobs import CPU, FP32, POOLED, bundled, digits, job  # noqa: F401  # digits: a fixture
from worker.assembly import build_run, teacher_of
from worker.engine.data import Dataset
from worker.engine.distill import distill
from worker.engine.network import Network
from worker.engine.run import Run
from worker.engine.teacher import LiveTeacher
from worker.handover import PHASE
from worker.phases import phases

NAMES = ["teacher", "generation-1-0", "generation-2-0", "student-0", "control-0"]


def reborn(**changes: Any) -> JobSpec:
    teacher = {"layers": POOLED, "train": {"epochs": 8}}
    training = {"epochs": 3, "batch_size": 64, "optimizer": {"name": "adam", "lr": 0.02}, "generations": 3}
    return job(**{"teacher": teacher, "training": {**training, **changes.pop("training", {})}, **changes})


def test_a_generation_is_taught_by_the_one_before_it(digits: Dataset, tmp_path: Path) -> None:  # noqa: F811
    spec = reborn()
    assert [phase.name for phase in phases(spec)] == NAMES
    assert all(PHASE.fullmatch(name) for name in NAMES)
    networks: dict[str, Network] = {}
    runs: dict[str, Run] = {}
    begun: dict[str, str] = {}
    for phase in phases(spec):
        teacher = teacher_of(spec, phase, networks)
        run = build_run(spec, phase, digits, teacher=teacher, device=CPU, precision=FP32)
        begun[phase.name] = run.student.fingerprint()
        if phase.kind in ("teacher", "control"):
            assert run.teacher is None
        else:
            before = NAMES[NAMES.index(phase.name) - 1]
            assert isinstance(run.teacher, LiveTeacher)
            assert run.teacher.network is networks[before]
        for _ in distill(run):
            pass
        run.student.body.load_state_dict(run.result_state())
        runs[phase.name], networks[phase.name] = run, run.student
    assert begun["student-0"] == begun["control-0"]
    assert len(set(begun.values())) == 4  # each generation starts from weights of its own
    result = bundled(tmp_path, spec, digits, runs)
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["generation"] for row in report["generations"]] == [1, 2, 3]
    assert report["generations"][2]["top1"] == result["student"]["top1"]
    assert report["generations"][0]["top1"] == report["phases"]["generation-1-0"]["test"]["top1"]
    page = (tmp_path / "report.html").read_text()
    assert "3, the student" in page
    assert "generation 2" in page
    assert result["student"]["top1_deviation"] is None  # generations are no seeds


def test_every_seed_has_generations_of_its_own() -> None:
    spec = reborn(training={"seeds": 2, "generations": 2}, control=False)
    assert [(phase.name, phase.seed, phase.taught_by) for phase in phases(spec)] == [
        ("teacher", 0, None),
        ("generation-1-0", 0, None),
        ("student-0", 0, "generation-1-0"),
        ("generation-1-1", 1, None),
        ("student-1", 1, "generation-1-1"),
    ]
    assert _epochs(reborn().model_dump(mode="json")) == 8 + 3 * 4
    plain = phases(reborn(training={"generations": 1}))
    assert [phase.name for phase in plain] == ["teacher", "student-0", "control-0"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"teacher": None, "method": {"name": "none"}}, "method 'none' teaches nothing"),
        ({"method": [{"name": "simkd"}, {"name": "kd"}]}, "simkd gives the student its teacher's last layer"),
    ],
)
def test_what_cannot_be_born_again_is_refused(changes: dict[str, Any], words: str) -> None:
    errors = review(reborn(**changes)).errors
    assert [error.pointer for error in errors] == ["/training/generations"]
    assert words in errors[0].message


def test_given_weights_make_every_generation_start_alike() -> None:
    warned = review(reborn(student={"architecture": "resnet8", "weights": "job_1"})).warnings
    assert any("starts from the student's given weights" in warning for warning in warned)
