"""Plain training: what teachers and the control learn with."""

from __future__ import annotations

from torch import Tensor

from worker.engine.method import Batch, Method, Outputs


class NoDistillation(Method):
    """Cross-entropy with the labels, in fp32; with two ``views`` the mean over both."""

    needs_teacher = False

    def __init__(self, *, weight_ce: float = 1.0, views: int = 1) -> None:
        super().__init__()
        self.weight_ce = weight_ce
        self.strong_view = views > 1

    def forward(self, student: Outputs, _teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        terms = self.supervised(student, batch)
        if not self.strong_view:
            return terms
        assert student.strong is not None
        return {name: (term + self.supervised(student.strong, batch)[name]) / 2 for name, term in terms.items()}
