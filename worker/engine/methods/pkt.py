"""Probabilistic knowledge transfer: Passalis, Tefas (ECCV 2018), with the cosine kernel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from worker.engine.losses import unit
from worker.engine.method import Batch, FeatureMethod, Outputs, several

_EPSILON = 1e-7


class ProbabilisticTransfer(FeatureMethod):
    """The divergence of the probabilities with which a sample picks each other one as its neighbour.

    The mean over all B^2 pairs, as in the authors' code, and so the large weight; its strength falls with 1 / B^2.
    """

    kind = "embedding"
    needs_maps = False
    relational = True

    def __init__(
        self,
        *,
        weight_ce: float = 1.0,
        weight_feature: float = 30_000.0,
        student_points: Sequence[str] | None = None,
        teacher_points: Sequence[str] | None = None,
    ) -> None:
        super().__init__(student_points=student_points, teacher_points=teacher_points)
        self.weight_ce = weight_ce
        self.weight_feature = weight_feature

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        several(batch, "pkt")
        losses = []
        for pair in self.features(student, teacher):
            ours, theirs = (neighbours(values.flatten(1)) for values in pair)
            losses.append((theirs * torch.log((theirs + _EPSILON) / (ours + _EPSILON))).mean())
        return {"feature": self.weight_feature * torch.stack(losses).sum(), **self.supervised(student, batch)}


def neighbours(vectors: Tensor) -> Tensor:
    """[B, D] to [B, B], rows that add up to 1."""
    lengths = unit(vectors, dim=1)
    likeness = (lengths @ lengths.T + 1) / 2
    return likeness / likeness.sum(dim=1, keepdim=True)
