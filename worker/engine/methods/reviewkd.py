"""Knowledge review: Chen, Liu, Zhao, Jia, "Distilling Knowledge via Knowledge Review" (CVPR 2021), section 3."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worker.engine.losses import pool_to, warm_up, wide
from worker.engine.method import Batch, FeatureMethod, Outputs, Setting, Tap
from worker.engine.points import Shape

_LEVELS = (4, 2, 1)


class KnowledgeReview(FeatureMethod):
    """Each stage of the teacher, before its activation, taught to the fusion of that stage and all later ones.

    From the embedding (a map of 1x1) downwards, attention mixes the fused later stages into each earlier one. The
    distance is taken at the map's own size and at 4x4, 2x2 and 1x1. Rises evenly over ``warmup_epochs``.
    """

    kind = "stages"
    teacher_kind = "preactivations"

    def __init__(
        self,
        *,
        weight_ce: float = 1.0,
        weight_feature: float = 1.0,
        warmup_epochs: int = 20,
        maximum_channels: int = 512,
        student_points: Sequence[str] | None = None,
        teacher_points: Sequence[str] | None = None,
    ) -> None:
        super().__init__(student_points=student_points, teacher_points=teacher_points)
        self.weight_ce = weight_ce
        self.weight_feature = weight_feature
        self.warmup_epochs = warmup_epochs
        self.maximum_channels = maximum_channels
        self.taps = (*self.taps, Tap("student", "embedding"), Tap("teacher", "embedding"))
        self.fusions = nn.ModuleList()
        self.shapes: list[tuple[Shape, Shape]] = []

    def prepare(self, setting: Setting) -> list[str]:
        super().prepare(setting)
        (ours, our_shape), (theirs, their_shape) = (next(iter(setting.points[tap].items())) for tap in self.taps[2:])
        self.pairs.append((ours, theirs))
        self.shapes.append((our_shape, their_shape))
        middle = min(self.maximum_channels, self.shapes[-1][0][0])
        for index, (one, other) in enumerate(self.shapes):
            last = index == len(self.shapes) - 1
            self.fusions.append(Fusion(one[0], middle, other[0], fuses=not last))
        return []

    def connect(self, index: int, ours: Shape, theirs: Shape) -> None:
        self.shapes.append((ours, theirs))

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        fused: Tensor | None = None
        losses = []
        for (ours, theirs), fusion in zip(
            reversed(self.features(student, teacher)), reversed(self.fusions), strict=True
        ):
            taught, fused = fusion(_as_map(ours), fused, _as_map(theirs).shape[-2:])
            losses.append(pyramid_distance(taught, _as_map(theirs)))
        factor = self.weight_feature * warm_up(batch.epoch, self.warmup_epochs)
        return {"feature": factor * torch.stack(losses).sum(), **self.supervised(student, batch)}


class Fusion(nn.Module):
    """One stage, mixed with the fused later ones by attention of two maps, and turned into the teacher's channels."""

    def __init__(self, inner: int, middle: int, outer: int, *, fuses: bool) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(inner, middle, 1, bias=False), nn.BatchNorm2d(middle))
        self.expand = nn.Sequential(nn.Conv2d(middle, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer))
        self.attend = nn.Sequential(nn.Conv2d(2 * middle, 2, 1), nn.Sigmoid()) if fuses else None
        for block in (self.reduce, self.expand):
            nn.init.kaiming_uniform_(block[0].weight, a=1)  # type: ignore[arg-type]

    def forward(self, stage: Tensor, later: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        maps = self.reduce(stage)
        if self.attend is not None and later is not None:
            later = F.interpolate(later, maps.shape[-2:], mode="nearest")
            shares = self.attend(torch.cat([maps, later], dim=1))
            maps = maps * shares[:, :1] + later * shares[:, 1:]
        if maps.shape[-2:] != size:
            maps = F.interpolate(maps, size, mode="nearest")
        return self.expand(maps), maps


def pyramid_distance(ours: Tensor, theirs: Tensor) -> Tensor:
    """Mean squared distances at the maps' own size and pooled to 4, 2 and 1, each level half as heavy; their mean."""
    total, weight, weights = F.mse_loss(ours, theirs), 1.0, 1.0
    for level in _LEVELS:
        if level < ours.shape[-2]:
            weight /= 2
            size = (level, min(level, ours.shape[-1]))
            total, weights = total + weight * F.mse_loss(pool_to(ours, size), pool_to(theirs, size)), weights + weight
    return total / weights


def _as_map(values: Tensor) -> Tensor:
    return wide(values)[:, :, None, None] if values.ndim == 2 else values
