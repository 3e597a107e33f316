"""DIST: Huang, You, Wang, Qian, Xu, "Knowledge Distillation from A Stronger Teacher" (NeurIPS 2022)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from worker.engine.errors import MethodRefused
from worker.engine.losses import wide
from worker.engine.method import Batch, Method, Outputs, Setting, several


class CorrelationDistillation(Method):
    """One minus the correlation of the probabilities: over classes for each sample, over samples for each class."""

    relational = True

    def __init__(
        self,
        *,
        temperature: float = 4.0,
        weight_ce: float = 1.0,
        weight_kd: float = 2.0,
        weight_inter: float = 1.0,
        weight_intra: float = 1.0,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.weight_ce = weight_ce
        self.weight_kd = weight_kd
        self.weight_inter = weight_inter
        self.weight_intra = weight_intra

    def prepare(self, setting: Setting) -> list[str]:
        if setting.classes == 2:
            raise MethodRefused(
                "with two classes the correlation over classes is always 1 or -1 and has no gradient, "
                "so dist would teach nothing there.",
                remedy="Use kd.",
            )
        return []

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        assert teacher is not None
        several(batch, "dist")
        ours = F.softmax(wide(student.logits) / self.temperature, dim=1)
        theirs = F.softmax(wide(teacher.logits.detach()) / self.temperature, dim=1)
        factor = self.weight_kd * self.temperature**2
        terms = {}
        if self.weight_inter:
            terms["inter"] = factor * self.weight_inter * (1 - correlation(ours, theirs)).mean()
        if self.weight_intra:
            terms["intra"] = factor * self.weight_intra * (1 - correlation(ours.T, theirs.T)).mean()
        return {**terms, **self.supervised(student, batch)}


def correlation(one: Tensor, other: Tensor) -> Tensor:
    """Pearson's, row by row: [R, N], [R, N] to [R]. A row that is constant correlates with nothing: 0."""
    one, other = (rows - rows.mean(dim=1, keepdim=True) for rows in (one, other))
    lengths = torch.linalg.vector_norm(one, dim=1) * torch.linalg.vector_norm(other, dim=1)
    found: Tensor = (one * other).sum(dim=1) / (lengths + 1e-8)
    return found
