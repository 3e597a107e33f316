"""Multi-level logit distillation: Jin, Wang, Lin (CVPR 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from worker.engine.losses import soft_target_divergence, standardise, wide
from worker.engine.method import Batch, Method, Outputs, Setting, check_standardised, several


class MultiLevelDistillation(Method):
    """At several temperatures: the divergence for each sample, and the Gram matrices of the batch and of the classes.

    All of it on each of two ``views`` of an image, and so is the cross-entropy: the usual one, and one that is changed
    strongly (``worker.engine.strong``), for teacher and student alike. The terms of the views add up. With one view
    a step takes half as long.

    The authors' code differs in three things. Two of the strong view's divergences (at the outermost temperatures) read
    the usual view's logits there, and its Gram terms are computed and not added to the loss; here they are what they
    are called. Masks by the teacher's confidence, from the batch's median on, are applied there to a mean that is
    taken already, which leaves out no sample and halves the usual view's terms; here there are none.

    ``standardise`` concerns the divergence alone.
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
        views: int = 2,
    ) -> None:
        super().__init__()
        self.temperatures = tuple(temperatures)
        self.weight_ce = weight_ce
        self.weight_kd = weight_kd
        self.weights = {"instance": weight_instance, "batch": weight_batch, "class": weight_class}
        self.standardise = standardise
        self.strong_view = views > 1

    def prepare(self, setting: Setting) -> list[str]:
        return check_standardised(setting) if self.standardise else []

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        assert teacher is not None
        several(batch, "mlkd")
        terms = self._of_view(student, teacher, batch)
        if self.strong_view:
            assert student.strong is not None
            assert teacher.strong is not None
            again = self._of_view(student.strong, teacher.strong, batch)
            terms = {name: term + again[name] for name, term in terms.items()}
        return terms

    def _of_view(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
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
