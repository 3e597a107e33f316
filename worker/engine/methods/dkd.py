"""Decoupled knowledge distillation: Zhao, Cui, Song, Qiu, Liang (CVPR 2022), equation 7."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from worker.engine.losses import divergence, others, soft_target_divergence, standardise, warm_up, wide
from worker.engine.method import Batch, Method, Outputs, Setting, check_standardised


class DecoupledDistillation(Method):
    """The divergence in two parts, each with its own weight: how sure of the label, and which other classes.

    The target part is that of the pair (p_label, 1 - p_label), the other one that of the softmax without the label.
    Both rise evenly over the first ``warmup_epochs``. Between two classes there is no second part.
    """

    def __init__(
        self,
        *,
        temperature: float = 4.0,
        weight_ce: float = 1.0,
        weight_kd: float = 1.0,
        weight_target: float = 1.0,
        weight_nontarget: float = 8.0,
        warmup_epochs: int = 20,
        standardise: bool = False,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.weight_ce = weight_ce
        self.weight_kd = weight_kd
        self.weight_target = weight_target
        self.weight_nontarget = weight_nontarget
        self.warmup_epochs = warmup_epochs
        self.standardise = standardise

    def prepare(self, setting: Setting) -> list[str]:
        warnings = check_standardised(setting) if self.standardise else []
        if setting.classes == 2:
            warnings.append("with two classes dkd has no non-target part: it equals kd, with weight_target")
        return warnings

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        assert teacher is not None
        ours, theirs = wide(student.logits), wide(teacher.logits.detach())
        if self.standardise:
            ours, theirs = standardise(ours), standardise(theirs)
        factor = self.weight_kd * warm_up(batch.epoch, self.warmup_epochs)
        target = target_divergence(ours, theirs, batch.labels, self.temperature)
        terms = {"target": factor * self.weight_target * target} if self.weight_target else {}
        if self.weight_nontarget and ours.shape[1] > 2:
            among = soft_target_divergence(others(ours, batch.labels), others(theirs, batch.labels), self.temperature)
            terms["nontarget"] = factor * self.weight_nontarget * among
        return {**terms, **self.supervised(student, batch)}


def target_divergence(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """T^2 KL of the pairs (p_label, 1 - p_label); 1 - p is a log-sum-exp over the others, never a difference."""
    ours, theirs = (_log_pair(logits / temperature, labels) for logits in (student, teacher))
    return divergence(ours, theirs) * temperature**2


def _log_pair(logits: Tensor, labels: Tensor) -> Tensor:
    """log (p_label, 1 - p_label): [B, 2]."""
    pair = torch.stack([logits.gather(1, labels[:, None])[:, 0], others(logits, labels).logsumexp(dim=1)], dim=1)
    return F.log_softmax(pair, dim=1)
