"""Plain training: what teachers and the control learn with."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from worker.engine.method import Method, Outputs


class NoDistillation(Method):
    """Cross-entropy with the labels, in fp32."""

    needs_teacher = False

    def __init__(self, *, weight_ce: float = 1.0) -> None:
        super().__init__()
        self.weight_ce = weight_ce

    def forward(self, student: Outputs, _teacher: Outputs | None, labels: Tensor) -> dict[str, Tensor]:
        return {"ce": self.weight_ce * F.cross_entropy(student.logits.float(), labels)}
