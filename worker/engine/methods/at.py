"""Attention transfer: Zagoruyko, Komodakis, "Paying More Attention to Attention" (ICLR 2017), section 3.1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from worker.engine.losses import same_size, unit
from worker.engine.method import Batch, FeatureMethod, Outputs


class AttentionTransfer(FeatureMethod):
    """Where the networks look: the mean squared distance of the normalised maps of mean squared activation.

    Summed over the stages. The mean over positions is the authors' code; their paper has the norm.
    """

    kind = "stages"

    def __init__(
        self,
        *,
        weight_ce: float = 1.0,
        weight_feature: float = 1000.0,
        student_points: Sequence[str] | None = None,
        teacher_points: Sequence[str] | None = None,
    ) -> None:
        super().__init__(student_points=student_points, teacher_points=teacher_points)
        self.weight_ce = weight_ce
        self.weight_feature = weight_feature

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        distances = [
            (attention(one) - attention(other)).square().mean()
            for one, other in (same_size(*pair) for pair in self.features(student, teacher))
        ]
        return {"feature": self.weight_feature * torch.stack(distances).sum(), **self.supervised(student, batch)}


def attention(maps: Tensor) -> Tensor:
    """[B, C, H, W] to [B, H W] of length 1."""
    return unit(maps.square().mean(dim=1).flatten(1), dim=1)
