"""Several processes that train one run together: each computes its part of every batch, and all take the same step.

The loss is that of the whole batch, however it is shared out, so a team of any size trains as one process does: to
rounding, with the two exceptions that batch norm, unless synchronised, counts within each part, and that dropout draws
for each part. Every rank holds the same weights, optimizer and figures; what a checkpoint keeps is the first rank's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from worker.engine.errors import HardwareUnsuited, RankLost
from worker.engine.method import Batch, Outputs

_PATIENCE = timedelta(days=1)
"""A rank that is gone is noticed by its connection; one that stands still is its supervisor's business."""
_LEAST = 2
"""Samples of a part: batch norm cannot train on one."""


@dataclass(frozen=True)
class Part:
    """What one rank does of one batch."""

    rows: slice
    """Of the batch: what this rank's networks are shown."""
    samples: int
    """Of the batch."""
    copies: int
    """How many ranks come to the same terms; 1 where each has those of its own rows."""

    @property
    def own(self) -> int:
        """How many rows they are."""
        return int(self.rows.stop) - int(self.rows.start)

    @property
    def is_whole(self) -> bool:
        """Whether this rank is shown all of it."""
        return self.own == self.samples

    @property
    def weight(self) -> float:
        """Of this rank's terms among those of all, which add up to the mean over the batch."""
        return 1 / self.copies if self.copies > 1 else self.own / self.samples

    def of(self, batch: Batch) -> Batch:
        """This rank's rows."""
        if self.is_whole:
            return batch
        rows = None if batch.rows is None else batch.rows[self.rows]
        return Batch(batch.labels[self.rows], batch.samples[self.rows], batch.epoch, batch.seed, rows)

    def gather(self, outputs: Outputs) -> Outputs:
        """The outputs for the whole batch: every rank's rows, in order. Gradients find their way back."""
        if self.is_whole:
            return outputs
        features = {name: _gathered(values, self) for name, values in outputs.features.items()}
        strong = outputs.strong and self.gather(outputs.strong)
        return Outputs(_gathered(outputs.logits, self), features, strong)


class Team:
    """The ranks; without arguments, one process that trains alone."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size

    @classmethod
    def join(cls, *, rank: int, size: int, device: torch.device, meeting: Path) -> Team:
        """Meet the others through the file ``meeting``, and talk over loopback: all are on this machine."""
        backend = "nccl" if device.type == "cuda" else "gloo"
        store = dist.FileStore(str(meeting), size)  # type: ignore[attr-defined]  # documented, not re-exported
        try:
            dist.init_process_group(
                backend,
                store=store,
                rank=rank,
                world_size=size,
                timeout=_PATIENCE,
                device_id=device if device.type == "cuda" else None,
            )
        except RuntimeError as error:
            raise RankLost(f"the ranks did not find each other: {error}") from error
        return cls(rank, size)

    def leave(self) -> None:
        """Nothing is computed together from now on."""
        if self.size > 1:
            dist.destroy_process_group()

    def part(self, samples: int, *, relational: bool) -> Part:
        """This rank's of a batch; of a ``relational`` method's, every rank comes to the same terms.

        A batch too small to give each rank two samples is computed whole by all of them.
        """
        if self.size > 1 and samples < _LEAST * self.size:
            return Part(slice(0, samples), samples, self.size)
        each, left_over = divmod(samples, self.size)
        start = self.rank * each + min(self.rank, left_over)
        stop = start + each + (self.rank < left_over)
        return Part(slice(start, stop), samples, self.size if relational else 1)

    def add_up(self, parameters: Iterable[nn.Parameter], figures: Tensor, part: Part) -> Tensor:
        """Make every gradient that of the whole batch, and return ``figures`` over the whole batch.

        One sum of one bucket, in the parameters' order: the same bits on every rank, and each time.
        """
        if self.size == 1:
            return figures
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        weighed = [gradient.flatten() * part.weight for gradient in gradients]
        bucket = torch.cat([*weighed, figures / part.copies])
        _sum(bucket)
        *pieces, total = torch.split(bucket, [*(gradient.numel() for gradient in gradients), len(figures)])
        for gradient, piece in zip(gradients, pieces, strict=True):
            gradient.copy_(piece.view(gradient.shape))
        return total

    def agree(self, module: nn.Module) -> None:
        """Give every rank the first rank's weights and statistics."""
        if self.size > 1:
            for tensor in module.state_dict().values():
                _broadcast(tensor)

    def synchronise(self, module: nn.Module, device: torch.device) -> nn.Module:
        """``module`` with batch norm that counts over all ranks. Raises HardwareUnsuited."""
        if self.size == 1:
            return module
        if device.type != "cuda":
            raise HardwareUnsuited(
                "sync_batchnorm is made for GPUs, and this worker trains on its CPU.",
                remedy="Turn training.sync_batchnorm off: batch norm then counts within each part of the batch.",
            )
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return converted


class _Gather(torch.autograd.Function):
    """Every rank's rows. All ranks go on with the same values to the same loss, so each knows its gradient itself."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, part: Part) -> Tensor:
        ctx.part = part
        whole = values.new_zeros(part.samples, *values.shape[1:])
        whole[part.rows] = values
        _sum(whole)  # of parts that do not overlap: exact, and parts may differ in size
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        part: Part = ctx.part
        return gradients[0][part.rows] * part.copies, None  # ``add_up`` divides by the copies


def _gathered(values: Tensor, part: Part) -> Tensor:
    whole: Tensor = _Gather.apply(values, part)
    return whole


def _sum(values: Tensor) -> None:
    with _noticing_losses():
        dist.all_reduce(values)


def _broadcast(values: Tensor) -> None:
    with _noticing_losses():
        dist.broadcast(values, src=0)


@contextmanager
def _noticing_losses() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # of gloo and NCCL, when a connection ends
        raise RankLost(f"another rank of this job is gone: {error}") from error
