"""The staged form of a data set: one safetensors file of uint8 images and labels, and a JSON file that names them.

It is written piece by piece and read by mapping, so neither takes memory by the size of the set.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from worker.engine.data.images import ImageSet, RawDataset
from worker.engine.data.mapping import read_at_random

TENSORS, DESCRIPTION = "data.safetensors", "dataset.json"
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_CHUNK = 2**22


class Writer:
    """Takes images one piece after another; ``close`` puts the two files together in ``folder``."""

    def __init__(self, folder: Path, shape: tuple[int, int, int]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.shape = shape
        self._pixels = {split: (folder / f"{split}.part").open("w+b") for split in SPLITS}
        self._labels: dict[Split, array[int]] = {split: array("q") for split in SPLITS}
        self._names = bytearray()
        self._sum = np.zeros(shape[0])
        self._squares = np.zeros(shape[0])

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the pieces, whether something was made of them or not."""
        for split, pixels in self._pixels.items():
            pixels.close()
            (self.folder / f"{split}.part").unlink(missing_ok=True)

    def add(
        self, split: Split, images: npt.NDArray[np.uint8], labels: Sequence[int], names: Sequence[str] = ()
    ) -> None:
        """uint8 [B, C, H, W] and as many labels; of training images also the names of their files, of all or none."""
        assert images.shape[1:] == self.shape
        if split == "train":
            values = images.astype(np.float64) / 255
            self._sum += values.sum(axis=(0, 2, 3))
            self._squares += np.square(values).sum(axis=(0, 2, 3))
            for name in names:
                self._names += name.replace("\n", " ").encode(errors="replace") + b"\n"
        self._pixels[split].write(np.ascontiguousarray(images).data)
        self._labels[split].extend(labels)

    def count(self, split: Split) -> int:
        """Images so far."""
        return len(self._labels[split])

    def labels(self, split: Split) -> npt.NDArray[np.int64]:
        """Labels so far."""
        return np.frombuffer(self._labels[split].tobytes(), dtype=np.int64)

    def close(
        self, *, name: str, classes: tuple[str, ...], moments: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    ) -> dict[str, Any]:
        """Write both files, the description last; the description. ``moments`` are published mean and deviation."""
        sha256 = self._write_tensors()
        mean, std = moments or self._moments()
        described = {"name": name, "classes": list(classes), "mean": list(mean), "std": list(std), "sha256": sha256}
        (self.folder / DESCRIPTION).write_text(json.dumps(described, indent=2) + "\n")
        return described

    def _moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Of each channel over train; a channel that is one value throughout gets a deviation of 1."""
        pixels = max(1, self.count("train") * self.shape[1] * self.shape[2])
        mean = self._sum / pixels
        std = np.sqrt(np.maximum(self._squares / pixels - np.square(mean), 0))
        std = np.where(std < 1e-6, 1.0, std)
        return tuple(round(float(value), 6) for value in mean), tuple(round(float(value), 6) for value in std)

    def _write_tensors(self) -> str:
        """The safetensors file: a header of JSON, then the bytes; and the sha256 of those, but not of the names."""
        entries: dict[str, Any] = {}
        at = 0
        used = [split for split in SPLITS if self._labels[split]]
        for split in used:
            count = self.count(split)
            for what, kind, shape, size in (
                ("images", "U8", [count, *self.shape], count * int(np.prod(self.shape))),
                ("labels", "I64", [count], 8 * count),
            ):
                entries[f"{split}_{what}"] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + size]}
                at += size
        if self._names:
            entries["train_names"] = {
                "dtype": "U8",
                "shape": [len(self._names)],
                "data_offsets": [at, at + len(self._names)],
            }
        header = json.dumps(entries).encode()
        header += b" " * (-len(header) % 8)
        digest = hashlib.sha256()
        with (self.folder / TENSORS).open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for split in used:
                pixels = self._pixels[split]
                pixels.seek(0)
                while chunk := pixels.read(_CHUNK):
                    digest.update(chunk)
                    file.write(chunk)
                labels = self.labels(split).astype("<i8").tobytes()
                digest.update(labels)
                file.write(labels)
            file.write(self._names)
        return digest.hexdigest()


def save(folder: Path, dataset: RawDataset) -> None:
    """Write ``dataset`` into a new folder; the description comes last, so its presence means that all is there."""
    folder.mkdir(parents=True)
    channels, height, width = dataset.train.images.shape[1:]
    with Writer(folder, (channels, height, width)) as writer:
        for split in SPLITS:
            images: ImageSet | None = getattr(dataset, split)
            if images is not None:
                for start in range(0, len(images), 1024):
                    piece = slice(start, start + 1024)
                    writer.add(split, images.images[piece].numpy(), images.labels[piece].tolist())
        moments = (dataset.mean, dataset.std) if dataset.mean else None
        writer.close(name=dataset.name, classes=dataset.classes, moments=moments)


def load(folder: Path) -> RawDataset:
    """Read what ``save`` or a ``Writer`` wrote. The images are mapped from the file."""
    described = json.loads((folder / DESCRIPTION).read_text())
    tensors = load_file(folder / TENSORS)
    train = _split(tensors, "train")
    assert train is not None
    return RawDataset(
        name=described["name"],
        classes=tuple(described["classes"]),
        mean=tuple(described["mean"]),
        std=tuple(described["std"]),
        train=train,
        validation=_split(tensors, "validation"),
        test=_split(tensors, "test"),
        sha256=described.get("sha256", ""),  # sets that were kept by an earlier version have none
        names=tensors.get("train_names"),
    )


def _split(tensors: Mapping[str, torch.Tensor], split: Split) -> ImageSet | None:
    if f"{split}_images" not in tensors:
        return None
    return ImageSet(read_at_random(tensors[f"{split}_images"]), tensors[f"{split}_labels"])
