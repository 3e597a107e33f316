"""Images as the engine keeps them: uint8 in memory, as they are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageSet:
    """One split."""

    images: Tensor
    """uint8 [N, C, H, W]."""
    labels: Tensor
    """int64 [N]."""

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> ImageSet:
        """The same on another device."""
        return ImageSet(self.images.to(device), self.labels.to(device))

    def take(self, indices: Tensor) -> ImageSet:
        """The samples of ``indices`` (int64 [M]), in that order."""
        return ImageSet(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class RawDataset:
    """A data set as published: its test split may be missing."""

    name: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: ImageSet
    test: ImageSet | None


@dataclass(frozen=True)
class Dataset:
    """A data set as a job uses it."""

    name: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: ImageSet
    validation: ImageSet | None
    test: ImageSet

    @property
    def fingerprint(self) -> str:
        """sha256 over the bytes of every split's images and labels."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            if split is not None:
                digest.update(split.images.cpu().contiguous().numpy().tobytes())
                digest.update(split.labels.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()
