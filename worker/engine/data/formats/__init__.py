"""Every format that is read. To add one: a file beside this, and a line here; the first that matches is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from worker.engine.data.files import Files
from worker.engine.data.formats import csv_labels, idx, imagefolder, npz, parquet
from worker.engine.data.found import Found


@dataclass(frozen=True)
class Format:
    """How files are recognised, and read."""

    matches: Callable[[Files], bool]
    read: Callable[[Files], Found]


FORMATS: dict[str, Format] = {
    "parquet": Format(parquet.matches, parquet.read),
    "npz": Format(npz.matches, npz.read),
    "idx": Format(idx.matches, idx.read),
    "csv": Format(csv_labels.matches, csv_labels.read),
    "imagefolder": Format(imagefolder.matches, imagefolder.read),
}
