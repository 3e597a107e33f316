"""Where a teacher's outputs come from. The loop cannot tell one source from another."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from worker.engine.blackbox import BlackBox
from worker.engine.data import ImageSet
from worker.engine.ensemble import Ensemble
from worker.engine.frozen import frozen
from worker.engine.method import Batch, Outputs
from worker.engine.network import Network
from worker.engine.precision import Precision
from worker.engine.table import Layout, ViewTable
from worker.engine.views import Views

BATCH = 64
"""Images of one forward pass for rows, always. Another number gives other bits."""
_AHEAD = 1024
"""Rows to come that are looked through for more that are missing, so that a forward pass is full."""
_GUARDED = 256
"""Rows of a table that are computed again before it is used."""
_DRAWS = 16
"""Of 4096 rows: enough where one in 200 is there."""


class TeacherSource(Protocol):
    """A signal to imitate."""

    def outputs(self, images: Tensor, batch: Batch) -> Outputs:
        """For float images [B, C, H, W] in 0 to 1, those of ``batch``, without gradient."""

    def fingerprint(self) -> str:
        """Changes when the source does."""


class LiveTeacher:
    """A network, or several: frozen, in evaluation mode, computed in the training's precision.

    Where logits of numbered views are asked for, each is a function of the teacher and the view alone, down to the
    bits: computed in batches of one size and rounded to the precision, whether a table has it, is to get it or is
    not there.
    """

    def __init__(self, network: Network | Ensemble, *, precision: Precision) -> None:
        self.network: Network | Ensemble = network.eval().requires_grad_(requires_grad=False)
        self.table: ViewTable | None = None
        self.views: Views | None = None
        """Of the table."""
        self._precision = precision
        self._quick: Network | Ensemble | None = None

    @torch.no_grad()
    def outputs(self, images: Tensor, batch: Batch) -> Outputs:
        if batch.rows is None or (isinstance(self.network, Network) and self.network.capture is not None):
            with self._precision.autocast(images.device):
                given: Outputs = self.network(images)
            return Outputs(given.logits.float(), given.features)
        if self.table is None:
            return Outputs(self.rows(images).float())
        return Outputs(self.look_up(batch.rows, batch.ahead).to(images.device, non_blocking=True).float())

    def fingerprint(self) -> str:
        return self.network.fingerprint()

    def rows(self, images: Tensor) -> Tensor:
        """[B, classes] in the precision's dtype, each a function of its image alone."""
        if self._quick is None:
            self._quick = frozen(self.network, self._precision)
        parts = []
        with torch.inference_mode(), self._precision.autocast(images.device):
            for part in torch.split(images, BATCH):
                full = part
                if len(part) < BATCH:
                    full = torch.cat([part, part[-1:].expand(BATCH - len(part), -1, -1, -1)])
                logits = self._quick(full.contiguous(memory_format=torch.channels_last)).logits
                parts.append((logits if full is part else logits[: len(part)]).to(self._precision.dtype))
        return torch.cat(parts)  # outside of inference mode, so that a loss may keep it

    def look_up(self, rows: Tensor, ahead: Tensor | None = None) -> Tensor:
        """[B, classes] on the host, of the table's ``rows`` (int64 [B]); those that are missing are computed and kept.

        With them go the first missing ones of ``ahead``, which will be asked for next, until the last pass is full.
        """
        assert self.table is not None
        assert self.views is not None
        found, there = self.table.read(rows)
        self.table.looked_up += len(rows)
        missing = (~there).nonzero().flatten()
        if not len(missing):
            return found
        wanted, room = rows[missing], -len(missing) % BATCH
        if ahead is not None and room:
            near = ahead[:_AHEAD]
            wanted = torch.cat([wanted, near[~self.table.there(near)][:room]])
        computed = self.rows(self.views.show(wanted)).cpu()
        self.table.write(wanted, computed)
        return found.index_copy(0, missing, computed[: len(missing)])

    def check_table(self, *, seed: int) -> str | None:
        """Compute random rows of the table again; it is emptied unless they are the same, bit by bit. What was found.

        A table of another machine, whose arithmetic differs in the last bit, would change what a job trains to.
        """
        if self.table is None or self.views is None:
            return None
        rows = _some_of(self.table, self.views, seed=seed)
        if not len(rows):
            return "the view table is empty"
        kept = self.table.read(rows)[0]
        again = self.rows(self.views.show(rows)).cpu()
        if torch.equal(kept, again):
            return f"{len(rows)} random rows of the view table were the same when computed again"
        self.table.clear()
        difference = float((kept.float() - again.float()).abs().max())
        moved = int((kept.argmax(dim=1) != again.argmax(dim=1)).sum())
        return (
            f"the view table was emptied: of {len(rows)} rows computed again {moved} named another class, and the "
            f"largest difference was {difference:.3g}"
        )


def with_table(
    network: Network | Ensemble,
    split: ImageSet,
    path: Path,
    *,
    augmentation: str,
    classes: int,
    precision: Precision,
    limit: int | None = None,
) -> LiveTeacher:
    """A teacher with the table of its outputs for this split at ``path``, new or as it is there.

    What is there is used only if it is of the same teacher, images, augmentation, precision and arithmetic. A table
    of more bytes than ``limit`` is not made.
    """
    teacher, views = LiveTeacher(network, precision=precision), Views(split, augmentation)
    layout = Layout(views.rows, classes, precision.dtype)
    if limit is not None and layout.bytes > limit:
        return teacher
    members = network.members if isinstance(network, Ensemble) else [network]
    form = "\n".join(f"{member} {getattr(member, 'preprocessing', None)}" for member in members)
    device = split.labels.device
    about = {
        "teacher": network.fingerprint(),
        "form": hashlib.sha256(form.encode()).hexdigest(),
        "images": split.fingerprint,
        "augmentation": augmentation,
        "batch": BATCH,
        "arithmetic": [
            torch.__version__,
            torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability(),
        ],
    }
    teacher.table, teacher.views = ViewTable(path, layout, about), views
    return teacher


def _some_of(table: ViewTable, views: Views, *, seed: int) -> Tensor:
    """Up to 256 random rows of those that are there; of fewer, all.

    In a table that is filled to some part a few draws find them; else all that is there is gone through.
    """
    generator = torch.Generator().manual_seed(seed)
    found = torch.zeros(0, dtype=torch.int64)
    for _ in range(_DRAWS):
        drawn = torch.randint(views.rows, (4096,), generator=generator)
        found = torch.cat([found, drawn[table.there(drawn)]])
        if len(found) >= _GUARDED:
            return found[:_GUARDED]
    found, lots = torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    for rows in table.written_rows():
        found, lots = torch.cat([found, rows]), torch.cat([lots, torch.rand(len(rows), generator=generator)])
        chosen = lots.topk(min(_GUARDED, len(lots))).indices
        found, lots = found[chosen], lots[chosen]
    return found


def network_of(source: TeacherSource | None) -> Network | None:
    """The network whose features can be read, or None: an ensemble or a black box gives logits alone."""
    if not isinstance(source, LiveTeacher) or not isinstance(source.network, Network):
        return None
    return None if isinstance(source.network.body, BlackBox) else source.network
