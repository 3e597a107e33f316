"""The reused classifier: the student that is served is the one that was trained, and says how large it is."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.conftest import FP32, LAYERS, network, run
from tests.engine.test_distill import finish
from tests.engine.test_methods_laws import STUDENT, averaging
from worker.engine import weights
from worker.engine.data import Dataset
from worker.engine.errors import MethodRefused, WeightsRefused
from worker.engine.evaluate import evaluate, measure
from worker.engine.methods import METHODS
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


@pytest.fixture
def bundle(digits: Dataset, averaging: LiveTeacher, tmp_path: Path) -> Run:
    """A trained student, written to ``tmp_path`` as a job's bundle has it."""
    live = finish(trained(digits, averaging))
    shape, parameters = live.student.preprocessing, measure(live.student).parameters
    described = weights.describe(STUDENT, "standard", shape, digits.classes, parameters)
    state = live.student.body.state_dict()
    weights.save(tmp_path, "student", state, {**described, "additions": live.student.additions})
    return live


def test_the_served_student_is_built_again_from_its_description(bundle: Run, digits: Dataset, tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    again = weights.restore(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert again.additions == bundle.student.additions
    assert again.fingerprint() == bundle.student.fingerprint()
    assert torch.equal(evaluate(again, digits.test).predictions, evaluate(bundle.student, digits.test).predictions)


@pytest.mark.usefixtures("bundle")
def test_the_served_student_teaches_and_is_fine_tuned_and_gets_no_second_classifier(
    digits: Dataset, averaging: LiveTeacher, tmp_path: Path
) -> None:
    stored = weights.load(tmp_path, "student")
    renamed, _ = weights.rebuild(stored, classes=digits.classes[::-1])
    plain, _ = weights.rebuild(stored, classes=digits.classes)
    images = digits.test.images[:4].float() / 255
    assert torch.allclose(renamed.eval()(images).logits, plain.eval()(images).logits.flip(1), atol=1e-5)
    tuned, other = (weights.rebuild(stored, classes=("x", "y"), seed=3, replace_head=True)[0] for _ in range(2))
    assert tuned.eval()(images).logits.shape == (4, 2)
    assert tuned.fingerprint() == other.fingerprint()
    small = digits.train.take(torch.arange(66))
    for method in ("kd", "fitnet"):
        finish(run(digits, method=METHODS[method](), taught_by=averaging, train=small, student=copy.deepcopy(plain)))
    shapes = plain.capture_points(plain.points.of("last"), whose="teacher")
    assert shapes == {stored.additions["after"]: (16, 4, 4)}
    with pytest.raises(MethodRefused, match="has a teacher's classifier already"):
        run(digits, method=METHODS["simkd"](), taught_by=averaging, student=plain)


@pytest.mark.usefixtures("bundle")
def test_a_description_whose_additions_do_not_suit_the_network_is_refused(digits: Dataset, tmp_path: Path) -> None:
    described = json.loads((tmp_path / "student.json").read_text())
    for changes, said in (
        ({"after": "nowhere"}, "do not suit"),
        ({"channels": 4}, "do not suit"),
        ({"channels": [4, 2, 8]}, "in the file and"),
        ({"classifier": "0"}, "not in the file|in the file and"),
    ):
        additions = {**described["additions"], **changes}
        (tmp_path / "student.json").write_text(json.dumps({**described, "additions": additions}))
        with pytest.raises(WeightsRefused, match=said):
            weights.restore(tmp_path)
    for none in ({}, [], 3):
        (tmp_path / "student.json").write_text(json.dumps({**described, "additions": none}))
        with pytest.raises(WeightsRefused, match="not whole"):
            weights.load(tmp_path, "student")


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
