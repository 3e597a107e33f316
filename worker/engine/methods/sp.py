"""Similarity-preserving distillation: Tung, Mori (ICCV 2019), equations 1 to 4."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from worker.engine.losses import unit
from worker.engine.method import Batch, FeatureMethod, Outputs, several


class SimilarityPreserving(FeatureMethod):
    """The squared distance of the matrices that say how alike the batch's samples are, rows normalised, over B^2."""

    kind = "last"
    needs_maps = False
    relational = True

    def __init__(
        self,
        *,
        weight_ce: float = 1.0,
        weight_feature: float = 3000.0,
        student_points: Sequence[str] | None = None,
        teacher_points: Sequence[str] | None = None,
    ) -> None:
        super().__init__(student_points=student_points, teacher_points=teacher_points)
        self.weight_ce = weight_ce
        self.weight_feature = weight_feature

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        several(batch, "sp")
        distances = [
            (likeness(ours) - likeness(theirs)).square().mean() for ours, theirs in self.features(student, teacher)
        ]
        return {"feature": self.weight_feature * torch.stack(distances).sum(), **self.supervised(student, batch)}


def likeness(values: Tensor) -> Tensor:
    """[B, ...] to [B, B]."""
    flat = values.flatten(1)
    return unit(flat @ flat.T, dim=1)
