"""The reused classifier: the student that is served is the one that was trained, and says how large it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.engine.conftest import FP32, LAYERS, network, run
from tests.engine.test_distill import finish
from tests.engine.test_methods_laws import STUDENT, averaging
from worker.engine.data import Dataset
from worker.engine.errors import MethodRefused
from worker.engine.evaluate import evaluate, measure
from worker.engine.exports import EXPORTS
from worker.engine.methods import METHODS
from worker.engine.methods.simkd import reshape
from worker.engine.network import Network, Preprocessing
from worker.engine.run import Run
from worker.engine.teacher import LiveTeacher

__all__ = ["averaging"]  # the fixture


def trained(digits: Dataset, averaging: LiveTeacher, **changes: Any) -> Run:
    some = digits.train.take(torch.arange(66))
    return run(
        digits, method=METHODS["simkd"](), taught_by=averaging, train=some, student=network(layers=STUDENT), **changes
    )


def test_the_student_ends_in_the_teachers_own_classifier(digits: Dataset, averaging: LiveTeacher) -> None:
    plain = measure(network(layers=STUDENT)).parameters
    live = finish(trained(digits, averaging))
    ours, theirs = live.student.body[-1], averaging.network.body[-1]  # type: ignore[index]
    assert torch.equal(ours.weight, theirs.weight)
    assert ours.weight is not theirs.weight
    larger = measure(live.student).parameters
    projector = 4 * 8 + 8 * 8 * 9 + 8 * 16 + 2 * (8 + 8 + 16)
    assert larger == plain + projector + (16 - 4) * 10
    assert live.warnings == [
        f"simkd serves a larger student: {larger:,} parameters with projector and classifier, not {plain:,}"
    ]
    assert measure(live.student).flops > measure(network(layers=STUDENT)).flops


def test_the_served_weights_fit_the_student_built_again_from_its_description(
    digits: Dataset, averaging: LiveTeacher, tmp_path: Path
) -> None:
    live = finish(trained(digits, averaging))
    EXPORTS["safetensors"](live.student, tmp_path / "student")
    again = network(9, layers=STUDENT)
    reshape(again.body, classes=10, **live.student.additions)
    again.body.load_state_dict(load_file(tmp_path / "student"))
    assert torch.equal(evaluate(again, digits.test).predictions, evaluate(live.student, digits.test).predictions)


def test_a_head_that_does_more_than_average_is_refused(digits: Dataset, averaging: LiveTeacher) -> None:
    for student in (network(), network(layers=LAYERS[-2:])):
        with pytest.raises(MethodRefused, match="student does not average"):
            run(digits, method=METHODS["simkd"](), taught_by=averaging, student=student)
    named = METHODS["simkd"](student_points=["nowhere"])
    with pytest.raises(MethodRefused, match="no feature point 'nowhere'"):
        run(digits, method=named, taught_by=averaging, student=network(layers=STUDENT))
    flat = LiveTeacher(network(), precision=FP32)
    with pytest.raises(MethodRefused, match="teacher does not average"):
        run(digits, method=METHODS["simkd"](), taught_by=flat, student=network(layers=STUDENT))


def test_a_teacher_of_other_classes_is_refused(digits: Dataset, averaging: LiveTeacher) -> None:
    body = torch.nn.Sequential(*averaging.network.body[:-1], torch.nn.Linear(16, 7))  # type: ignore[index]
    other = LiveTeacher(Network(body, Preprocessing((1, 8, 8), (0.3,), (0.4,))), precision=FP32)
    with pytest.raises(MethodRefused, match="7 classes"):
        run(digits, method=METHODS["simkd"](), taught_by=other, student=network(layers=STUDENT))
