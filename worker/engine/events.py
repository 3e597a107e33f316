"""What a training tells whoever iterates it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class StepFinished:
    """One step is done; nothing was read from the device."""

    epoch: int
    """Counted from 1."""
    step: int
    """Steps done in this epoch."""
    steps: int


@dataclass(frozen=True)
class Progress:
    """Every so many steps: the means since the last one."""

    epoch: int
    epochs: int
    step: int
    steps: int
    global_step: int
    metrics: Mapping[str, float]
    images_per_second: float


@dataclass(frozen=True)
class EpochFinished:
    """The means of an epoch, and the validation split's figures after it."""

    epoch: int
    epochs: int
    metrics: Mapping[str, float]


Event = StepFinished | Progress | EpochFinished
