"""FitNets: Romero, Ballas, Kahou, Chassang, Gatta, Bengio, "Hints for Thin Deep Nets" (ICLR 2015), equation 3."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worker.engine.losses import same_size
from worker.engine.method import Batch, FeatureMethod, Outputs
from worker.engine.points import Shape


class FitNet(FeatureMethod):
    """The squared distance of the student's middle stage, through a trained regressor, from the teacher's.

    Trained together with the labels in one stage, as the later literature does. The regressor is a convolution with
    batch norm and ReLU, or a linear layer between vectors.
    """

    kind = "middle"
    needs_maps = False

    def __init__(
        self,
        *,
        weight_ce: float = 1.0,
        weight_feature: float = 100.0,
        student_points: Sequence[str] | None = None,
        teacher_points: Sequence[str] | None = None,
    ) -> None:
        super().__init__(student_points=student_points, teacher_points=teacher_points)
        self.weight_ce = weight_ce
        self.weight_feature = weight_feature
        self.regressors = nn.ModuleList()

    def connect(self, index: int, ours: Shape, theirs: Shape) -> None:
        self.regressors.append(regressor(ours, theirs))

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        distances = [
            F.mse_loss(*same_size(through(ours), theirs)) if theirs.ndim == 4 else F.mse_loss(through(ours), theirs)
            for (ours, theirs), through in zip(self.features(student, teacher), self.regressors, strict=True)
        ]
        return {"feature": self.weight_feature * torch.stack(distances).sum(), **self.supervised(student, batch)}


def regressor(ours: Shape, theirs: Shape) -> nn.Module:
    """From the student's shape to the teacher's. Maps twice or half as large are strided; others are pooled alike."""
    if len(theirs) != 3:
        return nn.Linear(ours[-1], theirs[-1])
    (inner, *size), (outer, *wanted) = ours, theirs
    convolution: nn.Module
    if size == [2 * side for side in wanted]:
        convolution = nn.Conv2d(inner, outer, 3, stride=2, padding=1, bias=False)
    elif wanted == [2 * side for side in size]:
        convolution = nn.ConvTranspose2d(inner, outer, 4, stride=2, padding=1, bias=False)
    else:
        convolution = nn.Conv2d(inner, outer, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outer), nn.ReLU())
