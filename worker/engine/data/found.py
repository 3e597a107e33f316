"""What every format reader gives: encoded images with their places, or arrays of pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from worker.engine.data.files import Files, Member, shown
from worker.engine.errors import UnusableUpload

Split = Literal["train", "val", "test"]
SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "t10k": "test",
}
"""By the names that people give them."""


@dataclass(frozen=True)
class EncodedImage:
    """One image file and what it is of."""

    member: Member
    split: Split
    label: int


@dataclass(frozen=True)
class Pixels:
    """A split as it comes from arrays: uint8 [N, H, W] or [N, H, W, C] or [N, C, H, W], and int64 [N]."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


@dataclass
class Found:
    """A data set before its images are decoded."""

    classes: tuple[str, ...]
    files: Files
    """Where the encoded images lie."""
    images: list[EncodedImage] = field(default_factory=list)
    pixels: dict[Split, Pixels] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def class_names(labels: list[str]) -> tuple[str, ...]:
    """Distinct labels in their order: by number where all are whole numbers, else by letter."""
    distinct = set(labels)
    if all(re.fullmatch(r"-?[0-9]{1,17}", label) for label in distinct):
        return tuple(sorted(distinct, key=lambda label: (int(label), label)))
    return tuple(sorted(distinct))


def numbered(labels: npt.NDArray[np.int64], names: tuple[str, ...] | None) -> tuple[str, ...]:
    """The classes of labels that are numbers from 0: ``names``, or the numbers. Raises UnusableUpload."""
    low, high = int(labels.min()), int(labels.max())
    count = len(names) if names is not None else high + 1
    if low < 0 or high >= count or count > 100_000:
        raise UnusableUpload(
            f"labels reach from {low} to {high}, where there are {count} classes.",
            remedy="Number the classes from 0, and leave unlabelled images out.",
        )
    return names if names is not None else tuple(str(number) for number in range(count))


def checked_pixels(name: str, images: npt.NDArray[np.generic], labels: npt.NDArray[np.generic]) -> Pixels:
    """Arrays as they must be. Raises UnusableUpload."""
    if images.dtype != np.uint8:
        raise UnusableUpload(
            f"{shown(name)} holds {images.dtype}, not uint8.", remedy="Store pixels as uint8 from 0 to 255."
        )
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise UnusableUpload(
            f"{shown(name)} has the shape {list(images.shape)}.", remedy="Store images as [N, H, W] or [N, H, W, C]."
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or len(labels) != len(images):
        raise UnusableUpload(
            f"{shown(name)} has {len(images)} images, and labels of the shape {list(labels.shape)} ({labels.dtype}).",
            remedy="Give one whole number for each image.",
        )
    return Pixels(images.view(np.uint8), labels.astype(np.int64))
