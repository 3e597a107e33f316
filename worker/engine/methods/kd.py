"""Knowledge distillation: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network" (2015)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from worker.engine.method import Method, Outputs


def soft_target_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of the softmaxes at temperature T: sum over classes, mean over the batch.

    Logits [B, C] of any precision; computed in fp32 and in log space, so margins of a thousand stay finite. T^2 keeps
    the gradient's size independent of T (section 2 of the paper).
    """
    log_student = F.log_softmax(student.float() / temperature, dim=1)
    log_teacher = F.log_softmax(teacher.detach().float() / temperature, dim=1)
    return F.kl_div(log_student, log_teacher, log_target=True, reduction="batchmean") * temperature**2


class KnowledgeDistillation(Method):
    """Cross-entropy with the labels plus the divergence from the teacher's soft targets."""

    def __init__(self, *, temperature: float = 4.0, weight_ce: float = 0.1, weight_kd: float = 0.9) -> None:
        super().__init__()
        self.temperature = temperature
        self.weight_ce = weight_ce
        self.weight_kd = weight_kd

    def forward(self, student: Outputs, teacher: Outputs | None, labels: Tensor) -> dict[str, Tensor]:
        assert teacher is not None
        terms = {"kd": self.weight_kd * soft_target_divergence(student.logits, teacher.logits, self.temperature)}
        if self.weight_ce > 0:
            terms["ce"] = self.weight_ce * F.cross_entropy(student.logits.float(), labels)
        return terms
