"""What a method is: a module whose forward returns the named terms of the loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass(frozen=True)
class Outputs:
    """What a network gives for a batch."""

    logits: Tensor
    """[B, classes], raw scores."""
    features: Mapping[str, Tensor] = field(default_factory=dict)
    """By feature point: maps [B, C, H, W] or vectors [B, D]."""


class Method(nn.Module):
    """What the student imitates. Its own parameters, if any, are trained along.

    The terms are already weighted; their sum is the loss.
    """

    needs_teacher: bool = True

    def forward(self, student: Outputs, teacher: Outputs | None, labels: Tensor) -> dict[str, Tensor]:
        """Scalar terms by name. ``labels`` are int64 [B]."""
        raise NotImplementedError
