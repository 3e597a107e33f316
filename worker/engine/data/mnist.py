"""MNIST through torchvision, from a folder that already holds it or by download."""

from __future__ import annotations

import shutil
from pathlib import Path

import torchvision

from worker.engine.data.images import ImageSet, RawDataset


def load(datasets_dir: Path | None, cache: Path) -> RawDataset:
    """60,000 and 10,000 images of 28x28, normalised by mean 0.5 and deviation 0.5.

    Files below ``datasets_dir/MNIST/raw`` are copied into ``cache``, so that a read-only folder will do; torchvision
    then checks their digests and unpacks them, or downloads what is missing.
    """
    given = datasets_dir / "MNIST" / "raw" if datasets_dir is not None else None
    if given is not None and given.is_dir():
        shutil.copytree(given, cache / "MNIST" / "raw", dirs_exist_ok=True)
    train, test = (torchvision.datasets.MNIST(str(cache), train=first, download=True) for first in (True, False))
    return RawDataset("mnist", tuple("0123456789"), (0.5,), (0.5,), _images(train), _images(test))


def _images(split: torchvision.datasets.MNIST) -> ImageSet:
    return ImageSet(split.data.unsqueeze(1).contiguous(), split.targets.long())
