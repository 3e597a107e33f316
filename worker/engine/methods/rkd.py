"""Relational knowledge distillation: Park, Kim, Lu, Cho (CVPR 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from worker.engine.losses import unit
from worker.engine.method import Batch, FeatureMethod, Outputs, several


class RelationalDistillation(FeatureMethod):
    """Distances of pairs, in units of their mean, and angles of triplets, of embeddings that are not normalised.

    Angles are as many as the samples cubed, so they are taken among the first ``angle_samples`` of a batch, whose
    order is random.
    """

    kind = "embedding"
    needs_maps = False
    relational = True

    def __init__(
        self,
        *,
        weight_ce: float = 1.0,
        weight_feature: float = 1.0,
        weight_distance: float = 25.0,
        weight_angle: float = 50.0,
        angle_samples: int = 128,
        student_points: Sequence[str] | None = None,
        teacher_points: Sequence[str] | None = None,
    ) -> None:
        super().__init__(student_points=student_points, teacher_points=teacher_points)
        self.weight_ce = weight_ce
        self.weight_feature = weight_feature
        self.weight_distance = weight_distance
        self.weight_angle = weight_angle
        self.angle_samples = angle_samples

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        several(batch, "rkd")
        pairs = [(ours.flatten(1), theirs.flatten(1)) for ours, theirs in self.features(student, teacher)]
        terms = {}
        if self.weight_distance:
            losses = [F.smooth_l1_loss(distances(ours), distances(theirs)) for ours, theirs in pairs]
            terms["distance"] = self.weight_feature * self.weight_distance * torch.stack(losses).sum()
        if self.weight_angle:
            few = self.angle_samples
            losses = [F.smooth_l1_loss(angles(ours[:few]), angles(theirs[:few])) for ours, theirs in pairs]
            terms["angle"] = self.weight_feature * self.weight_angle * torch.stack(losses).sum()
        return {**terms, **self.supervised(student, batch)}


def distances(vectors: Tensor) -> Tensor:
    """[B, D] to [B, B], over the mean of those that are not zero. By differences: squares would cancel."""
    found = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
    count = (found > 0).sum().clamp(min=1)
    return found / (found.sum() / count).clamp(min=1e-12)


def angles(vectors: Tensor) -> Tensor:
    """[B, D] to [B, B, B]: at each sample, the cosine of the angle between each two others."""
    towards = unit(vectors[None, :, :] - vectors[:, None, :], dim=2)
    return towards @ towards.transpose(1, 2)
