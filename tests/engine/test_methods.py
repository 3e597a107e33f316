"""Each method against an independent reference, at extremes, and under laws that all must obey."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from worker.engine.method import Outputs
from worker.engine.methods import METHODS
from worker.engine.methods.kd import KnowledgeDistillation, soft_target_divergence

RNG = np.random.default_rng(0)


def reference_kd(student: np.ndarray, teacher: np.ndarray, temperature: float) -> tuple[float, np.ndarray]:
    """T^2 KL and its gradient T (p_student - p_teacher) / B, in float64 numpy."""

    def log_softmax(logits: np.ndarray) -> np.ndarray:
        shifted = logits / temperature - (logits / temperature).max(axis=1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))

    ours, theirs = log_softmax(student), log_softmax(teacher)
    loss = temperature**2 * (np.exp(theirs) * (theirs - ours)).sum(axis=1).mean()
    gradient = temperature * (np.exp(ours) - np.exp(theirs)) / len(student)
    return float(loss), gradient


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
@pytest.mark.parametrize(("batch", "classes"), [(1, 2), (7, 10), (64, 100)])
def test_kd_and_its_gradient_match_the_formula(batch: int, classes: int, temperature: float) -> None:
    student, teacher = RNG.normal(0, 3, (2, batch, classes))
    given = torch.tensor(student, dtype=torch.float32, requires_grad=True)
    loss = soft_target_divergence(given, torch.tensor(teacher, dtype=torch.float32), temperature)
    loss.backward()
    expected, gradient = reference_kd(
        student.astype(np.float32).astype(float), teacher.astype(np.float32).astype(float), temperature
    )
    assert given.grad is not None
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    np.testing.assert_allclose(given.grad.numpy(), gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("margin", [100.0, 1000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kd_stays_finite_at_extreme_margins(margin: float, dtype: torch.dtype) -> None:
    student = torch.tensor([[margin, 0.0], [0.0, margin]], dtype=dtype, requires_grad=True)
    loss = soft_target_divergence(student, torch.tensor([[0.0, margin], [0.0, margin]], dtype=dtype), 1.0)
    loss.backward()
    assert student.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()


def test_kd_of_equal_networks_is_zero() -> None:
    logits = torch.randn(5, 10)
    assert soft_target_divergence(logits, logits, 4.0).item() == pytest.approx(0, abs=1e-6)


def test_the_weights_multiply_the_terms() -> None:
    logits, taught, labels = torch.randn(4, 10), torch.randn(4, 10), torch.arange(4)
    one = KnowledgeDistillation(weight_ce=1, weight_kd=1)(Outputs(logits), Outputs(taught), labels)
    many = KnowledgeDistillation(weight_ce=0.1, weight_kd=9)(Outputs(logits), Outputs(taught), labels)
    assert many["kd"].item() == pytest.approx(9 * one["kd"].item(), rel=1e-5)
    assert many["ce"].item() == pytest.approx(0.1 * one["ce"].item(), rel=1e-5)


def test_a_term_of_no_weight_is_left_out() -> None:
    terms = KnowledgeDistillation(weight_ce=0)(
        Outputs(torch.randn(4, 3)), Outputs(torch.randn(4, 3)), torch.arange(3).repeat(2)[:4]
    )
    assert list(terms) == ["kd"]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_finite_and_teaches_the_student_alone(name: str) -> None:
    student = torch.randn(8, 10, requires_grad=True)
    teacher = torch.randn(8, 10, requires_grad=True)
    terms = METHODS[name]()(Outputs(student), Outputs(teacher), torch.arange(8))
    assert terms
    for term in terms.values():
        assert term.ndim == 0
        assert term.dtype == torch.float32
        (gradient,) = torch.autograd.grad(term, student, retain_graph=True)
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum() > 0
    torch.stack(list(terms.values())).sum().backward()
    assert teacher.grad is None
