"""Each loss and its gradient against formulas in float64, at extremes, and against torchdistill where that is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine import formulas, formulas_learned
from tests.engine.made import LABELS, PAIRS, TRAIN_LABELS, Arrays, B, C, batch_of, outputs, ready, values, weights
from worker.engine.method import Setting
from worker.engine.methods import METHODS

Reference = Callable[[Arrays, Arrays, Arrays], float]
Y = LABELS
CASES: dict[str, tuple[str, dict[str, Any], Reference]] = {
    "kd": ("kd", {}, lambda s, t, _: 0.1 * formulas.ce(s, Y) + 0.9 * formulas.kl(s["logits"], t["logits"], 4)),
    "kd standardised": (
        "kd",
        {"standardise": True, "temperature": 2.0, "weight_ce": 0.0, "weight_kd": 9.0},
        lambda s, t, _: 9 * formulas.kl(formulas.zscore(s["logits"]), formulas.zscore(t["logits"]), 2),
    ),
    "dkd": (
        "dkd",
        {"weight_target": 1.5},
        lambda s, t, _: (
            formulas.ce(s, Y)
            + 1.5 * formulas.tckd(s["logits"], t["logits"], Y, 4)
            + 8 * formulas.kl(formulas.without(s["logits"], Y), formulas.without(t["logits"], Y), 4)
        ),
    ),
    "nkd": (
        "nkd",
        {"weight_ce": 0.0},
        lambda s, t, _: np.dot((1, 3.5), formulas.nkd(s, t, Y, 3)),
    ),
    "dist": (
        "dist",
        {"weight_ce": 0.0, "weight_intra": 0.7},
        lambda s, t, _: 2 * np.dot((1, 0.7), formulas.dist(s["logits"], t["logits"], 4)),
    ),
    "mlkd": (
        "mlkd",
        {"weight_ce": 0.0, "weight_kd": 1.0, "weight_batch": 0.5, "weight_class": 2.0},
        lambda s, t, _: np.dot((1, 0.5, 2), formulas.mlkd(s["logits"], t["logits"], (2, 3, 4, 5, 6))),
    ),
    "ofa": (
        "ofa",
        {"exponent": 1.4, "temperature": 2.0, "weight_feature": 0.0, "weight_ce": 0.0},
        lambda s, t, _: formulas.ofa(s["logits"], t["logits"], Y, 1.4, 2),
    ),
    "ofa's heads": (
        "ofa",
        {"exponent": 1.4, "temperature": 2.0, "weight_feature": 3.0, "weight_ce": 0.0, "weight_kd": 0.0},
        lambda s, t, w: 3 * formulas_learned.ofa_stages(s, t["logits"], ("s1", "s2"), w, Y, 1.4, 2),
    ),
    "patient": ("patient", {}, lambda s, t, _: formulas.kl(s["logits"], t["logits"], 1)),
    "fitnet": ("fitnet", {"weight_ce": 0.0}, lambda s, t, w: 100 * formulas_learned.fitnet(s["s1"], t["t1"], w, 1)),
    "at": ("at", {"weight_ce": 0.0}, lambda s, t, _: 1000 * formulas.at(s, t, PAIRS)),
    "sp": ("sp", {"weight_ce": 0.0}, lambda s, t, _: 3000 * formulas.sp(s["s2"], t["t2"])),
    "rkd": ("rkd", {"weight_ce": 0.0}, lambda s, t, _: np.dot((25, 50), formulas.rkd(s["e"], t["te"]))),
    "pkt": ("pkt", {"weight_ce": 0.0}, lambda s, t, _: 30_000 * formulas.pkt(s["e"], t["te"])),
    "simkd": ("simkd", {}, lambda s, t, _: float(((s["s1"] - t["t2"]) ** 2).mean())),
    "vid": ("vid", {"weight_ce": 0.0}, lambda s, t, w: formulas_learned.vid(s, t, PAIRS, w)),
    "reviewkd": (
        "reviewkd",
        {"weight_ce": 0.0, "weight_feature": 5.0, "maximum_channels": 3},
        lambda s, t, w: 5 * formulas_learned.reviewkd(s, t, [*PAIRS, ("e", "te")], w),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_loss_and_its_gradient_are_the_formulas(case: str) -> None:
    """To 1e-6 of the size of each, in every entry of what the student gives."""
    name, fields, formula = CASES[case]
    student, teacher = values(1)
    method = ready(name, **fields)
    w = weights(method)
    given = {key: torch.tensor(value, requires_grad=True) for key, value in student.items()}
    loss = torch.stack(list(method(outputs(given), outputs(teacher), batch_of()).values())).sum()
    assert loss.item() == pytest.approx(float(formula(student, teacher, w)), rel=1e-6)
    loss.backward()
    reached = {key: value.grad.numpy() for key, value in given.items() if value.grad is not None}
    assert reached
    for key, ours in reached.items():
        expected = formulas.gradient(lambda moved: float(formula(moved, teacher, w)), student, key)
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max(), err_msg=key)


def test_every_method_is_held_to_its_formula() -> None:
    assert {name for name, _, _ in CASES.values()} | {"crd", "none"} == set(METHODS)


def test_the_regressor_of_a_map_twice_as_large_strides() -> None:
    student, teacher = values(2)
    method = ready("fitnet", student_points=["s1"], teacher_points=["t1"], weight_ce=0.0)
    method.regressors = torch.nn.ModuleList()
    method.connect(0, (2, 4, 4), (3, 2, 2))
    method.double()
    small = {**teacher, "t1": teacher["t1"][:, :, :2, :2]}
    term = method(outputs(student), outputs(small), batch_of())["feature"]
    assert term.item() == pytest.approx(
        100 * formulas_learned.fitnet(student["s1"], small["t1"], weights(method), 2), rel=1e-6
    )


def test_ofas_heads_of_vectors_and_of_tokens_are_the_formulas() -> None:
    """Gradients too, of what the student gives and of the heads' own weights."""
    rng = np.random.default_rng(3)
    shapes = {"e": (4,), "tokens": (3, 4)}
    student = {name: rng.normal(0, 1, (B, *shape)) for name, shape in shapes.items()} | values(3)[0]
    teacher = values(3)[1]
    method = METHODS["ofa"](weight_ce=0.0, weight_kd=0.0, student_points=list(shapes))
    torch.manual_seed(1)
    method.prepare(Setting(C, TRAIN_LABELS, {method.taps[0]: shapes}))
    method.double()
    w = weights(method)
    student = {name: student[name] for name in (*shapes, "logits")}
    given = {key: torch.tensor(value, requires_grad=True) for key, value in student.items()}

    def formula(s: Arrays, w: Arrays) -> float:
        return formulas_learned.ofa_stages(s, teacher["logits"], tuple(shapes), w, Y, 1, 1)

    term = method(outputs(given), outputs(teacher), batch_of())["feature"]
    assert term.item() == pytest.approx(formula(student, w), rel=1e-6)
    term.backward()
    for key in shapes:
        expected = formulas.gradient(lambda moved: formula(moved, w), student, key)
        np.testing.assert_allclose(given[key].grad, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    for key, parameter in method.named_parameters():
        expected = formulas.gradient(lambda moved: formula(student, moved), w, key)
        np.testing.assert_allclose(parameter.grad, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def test_dkd_with_the_teachers_own_weight_is_kd() -> None:
    """The identity of the paper's equation 6, sample by sample: KD = TCKD + (1 - p_label) NCKD."""
    student, teacher = values(4, batch=1)
    share = 1 - formulas.softmax(teacher["logits"] / 4)[0, 2]
    batch = batch_of(np.array([2]))
    one = ready("dkd", weight_ce=0.0, weight_nontarget=float(share))(outputs(student), outputs(teacher), batch)
    other = ready("kd", weight_ce=0.0, weight_kd=1.0)(outputs(student), outputs(teacher), batch)
    assert sum(term.item() for term in one.values()) == pytest.approx(other["kd"].item(), rel=1e-9)


@pytest.mark.parametrize("name", ["dkd", "reviewkd"])
def test_the_warm_up_rises_evenly_and_ends(name: str) -> None:
    method = ready(name, weight_ce=0.0)
    student, teacher = (outputs(arrays) for arrays in values(5))
    first, tenth, late, later = (
        sum(term.item() for term in method(student, teacher, batch_of(epoch=epoch)).values())
        for epoch in (1, 10, 20, 200)
    )
    assert (first * 20, tenth * 2) == pytest.approx((late, late), rel=1e-9)
    assert late == later
