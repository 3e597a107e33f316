"""Contrastive distillation against its formula, and what it draws."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine import formulas, formulas_learned
from tests.engine.made import TRAIN_LABELS, Arrays, B, batch_of, outputs, ready, values, weights
from worker.engine.method import Batch


def drawn(method: Any, batch: Batch) -> np.ndarray:
    """The negatives of each sample, from their counts."""
    counts = method._drawn(batch).numpy().astype(int)
    return np.array([np.repeat(np.arange(len(row)), row) for row in counts])


class Contrast:
    """CRD by its formula, at the state in which ``method`` stands."""

    def __init__(self, method: Any, batch: Batch) -> None:
        self.weights = {name: value.copy() for name, value in weights(method).items()}
        self.negatives = drawn(method, batch)
        self.zs: list[float | None] = [self.weights["our_normaliser"], self.weights["their_normaliser"]]
        self.zs = [z if z > 0 else None for z in self.zs]  # type: ignore[operator]

    def embed(self, vectors: np.ndarray, side: int) -> np.ndarray:
        weight, bias = (self.weights[f"embeddings.{side}.1.{name}"] for name in ("weight", "bias"))
        flat = vectors @ weight.T + bias
        return np.asarray(flat / np.sqrt((flat**2).sum(axis=1, keepdims=True)))

    def loss(self, student: Arrays, teacher: Arrays) -> float:
        """Sets Z where the state has none."""
        total, own = 0.0, np.arange(B)
        for side, (vectors, bank) in enumerate(((student["e"], "their_bank"), (teacher["te"], "our_bank"))):
            found, z = formulas_learned.nce(
                self.embed(vectors, side), self.weights[bank], own, self.negatives, 0.07, self.zs[side]
            )
            self.zs[side] = z
            total += 0.8 * found
        return total


def test_crd_is_the_formula_in_its_first_step_and_in_the_next() -> None:
    """Z is set by the first batch and kept; the banks move by half towards the new embeddings."""
    method: Any = ready("crd", weight_ce=0.0, dimensions=3, negatives=8)
    for epoch in (1, 2):
        student, teacher = values(20 + epoch)
        formula = Contrast(method, batch_of(epoch=epoch))
        expected = formula.loss(student, teacher)
        given = {key: torch.tensor(value, requires_grad=True) for key, value in student.items()}
        loss = method(outputs(given), outputs(teacher), batch_of(epoch=epoch))["feature"]
        loss.backward()
        assert loss.item() == pytest.approx(expected, rel=1e-6)
        slopes = formulas.gradient(partial(formula.loss, teacher=teacher), student, "e")
        assert given["e"].grad is not None
        np.testing.assert_allclose(given["e"].grad.numpy(), slopes, rtol=1e-6, atol=1e-6 * np.abs(slopes).max())
        old = formula.weights["our_bank"]
        moved = 0.5 * old[:B] + 0.5 * formula.embed(student["e"], 0)
        moved /= np.sqrt((moved**2).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(method.our_bank.numpy()[:B], moved, rtol=1e-6)
        np.testing.assert_array_equal(method.our_bank.numpy()[B:], old[B:])


def test_crd_draws_from_other_classes_alone_evenly_and_by_sample() -> None:
    method: Any = ready("crd", negatives=12)
    batch = batch_of()
    counts = sum(method._drawn(Batch(batch.labels, batch.samples, epoch, 3)) for epoch in range(200))
    for row, label in zip(counts, batch.labels, strict=True):
        others = label != TRAIN_LABELS
        assert row[~others].sum() == 0
        assert row[others].min() > 0.75 * row[others].mean()
        assert row.sum() == 200 * 12
    swapped = Batch(batch.labels.flip(0), batch.samples.flip(0), 5, 3)
    assert torch.equal(method._drawn(swapped).flip(0), method._drawn(Batch(batch.labels, batch.samples, 5, 3)))
