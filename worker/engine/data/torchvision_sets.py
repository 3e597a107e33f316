"""torchvision's small classification sets: from a folder that already holds them, or by download.

What is given is copied first, so that a read-only folder will do; torchvision then checks digests and unpacks, or
downloads what is missing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import datasets

from worker.engine.data.images import ImageSet, RawDataset

_DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class TorchvisionSet:
    """One of them."""

    name: str
    given: tuple[str, ...]
    """Files and folders that may lie in the folder of data sets, as torchvision lays them out."""
    open: Callable[[str, bool], Any]
    """(folder, whether train) to torchvision's data set."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...] = ()
    """Empty where the files name them."""

    def load(self, datasets_dir: Path | None, cache: Path) -> RawDataset:
        """Both splits."""
        for name in self.given if datasets_dir is not None else ():
            assert datasets_dir is not None
            source, target = datasets_dir / name, cache / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            elif source.is_file():
                shutil.copyfile(source, target)
        train, test = (self.open(str(cache), first) for first in (True, False))
        classes = self.classes or tuple(train.classes)
        return RawDataset(self.name, classes, self.mean, self.std, _images(train), _images(test))


def _images(split: Any) -> ImageSet:
    """[N, H, W] (MNIST), [N, H, W, C] (CIFAR) or [N, C, H, W] (SVHN) to uint8 [N, C, H, W]."""
    images = torch.as_tensor(np.asarray(split.data))
    if images.ndim == 3:
        images = images.unsqueeze(1)
    elif images.shape[3] == 3:
        images = images.permute(0, 3, 1, 2)
    labels = split.targets if hasattr(split, "targets") else split.labels
    return ImageSet(images.contiguous(), torch.as_tensor(np.asarray(labels)).long())


def _opened(kind: Callable[..., Any]) -> Callable[[str, bool], Any]:
    return lambda root, train: kind(root, train=train, download=True)


def _svhn(root: str, train: bool) -> Any:  # noqa: FBT001  # as torchvision names its splits elsewhere
    return datasets.SVHN(root, split="train" if train else "test", download=True)


SETS = {
    known.name: known
    for known in (
        TorchvisionSet("mnist", ("MNIST/raw",), _opened(datasets.MNIST), (0.5,), (0.5,), _DIGITS),
        TorchvisionSet("fashion-mnist", ("FashionMNIST/raw",), _opened(datasets.FashionMNIST), (0.2860,), (0.3530,)),
        TorchvisionSet("kmnist", ("KMNIST/raw",), _opened(datasets.KMNIST), (0.1918,), (0.3483,)),
        TorchvisionSet(
            "cifar10",
            ("cifar-10-python.tar.gz", "cifar-10-batches-py"),
            _opened(datasets.CIFAR10),
            (0.4914, 0.4822, 0.4465),
            (0.2470, 0.2435, 0.2616),
        ),
        TorchvisionSet(
            "cifar100",
            ("cifar-100-python.tar.gz", "cifar-100-python"),
            _opened(datasets.CIFAR100),
            (0.5071, 0.4865, 0.4409),
            (0.2673, 0.2564, 0.2762),
        ),
        TorchvisionSet(
            "svhn",
            ("train_32x32.mat", "test_32x32.mat"),
            _svhn,
            (0.4377, 0.4438, 0.4728),
            (0.1980, 0.2010, 0.1970),
            _DIGITS,
        ),
    )
}
