"""Where losses break: margins of a thousand, two classes, one sample, equal networks, dead features, bf16."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.made import LABELS, SHAPES, B, C, batch_of, outputs, ready, values
from worker.engine.errors import MethodRefused
from worker.engine.method import Batch, Method, Outputs
from worker.engine.methods import METHODS

TEACHING = [name for name in METHODS if name != "none"]
LOGITS = ["kd", "dkd", "nkd", "dist", "mlkd", "ofa", "patient"]
FEATURES = [name for name in TEACHING if name not in LOGITS]
RELATIONAL = ["dist", "mlkd", "sp", "rkd", "pkt"]
STANDARDISING = ["kd", "dkd", "mlkd"]
ENTROPIC = ["nkd", "ofa", "vid", "crd"]
"""Not zero for equal networks: a cross-entropy, a likelihood, a contrast."""
WITH_A_PROJECTOR = ["fitnet", "reviewkd"]
"""Not zero for equal networks as long as their projectors are untrained."""


def slopes(method: Method, student: dict[str, torch.Tensor], teacher: Outputs, batch: Batch) -> dict[str, torch.Tensor]:
    """The terms' sum, checked to be finite, and its gradient in whatever it reaches."""
    given = {name: value.clone().requires_grad_() for name, value in student.items()}
    terms = method(outputs(given), teacher, batch)
    assert all(torch.isfinite(term) for term in terms.values()), terms
    torch.stack(list(terms.values())).sum().backward()
    found = {name: value.grad for name, value in given.items() if value.grad is not None}
    assert found
    assert all(torch.isfinite(slope).all() for slope in found.values())
    return found


