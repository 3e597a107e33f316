"""Plain training: what teachers and the control learn with."""

from __future__ import annotations

from torch import Tensor

from worker.engine.method import Batch, Method, Outputs


class NoDistillation(Method):
    """Cross-entropy with the labels, in fp32."""

    needs_teacher = False

    def __init__(self, *, weight_ce: float = 1.0) -> None:
        super().__init__()
        self.weight_ce = weight_ce

    def forward(self, student: Outputs, _teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        return self.supervised(student, batch)
