"""Variational information distillation: Ahn, Hu, Damianou, Lawrence, Dai (CVPR 2019)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worker.engine.losses import same_size
from worker.engine.method import Batch, FeatureMethod, Outputs
from worker.engine.points import Shape

_INITIAL_VARIANCE, _LEAST_VARIANCE = 5.0, 1e-5


class VariationalInformation(FeatureMethod):
    """How well the student's stages predict the teacher's: a Gaussian with a learned mean and, for each channel, a
    learned variance. Half its negative log-likelihood, which may be below zero, mean over elements, sum over stages.
    """

    kind = "stages"

    def __init__(
        self,
        *,
        weight_ce: float = 1.0,
        weight_feature: float = 1.0,
        student_points: Sequence[str] | None = None,
        teacher_points: Sequence[str] | None = None,
    ) -> None:
        super().__init__(student_points=student_points, teacher_points=teacher_points)
        self.weight_ce = weight_ce
        self.weight_feature = weight_feature
        self.means = nn.ModuleList()
        self.scales = nn.ParameterList()

    def connect(self, index: int, ours: Shape, theirs: Shape) -> None:
        inner, outer = ours[0], theirs[0]
        self.means.append(
            nn.Sequential(
                nn.Conv2d(inner, outer, 1, bias=False),
                nn.ReLU(),
                nn.Conv2d(outer, outer, 1, bias=False),
                nn.ReLU(),
                nn.Conv2d(outer, outer, 1, bias=False),
            )
        )
        softplus_inverse = math.log(math.expm1(_INITIAL_VARIANCE - _LEAST_VARIANCE))
        self.scales.append(nn.Parameter(torch.full((outer,), softplus_inverse)))

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        losses = []
        pairs = self.features(student, teacher)
        for pair, mean, scale in zip(pairs, self.means, self.scales, strict=True):
            ours, theirs = same_size(*pair)
            variance = F.softplus(scale).view(1, -1, 1, 1) + _LEAST_VARIANCE
            losses.append(((mean(ours) - theirs).square() / variance + variance.log()).mean() / 2)
        return {"feature": self.weight_feature * torch.stack(losses).sum(), **self.supervised(student, batch)}
