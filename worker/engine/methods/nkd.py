"""Normalised knowledge distillation: Yang, Zeng, Li, Zhang, Yuan, Li (ICCV 2023)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from worker.engine.losses import others, wide
from worker.engine.method import Batch, Method, Outputs, Setting


class NormalisedDistillation(Method):
    """Cross-entropies, not divergences: with the teacher's probability of the label, and among the other classes.

    The target part is at temperature 1, the other at ``temperature``, squared. Neither is zero for equal networks:
    both hold the teacher's entropy. Between two classes there is no second part.
    """

    def __init__(
        self,
        *,
        temperature: float = 3.0,
        weight_ce: float = 1.0,
        weight_kd: float = 1.0,
        weight_target: float = 1.0,
        weight_nontarget: float = 3.5,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.weight_ce = weight_ce
        self.weight_kd = weight_kd
        self.weight_target = weight_target
        self.weight_nontarget = weight_nontarget

    def prepare(self, setting: Setting) -> list[str]:
        if setting.classes == 2:
            return ["with two classes nkd has no non-target part: only weight_target and weight_ce act"]
        return []

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        assert teacher is not None
        ours, theirs = wide(student.logits), wide(teacher.logits.detach())
        places = batch.labels[:, None]
        log_ours, log_theirs = (F.log_softmax(logits, dim=1).gather(1, places) for logits in (ours, theirs))
        terms = {}
        if self.weight_target:
            terms["target"] = self.weight_kd * self.weight_target * -(log_theirs.exp() * log_ours).mean()
        if self.weight_nontarget and ours.shape[1] > 2:
            others_ours, others_theirs = (others(logits, batch.labels) / self.temperature for logits in (ours, theirs))
            crossed = -(F.softmax(others_theirs, dim=1) * F.log_softmax(others_ours, dim=1)).sum(dim=1).mean()
            terms["nontarget"] = self.weight_kd * self.weight_nontarget * self.temperature**2 * crossed
        return {**terms, **self.supervised(student, batch)}