def tensors(arrays: dict[str, Any], dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    return {name: torch.as_tensor(value).to(dtype) for name, value in arrays.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LOGITS)
def test_margins_of_a_thousand_stay_finite(name: str, dtype: torch.dtype) -> None:
    """Student and teacher sure, of the same class, of others, of the label and of another."""
    student, teacher = (tensors(arrays, dtype) for arrays in values(6))
    for sure, taught in ((0, 0), (0, 1), (4, 2)):
        student["logits"] = torch.zeros(B, C, dtype=dtype).index_fill_(1, torch.tensor([sure]), 1000.0)
        teacher["logits"] = torch.zeros(B, C, dtype=dtype).index_fill_(1, torch.tensor([taught]), 1000.0)
        slopes(ready(name).float(), student, outputs(teacher), batch_of())


@pytest.mark.parametrize("name", STANDARDISING)
def test_standardised_logits_stay_finite_where_all_are_equal(name: str) -> None:
    student, teacher = (tensors(arrays) for arrays in values(7))
    student["logits"], teacher["logits"] = torch.zeros(B, C), torch.full((B, C), 1000.0)
    slopes(ready(name, standardise=True).float(), student, outputs(teacher), batch_of())


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("scale", [0.0, 1000.0])
def test_dead_and_enormous_features_stay_finite(name: str, scale: float) -> None:
    student, teacher = (tensors(arrays) for arrays in values(8))
    for key in set(student) - {"logits"}:
        student[key] = student[key] * scale
    slopes(ready(name).float(), student, outputs(teacher), batch_of())
    slopes(
        ready(name).float(),
        student,
        outputs({**teacher, **{key: 0 * teacher[key] for key in ("t1", "t2", "te")}}),
        batch_of(),
    )


@pytest.mark.parametrize("name", TEACHING)
def test_half_precision_inputs_are_computed_in_fp32(name: str) -> None:
    """Features and logits in bf16 give what their exact fp32 images give."""
    student, teacher = (tensors(arrays, torch.bfloat16) for arrays in values(9))
    method = ready(name).float()
    state = {key: value.clone() for key, value in method.state_dict().items()}
    half = method(outputs(student), outputs(teacher), batch_of())
    method.load_state_dict(state)
    full = method(outputs(tensors(student)), outputs(tensors(teacher)), batch_of())
    for term, value in full.items():
        assert half[term].dtype == torch.float32
        assert half[term].item() == pytest.approx(value.item(), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("name", [name for name in TEACHING if name not in ENTROPIC + WITH_A_PROJECTOR])
def test_equal_networks_have_nothing_to_learn_from_each_other(name: str) -> None:
    """Here the teacher's points have the student's values. The gradient, too, is next to nothing."""
    student, teacher = values(10)
    equal = {"logits": student["logits"], "t1": student["s1"], "t2": student["s2"], "te": student["e"]}
    if name == "simkd":
        equal["t2"] = student["s1"]
    fields = {} if name == "patient" else {"weight_ce": 0.0}
    sizes = []
    for taught_by in (equal, teacher):
        found = slopes(ready(name, **fields), tensors(student, torch.float64), outputs(taught_by), batch_of())
        terms = ready(name, **fields)(outputs(student), outputs(taught_by), batch_of())
        sizes.append(
            (sum(abs(term.item()) for term in terms.values()), max(s.abs().max().item() for s in found.values()))
        )
    (loss, slope), (usual_loss, usual_slope) = sizes
    assert loss < 1e-5 * usual_loss
    assert slope < 1e-5 * usual_slope


@pytest.mark.parametrize("name", [name for name in LOGITS if name != "dist"])
def test_two_classes_teach(name: str) -> None:
    student, teacher = (tensors(arrays) for arrays in values(11, classes=2))
    batch = Batch(torch.tensor([0, 1, 1, 0, 0, 1]), torch.arange(B), 30, 3)
    found = slopes(ready(name, classes=2).float(), student, outputs(teacher), batch)
    assert found["logits"].abs().sum() > 0


def test_between_two_classes_dkd_is_its_target_part_and_kd() -> None:
    student, teacher = values(12, classes=2)
    batch = Batch(torch.tensor([0, 1, 1, 0, 0, 1]), torch.arange(B), 30, 3)
    terms = ready("dkd", classes=2, weight_ce=0.0)(outputs(student), outputs(teacher), batch)
    assert set(terms) == {"target"}
    kd = ready("kd", weight_ce=0.0, weight_kd=1.0)(outputs(student), outputs(teacher), batch)["kd"]
    assert terms["target"].item() == pytest.approx(kd.item(), rel=1e-9)


@pytest.mark.parametrize("name", [*TEACHING, "none"])
def test_one_sample_is_defined_or_refused(name: str) -> None:
    student, teacher = (tensors(arrays) for arrays in values(13, batch=1))
    method, batch = ready(name).float(), batch_of(LABELS[:1])
    if name in RELATIONAL:
        with pytest.raises(MethodRefused, match="there is only one"):
            method(outputs(student), outputs(teacher), batch)
    elif name == "reviewkd":  # its batch norms cannot train on one sample of 1x1
        with pytest.raises(ValueError, match="more than 1 value"):
            method(outputs(student), outputs(teacher), batch)
    else:
        slopes(method, student, outputs(teacher), batch)


@pytest.mark.parametrize("name", STANDARDISING)
def test_standardised_logits_of_two_classes_are_refused_and_few_are_warned_of(name: str) -> None:
    with pytest.raises(MethodRefused, match="whatever the teacher thinks"):
        ready(name, classes=2, standardise=True)
    method = METHODS[name](standardise=True)
    for classes, warnings in ((3, 1), (20, 1), (21, 0)):
        setting = type("Setting", (), {"classes": classes})
        assert len(method.prepare(setting)) == warnings  # type: ignore[arg-type]
    assert not METHODS[name]().prepare(type("Setting", (), {"classes": 21})())  # type: ignore[arg-type]


def test_dist_of_two_classes_is_refused() -> None:
    with pytest.raises(MethodRefused, match="no gradient"):
        ready("dist", classes=2)


def test_crd_caps_its_negatives_and_needs_two_classes() -> None:
    method: Any = ready("crd", negatives=16_384)
    assert method.negatives == 12
    shapes: Any = type("Setting", (), {})()
    shapes.classes, shapes.labels = 3, torch.ones(9, dtype=torch.long)
    fresh = METHODS["crd"]()
    shapes.points = {tap: {"e": SHAPES["student"]["e"]} for tap in fresh.taps}
    with pytest.raises(MethodRefused, match="every sample is of one class"):
        fresh.prepare(shapes)
    shapes.labels = torch.tensor([0, 1, 2])
    assert "3 negatives" in fresh.prepare(shapes)[0]


def test_coinciding_embeddings_get_a_finite_gradient() -> None:
    """Where the student maps two samples to one place, distances and angles have no slope; a clamp's would be 1e12."""
    student, teacher = (tensors(arrays) for arrays in values(14))
    student["e"][1] = student["e"][0]
    found = slopes(ready("rkd").float(), student, outputs(teacher), batch_of())
    assert found["e"].abs().max() < 1e4


def test_a_rows_loss_does_not_depend_on_its_batch() -> None:
    """Batch means: twice the same batch is the same loss, where a sum over it would double."""
    student, teacher = values(15)
    for name in ("kd", "dkd", "nkd", "ofa"):
        fields = {"weight_feature": 0.0} if name == "ofa" else {}
        twice = [
            {key: np.concatenate([value, value]) for key, value in arrays.items()} for arrays in (student, teacher)
        ]
        one = ready(name, **fields)(outputs(student), outputs(teacher), batch_of())
        two = ready(name, **fields)(outputs(twice[0]), outputs(twice[1]), batch_of(np.concatenate([LABELS, LABELS])))
        assert {key: value.item() for key, value in two.items()} == pytest.approx(
            {key: value.item() for key, value in one.items()}, rel=1e-9
        )
