"""Images as the engine keeps them: uint8 in memory, or mapped from a file where they are many."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

MAPPED_FROM = 512 * 2**20
"""Bytes of images from which on a new set is put into a file that the kernel may take out of memory again."""
_CHUNK = 32 * 2**20


@dataclass(frozen=True)
class ImageSet:
    """One split."""

    images: Tensor
    """uint8 [N, C, H, W]; on the labels' device, or on the host where they are too many for that."""
    labels: Tensor
    """int64 [N]."""

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> ImageSet:
        """The same on another device; images that do not fit there stay on the host, and go over batch by batch."""
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if self.images.nbytes > free // 2:
                return ImageSet(self.images, self.labels.to(device))
        return ImageSet(self.images.to(device), self.labels.to(device))

    def batch(self, samples: Tensor) -> Tensor:
        """The images of ``samples`` (int64 [B]), on the labels' device."""
        return self.images[samples.to(self.images.device)].to(self.labels.device)

    def take(self, indices: Tensor) -> ImageSet:
        """The samples of ``indices`` (int64 [M]), in that order."""
        if len(indices) * self.images[:1].nbytes < MAPPED_FROM or self.images.device.type != "cpu":
            return ImageSet(self.images[indices], self.labels[indices])
        images = mapped((len(indices), *self.images.shape[1:]))
        for piece in _pieces(len(indices), self.images[:1].nbytes):
            images[piece] = self.images[indices[piece]]
        return ImageSet(images, self.labels[indices])

    def resized(self, side: int) -> ImageSet:
        """Short side to ``side`` (bilinear, antialiased), then the centre cut out."""
        count, channels, height, width = self.images.shape
        if (height, width) == (side, side) or not count:
            return self
        scale = side / min(height, width)
        size = [max(side, round(height * scale)), max(side, round(width * scale))]
        top, left = (size[0] - side) // 2, (size[1] - side) // 2
        large = count * channels * side * side >= MAPPED_FROM
        shape = (count, channels, side, side)
        images = mapped(shape) if large else torch.empty(shape, dtype=torch.uint8)
        for piece in _pieces(count, 4 * channels * max(height * width, size[0] * size[1])):
            whole = F.interpolate(self.images[piece].float(), size=size, mode="bilinear", antialias=True)
            images[piece] = whole[..., top : top + side, left : left + side].round().clamp(0, 255).to(torch.uint8)
        return ImageSet(images, self.labels)


@dataclass(frozen=True)
class RawDataset:
    """A data set as published or uploaded: validation and test may be missing."""

    name: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: ImageSet
    test: ImageSet | None
    validation: ImageSet | None = None
    sha256: str = ""
    """Of what is stored, where it is."""

    @property
    def fingerprint(self) -> str:
        """sha256 over the bytes of every split's images and labels."""
        return fingerprint(self.train, self.validation, self.test)

    def resized(self, side: int | None) -> RawDataset:
        """The same with images of ``side`` by ``side``; None leaves them as they are."""
        if side is None:
            return self
        test = self.test.resized(side) if self.test is not None else None
        validation = self.validation.resized(side) if self.validation is not None else None
        return replace(self, train=self.train.resized(side), test=test, validation=validation)


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
    stored_sha256: str = ""
    """Of the stored set that the splits were drawn from, before any resizing."""

    @property
    def fingerprint(self) -> str:
        """sha256 over the bytes of every split's images and labels."""
        return fingerprint(self.train, self.validation, self.test)


def fingerprint(*splits: ImageSet | None) -> str:
    """sha256 over the bytes of every split's images and labels, read piece by piece."""
    digest = hashlib.sha256()
    for split in splits:
        if split is not None:
            for piece in _pieces(len(split), split.images[:1].nbytes):
                digest.update(split.images[piece].cpu().contiguous().numpy().data)
            digest.update(split.labels.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def mapped(shape: tuple[int, ...]) -> Tensor:
    """A uint8 tensor in a file without a name, in the folder for temporary files: it is no one's memory for long."""
    size = torch.Size(shape).numel()
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(size)
        return torch.from_file(file.name, shared=True, size=size, dtype=torch.uint8).view(shape)


def _pieces(count: int, bytes_each: int) -> Iterator[slice]:
    """Slices that cover ``count`` samples, about 32 MiB at a time."""
    step = max(1, _CHUNK // max(1, bytes_each))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))
