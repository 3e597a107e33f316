"""One-for-all distillation: Hao, Guo, Han, Tang, Hu, Wang, Xu (NeurIPS 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worker.engine.losses import wide
from worker.engine.method import Batch, Method, Outputs, Setting, Tap
from worker.engine.points import Shape


class OneForAll(Method):
    """Between architectures of any kind: the student's stages are taught in the space of logits.

    Each of ``student_points`` gets a small head of its own, trained along and dropped with the method. The teacher
    gives logits alone, so a black box will do. ``exponent`` strengthens the label's part of the teacher's word.
    """

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        exponent: float = 1.0,
        weight_ce: float = 1.0,
        weight_kd: float = 1.0,
        weight_feature: float = 1.0,
        student_points: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.exponent = exponent
        self.weight_ce = weight_ce
        self.weight_kd = weight_kd
        self.weight_feature = weight_feature
        self.taps = (Tap("student", "stages", tuple(student_points or ())),) if weight_feature else ()
        self.points: list[str] = []
        self.heads = nn.ModuleList()

    def prepare(self, setting: Setting) -> list[str]:
        for tap in self.taps:
            self.points = list(setting.points[tap])
            self.heads = nn.ModuleList(_head(shape, setting.classes) for shape in setting.points[tap].values())
        return []

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        assert teacher is not None
        theirs = wide(teacher.logits.detach())
        terms = {}
        if self.weight_kd:
            terms["kd"] = self.weight_kd * self._towards(student.logits, theirs, batch.labels)
        for point, head in zip(self.points, self.heads, strict=True):
            logits = head(wide(student.features[point]))
            term = self.weight_feature * self._towards(logits, theirs, batch.labels)
            terms["feature"] = terms["feature"] + term if "feature" in terms else term
        return {**terms, **self.supervised(student, batch)}

    def _towards(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """-T^2 mean of sum_c [(p_teacher + 1_label)^exponent - 1_label] log p_student."""
        classes = torch.arange(teacher.shape[1], device=labels.device)  # one_hot would read values on the host
        label = (labels[:, None] == classes).to(teacher.dtype)
        wanted = (F.softmax(teacher / self.temperature, dim=1) + label) ** self.exponent - label
        crossed = -(wanted * F.log_softmax(wide(student) / self.temperature, dim=1)).sum(dim=1)
        return self.temperature**2 * crossed.mean()


class _Pooled(nn.Module):
    """The mean over all positions: of a map [B, C, H, W], of tokens [B, N, D] over the tokens."""

    def forward(self, values: Tensor) -> Tensor:
        if values.ndim == 4:
            return values.mean(dim=(2, 3))
        return values.mean(dim=1) if values.ndim == 3 else values


def _head(shape: Shape, classes: int) -> nn.Module:
    width = shape[-1] if len(shape) == 2 else shape[0]
    mixed: list[nn.Module] = []
    if len(shape) == 3:
        mixed = [nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*mixed, _Pooled(), nn.Linear(width, classes))
