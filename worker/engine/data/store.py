"""The staged form of a data set: one safetensors file of uint8 images and labels, and a JSON file that names them."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file, save_file

from worker.engine.data.images import ImageSet, RawDataset

TENSORS, DESCRIPTION = "data.safetensors", "dataset.json"


def save(folder: Path, dataset: RawDataset) -> None:
    """Write ``dataset`` into a new folder; the description comes last, so its presence means that all is there."""
    folder.mkdir(parents=True)
    tensors = {"train_images": dataset.train.images, "train_labels": dataset.train.labels}
    if dataset.test is not None:
        tensors |= {"test_images": dataset.test.images, "test_labels": dataset.test.labels}
    save_file(tensors, folder / TENSORS)
    described = {"name": dataset.name, "classes": dataset.classes, "mean": dataset.mean, "std": dataset.std}
    (folder / DESCRIPTION).write_text(json.dumps(described, indent=2) + "\n")


def load(folder: Path) -> RawDataset:
    """Read what ``save`` wrote."""
    described = json.loads((folder / DESCRIPTION).read_text())
    tensors = load_file(folder / TENSORS)
    test = ImageSet(tensors["test_images"], tensors["test_labels"]) if "test_images" in tensors else None
    return RawDataset(
        name=described["name"],
        classes=tuple(described["classes"]),
        mean=tuple(described["mean"]),
        std=tuple(described["std"]),
        train=ImageSet(tensors["train_images"], tensors["train_labels"]),
        test=test,
    )
