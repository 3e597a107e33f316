"""Where a teacher's outputs come from. The loop cannot tell one source from another."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from worker.engine.blackbox import BlackBox
from worker.engine.ensemble import Ensemble
from worker.engine.method import Batch, Outputs
from worker.engine.network import Network
from worker.engine.precision import Precision


class TeacherSource(Protocol):
    """A signal to imitate."""

    def outputs(self, images: Tensor, batch: Batch) -> Outputs:
        """For float images [B, C, H, W] in 0 to 1, those of ``batch``, without gradient."""

    def fingerprint(self) -> str:
        """Changes when the source does."""


class LiveTeacher:
    """A network, or several: frozen, in evaluation mode, computed in the training's precision."""

    def __init__(self, network: Network | Ensemble, *, precision: Precision) -> None:
        self.network: Network | Ensemble = network.eval().requires_grad_(requires_grad=False)
        self._precision = precision

    @torch.no_grad()
    def outputs(self, images: Tensor, batch: Batch) -> Outputs:
        with self._precision.autocast(images.device):
            given: Outputs = self.network(images)
        return Outputs(given.logits.float(), given.features)

    def fingerprint(self) -> str:
        return self.network.fingerprint()


def network_of(source: TeacherSource | None) -> Network | None:
    """The network whose features can be read, or None: an ensemble or a black box gives logits alone."""
    if not isinstance(source, LiveTeacher) or not isinstance(source.network, Network):
        return None
    return None if isinstance(source.network.body, BlackBox) else source.network
