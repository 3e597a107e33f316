"""Optimizers by name, and learning rates as plain arithmetic of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn, optim


class Schedule(Protocol):
    """What multiplies the base learning rate."""

    def factor(self, epoch: float, epochs: int) -> float:
        """At ``epoch`` epochs done (a fraction within one) of ``epochs``."""


@dataclass(frozen=True)
class Constant:
    """Always the base rate."""

    def factor(self, epoch: float, epochs: int) -> float:
        return 1.0


@dataclass(frozen=True)
class MultiStep:
    """Times ``gamma`` after each milestone epoch."""

    milestones: tuple[int, ...]
    gamma: float

    def factor(self, epoch: float, epochs: int) -> float:
        return float(self.gamma ** sum(epoch >= milestone for milestone in self.milestones))


@dataclass(frozen=True)
class Cosine:
    """Linear warm-up, then half a cosine down to ``final_fraction`` (Loshchilov, Hutter 2017, without restarts)."""

    warmup_epochs: int
    final_fraction: float

    def factor(self, epoch: float, epochs: int) -> float:
        if epoch < self.warmup_epochs:
            return epoch / self.warmup_epochs
        along = (epoch - self.warmup_epochs) / max(epochs - self.warmup_epochs, 1)
        return self.final_fraction + (1 - self.final_fraction) * (1 + math.cos(math.pi * min(along, 1.0))) / 2


def build_schedule(described: Mapping[str, Any]) -> Schedule:
    """From ``{name: multistep, milestones: …}`` and the like."""
    match dict(described):
        case {"name": "multistep", "milestones": milestones, "gamma": gamma}:
            return MultiStep(tuple(milestones), gamma)
        case {"name": "cosine", "warmup_epochs": warmup, "final_fraction": final}:
            return Cosine(warmup, final)
        case {"name": "constant"}:
            return Constant()
    raise ValueError(f"no schedule is described by {described}")


def build_optimizer(parameters: Iterable[nn.Parameter], described: Mapping[str, Any]) -> optim.Optimizer:
    """From ``{name: sgd, lr: …}`` and the like. Fused kernels: one pass over the weights for each step."""
    match dict(described):
        case {"name": "sgd", "lr": lr, "momentum": momentum, "weight_decay": decay, "nesterov": nesterov}:
            return optim.SGD(parameters, lr, momentum=momentum, weight_decay=decay, nesterov=nesterov, fused=True)
        case {"name": "adam", "lr": lr, "beta1": beta1, "beta2": beta2, "weight_decay": decay}:
            return optim.Adam(parameters, lr, betas=(beta1, beta2), weight_decay=decay, fused=True)
        case {"name": "adamw", "lr": lr, "beta1": beta1, "beta2": beta2, "weight_decay": decay}:
            return optim.AdamW(parameters, lr, betas=(beta1, beta2), weight_decay=decay, fused=True)
    raise ValueError(f"no optimizer is described by {described}")
