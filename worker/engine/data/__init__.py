"""Data sets. To add a built-in one: a file here, a line here, and its entry in ``stillhouse.spec.datasets``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from worker.engine.data import digits, mnist
from worker.engine.data.images import Dataset, ImageSet, RawDataset

BUILTIN: dict[str, Callable[[Path | None, Path], RawDataset]] = {"digits": digits.load, "mnist": mnist.load}
"""By name: (folder that may already hold it, folder to download into) to the data set."""

__all__ = ["BUILTIN", "Dataset", "ImageSet", "RawDataset"]
