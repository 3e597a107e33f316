"""Teachers of which one at least is a file of outputs, as one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from worker.engine.data import ImageSet
from worker.engine.ensemble import Ensemble, averaged
from worker.engine.method import Batch, Outputs
from worker.engine.network import Network
from worker.engine.precision import Precision
from worker.engine.recorded import RecordedTeacher
from worker.engine.teacher import LiveTeacher


class Mixture:
    """Files, each with its weight, and perhaps networks with theirs together; the mean of probabilities.

    The networks are asked about the view that the student sees; the files know the images as they are.
    """

    def __init__(
        self,
        files: Sequence[tuple[float, RecordedTeacher]],
        network: Network | Ensemble | None,
        weight: float,
        *,
        precision: Precision,
    ) -> None:
        self.files = tuple(files)
        self.network = network
        self.weight = weight
        weights = [*(each for each, _ in files), *([weight] if network is not None else [])]
        self.shares = torch.tensor(weights, dtype=torch.float64) / sum(weights)
        self._live = LiveTeacher(network, precision=precision) if network is not None else None

    def at(self, precision: Precision) -> Mixture:
        """The same, its networks computed in another precision."""
        return Mixture(self.files, self.network, self.weight, precision=precision)

    def outputs(self, images: Tensor, batch: Batch) -> Outputs:
        told = [file.outputs(images, batch).logits for _, file in self.files]
        if self._live is not None:
            told.append(self._live.outputs(images, batch).logits)
        return Outputs(self._mean(told))

    @property
    def tells_of_test(self) -> bool:
        """Whether every file has rows for the job's test split."""
        return all(file.test is not None for _, file in self.files)

    @torch.no_grad()
    def on_test(self, test: ImageSet, *, at_once: int) -> Iterator[Tensor]:
        """Logits of the test split in batches, in fp32."""
        at = 0
        for images in test.in_order(at_once):
            part = slice(at, at + len(images))
            told = [file.test[part].to(images.device) for _, file in self.files if file.test is not None]
            if self.network is not None:
                shown = images.float().div_(255).contiguous(memory_format=torch.channels_last)
                told.append(self.network(shown).logits)
            yield self._mean(told)
            at += len(images)

    def fingerprint(self) -> str:
        """sha256 over the members' own, and their shares."""
        members = [file.fingerprint() for _, file in self.files]
        if self.network is not None:
            members.append(self.network.fingerprint())
        pairs = (f"{share} {member}" for share, member in zip(self.shares.tolist(), members, strict=True))
        return hashlib.sha256("\n".join(pairs).encode()).hexdigest()

    def _mean(self, told: Sequence[Tensor]) -> Tensor:
        return averaged(told, self.shares.to(told[0].device, torch.float32))
