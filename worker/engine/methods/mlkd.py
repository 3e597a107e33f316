"""Multi-level logit distillation: Jin, Wang, Lin (CVPR 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from worker.engine.losses import soft_target_divergence, standardise, wide
from worker.engine.method import Batch, Method, Outputs, Setting, check_standardised, several


class MultiLevelDistillation(Method):
    """At several temperatures: the divergence for each sample, and the Gram matrices of the batch and of the classes.

    On the view that the augmentation gives; the authors' code adds a second, stronger one, and masks that leave out
    no sample but halve the terms. ``standardise`` concerns the divergence alone.
    """

    relational = True

    def __init__(
        self,
        *,
        temperatures: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.0),
        weight_ce: float = 0.1,
        weight_kd: float = 0.9,
        weight_instance: float = 1.0,
        weight_batch: float = 1.0,
        weight_class: float = 1.0,
        standardise: bool = False,
    ) -> None:
        super().__init__()
        self.temperatures = tuple(temperatures)
        self.weight_ce = weight_ce
        self.weight_kd = weight_kd
        self.weights = {"instance": weight_instance, "batch": weight_batch, "class": weight_class}
        self.standardise = standardise

    def prepare(self, setting: Setting) -> list[str]:
        return check_standardised(setting) if self.standardise else []

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        assert teacher is not None
        several(batch, "mlkd")
        ours, theirs = wide(student.logits), wide(teacher.logits.detach())
        terms: dict[str, Tensor] = {}
        for temperature in self.temperatures:
            for name, loss in self._levels(ours, theirs, temperature).items():
                terms[name] = terms[name] + loss if name in terms else loss
        weighed = {name: self.weight_kd * self.weights[name] * loss for name, loss in terms.items()}
        return {
            **{name: loss for name, loss in weighed.items() if self.weights[name]},
            **self.supervised(student, batch),
        }

    def _levels(self, ours: Tensor, theirs: Tensor, temperature: float) -> dict[str, Tensor]:
        instance = (standardise(ours), standardise(theirs)) if self.standardise else (ours, theirs)
        one, other = (F.softmax(logits / temperature, dim=1) for logits in (ours, theirs))
        return {
            "instance": soft_target_divergence(*instance, temperature),
            "batch": (one @ one.T - other @ other.T).square().sum() / one.shape[0],
            "class": (one.T @ one - other.T @ other).square().sum() / one.shape[1],
        }
