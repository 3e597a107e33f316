"""A training split as the student sees it: every view of every sample, each with a number, its row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from worker.engine.augment import augment, count_views, draw_views
from worker.engine.data import ImageSet
from worker.engine.random import derive, permutation
from worker.engine.strong import strengthened


@dataclass(frozen=True)
class Views:
    """Row ``sample * each + view`` is that view of that sample."""

    split: ImageSet
    augmentation: str

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an image."""
        height, width = self.split.images.shape[-2:]
        return height, width

    @cached_property
    def each(self) -> int:
        """Views of a sample."""
        return count_views(self.augmentation, self.size)

    @property
    def rows(self) -> int:
        """Of all samples together."""
        return len(self.split) * self.each

    def of_epoch(self, *, seed: int, epoch: int) -> Tensor:
        """The rows of an epoch in its order, one for each sample: int64 [N] on the host, which knows them so without
        asking the device."""
        order = permutation(len(self.split), seed=seed, epoch=epoch, device=torch.device("cpu"))
        return order * self.each + draw_views(order, self.size, name=self.augmentation, seed=seed, epoch=epoch)

    def samples(self, rows: Tensor) -> Tensor:
        """Whose views these are: int64 [B], on the labels' device."""
        return (rows // self.each).to(self.split.labels.device, non_blocking=True)

    def show(self, rows: Tensor, samples: Tensor | None = None) -> Tensor:
        """Float [B, C, H, W] in 0 to 1, channels last, on the labels' device; ``samples`` where they are known."""
        return _floats(self._cut(rows, self.samples(rows) if samples is None else samples))

    def strong(self, rows: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Of the samples of ``rows`` another view, drawn by itself and changed strongly; in the form of ``show``."""
        samples, own = rows // self.each, derive(seed, "strong")
        drawn = draw_views(samples, self.size, name=self.augmentation, seed=own, epoch=epoch)
        rows = samples * self.each + drawn
        return _floats(strengthened(self._cut(rows, self.samples(rows)), samples, seed=own, epoch=epoch))

    def _cut(self, rows: Tensor, samples: Tensor) -> Tensor:
        """uint8 [B, C, H, W]."""
        images = self.split.batch(samples)
        if self.each == 1:
            return images
        return augment(images, (rows % self.each).to(images.device, non_blocking=True), name=self.augmentation)


def _floats(images: Tensor) -> Tensor:
    return images.to(torch.float32, memory_format=torch.channels_last).div_(255)
