"""Images as the engine keeps them: uint8 in memory, or mapped from a file where they are many."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from worker.engine.data.mapping import MAPPED_FROM, announce, announce_stretch, mapped

_CHUNK = 8 * 2**20


@dataclass(frozen=True)
class ImageSet:
    """One split."""

    images: Tensor
    """uint8 [N, C, H, W]; on the labels' device, or on the host where they are too many for that."""
    labels: Tensor
    """int64 [N]."""

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the bytes of images and labels, computed once."""
        return fingerprint(self)

    def to(self, device: torch.device) -> ImageSet:
        """The same on another device; images that do not fit there stay on the host, and go over batch by batch."""
        if self.labels.device == device:
            return self
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if self.images.nbytes > free // 2:
                return ImageSet(self.images, self.labels.to(device))
        return ImageSet(self.images.to(device), self.labels.to(device))

    def batch(self, samples: Tensor) -> Tensor:
        """The images of ``samples`` (int64 [B]), on the labels' device."""
        places = samples.to(self.images.device)
        announce(self.images, places)
        return self.images[places].to(self.labels.device)

    def in_order(self, size: int) -> Iterator[Tensor]:
        """The images from first to last, ``size`` at a time, on the labels' device."""
        for start in range(0, len(self), size):
            announce_stretch(self.images, start, start + size)
            yield self.images[start : start + size].to(self.labels.device)

    def take(self, indices: Tensor) -> ImageSet:
        """The samples of ``indices`` (int64 [M]), in that order."""
        if len(indices) * self.images[:1].nbytes < MAPPED_FROM or self.images.device.type != "cpu":
            return ImageSet(self._taken(indices), self.labels[indices])
        pieces = (self._taken(indices[piece]) for piece in _pieces(len(indices), self.images[:1].nbytes))
        return ImageSet(mapped((len(indices), *self.images.shape[1:]), pieces), self.labels[indices])

    def _taken(self, indices: Tensor) -> Tensor:
        announce(self.images, indices)
        return self.images[indices]

    def resized(self, side: int, *, alive: Callable[[], None] | None = None) -> ImageSet:
        """Short side to ``side`` (bilinear, antialiased), then the centre cut out; ``alive`` is called now and then."""
        count, channels, height, width = self.images.shape
        if (height, width) == (side, side) or not count:
            return self
        scale = side / min(height, width)
        size = [max(side, round(height * scale)), max(side, round(width * scale))]
        top, left = (size[0] - side) // 2, (size[1] - side) // 2
        shape = (count, channels, side, side)

        def pieces() -> Iterator[Tensor]:
            for piece in _pieces(count, 4 * channels * max(height * width, size[0] * size[1])):
                announce_stretch(self.images, piece.start, piece.stop)
                whole = F.interpolate(self.images[piece].float(), size=size, mode="bilinear", antialias=True)
                cut = whole[..., top : top + side, left : left + side]
                yield cut.round().clamp(0, 255).to(torch.uint8)
                if alive is not None:
                    alive()

        large = torch.Size(shape).numel() >= MAPPED_FROM
        return ImageSet(mapped(shape, pieces()) if large else torch.cat(list(pieces())), self.labels)


@dataclass(frozen=True)
class RawDataset:
    """A data set as published or uploaded: validation and test may be missing."""

    name: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    """Empty, as is std, where they are yet to be computed: by storing the set."""
    std: tuple[float, ...]
    train: ImageSet
    test: ImageSet | None
    validation: ImageSet | None = None
    sha256: str = ""
    """Of what is stored, where it is."""
    names: Tensor | None = None
    """Of the training images' files, a line each: uint8 [bytes]; None where they came as arrays."""

    @property
    def fingerprint(self) -> str:
        """sha256 over the bytes of every split's images and labels."""
        return fingerprint(self.train, self.validation, self.test)

    def resized(self, side: int | None, *, alive: Callable[[], None] | None = None) -> RawDataset:
        """The same with images of ``side`` by ``side``; None leaves them as they are."""
        if side is None:
            return self
        test = self.test.resized(side, alive=alive) if self.test is not None else None
        validation = self.validation.resized(side, alive=alive) if self.validation is not None else None
        return replace(self, train=self.train.resized(side, alive=alive), test=test, validation=validation)


@dataclass(frozen=True)
class Origin:
    """Where a job's images lie in the stored splits: what is kept of an image elsewhere is kept by its place there."""

    images: int
    """Of the stored training split."""
    train: Tensor
    """int64 [N]: the place of each training image in it."""
    drawn_test: Tensor | None
    """The same of each test image; None where the set brought a test split of its own, kept as it was."""
    test_images: int | None
    """Of the stored test split; None where there was none."""
    names: Tensor | None = None
    """Of the images of the stored training split; see ``RawDataset``."""


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
    origin: Origin
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
                announce_stretch(split.images, piece.start, piece.stop)
                digest.update(split.images[piece].cpu().contiguous().numpy().data)
            digest.update(split.labels.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _pieces(count: int, bytes_each: int) -> Iterator[slice]:
    """Slices that cover ``count`` samples, about 8 MiB at a time."""
    step = max(1, _CHUNK // max(1, bytes_each))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))
