"""Knowledge distillation: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network" (2015)."""

from __future__ import annotations

from torch import Tensor

from worker.engine.losses import soft_target_divergence, standardise
from worker.engine.method import Batch, Method, Outputs, Setting, check_standardised


class KnowledgeDistillation(Method):
    """Cross-entropy with the labels plus the divergence from the teacher's soft targets.

    ``standardise``: of standardised logits (Sun, Ren, Li, Wang, Cao 2024, "Logit Standardization in Knowledge
    Distillation"); their reference is temperature 2 and weight_kd 9.
    """

    def __init__(
        self, *, temperature: float = 4.0, weight_ce: float = 0.1, weight_kd: float = 0.9, standardise: bool = False
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.weight_ce = weight_ce
        self.weight_kd = weight_kd
        self.standardise = standardise

    def prepare(self, setting: Setting) -> list[str]:
        return check_standardised(setting) if self.standardise else []

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        assert teacher is not None
        ours, theirs = student.logits, teacher.logits
        if self.standardise:
            ours, theirs = standardise(ours), standardise(theirs)
        terms = {"kd": self.weight_kd * soft_target_divergence(ours, theirs, self.temperature)}
        return {**terms, **self.supervised(student, batch)}
