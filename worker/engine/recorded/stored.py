"""The staged form of recorded outputs: NAME.safetensors with the rows of ``train`` and perhaps ``test``, and NAME.json.

Where the rows name their images, the names are in it too, a line each. The rows are written piece by piece and read by
mapping, so neither takes memory by the size of the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from worker.engine.data import Dataset
from worker.engine.errors import WeightsRefused
from worker.engine.recorded.names import matched, pack, unpack
from worker.engine.recorded.teacher import RecordedTeacher

LOGITS = "logits"
"""The architecture of recorded outputs: the rows take the place of the weights."""
Pieces = Iterable[npt.NDArray[np.float32]]


def save(
    folder: Path,
    name: str,
    splits: Mapping[str, tuple[int, Pieces]],
    described: Mapping[str, Any],
    *,
    names: Sequence[str] = (),
) -> None:
    """Write both files; of each split the number of rows, and the rows of logits in pieces; ``names`` are train's."""
    folder.mkdir(parents=True, exist_ok=True)
    columns, at = len(described["classes"]), 0
    entries: dict[str, Any] = {}
    for split, (count, _) in splits.items():
        size = 4 * count * columns
        entries[split] = {"dtype": "F32", "shape": [count, columns], "data_offsets": [at, at + size]}
        at += size
    lines = pack(names)
    if lines:
        entries["names"] = {"dtype": "U8", "shape": [len(lines)], "data_offsets": [at, at + len(lines)]}
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    with (folder / f"{name}.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for _, pieces in splits.values():
            for piece in pieces:
                file.write(np.ascontiguousarray(piece, dtype="<f4").data)
        file.write(lines)
    (folder / f"{name}.json").write_text(json.dumps(described, indent=2) + "\n")


def load(
    folder: Path, name: str, dataset: Dataset, *, device: torch.device | None = None
) -> tuple[RecordedTeacher, str]:
    """The teacher for ``dataset`` on ``device`` (else where the data are), and how its columns were taken.

    Columns of the same classes in another order are put into theirs, rows with names into the data's. Raises
    WeightsRefused.
    """
    described = json.loads((folder / f"{name}.json").read_text())
    tensors = load_file(folder / f"{name}.safetensors")
    given: Sequence[str] = described["classes"]
    if len(given) != len(dataset.classes):
        message = f"the file of logits tells {len(given)} classes apart, where the data has {len(dataset.classes)}."
        raise WeightsRefused(message, remedy="Give one column for each class of the data set.")
    rows, test = tensors["train"], tensors.get("test")
    said = "its columns are the data's classes in order"
    if set(given) != set(dataset.classes):
        said = "its columns have other names than the data's classes and are taken in order"
    elif tuple(given) != dataset.classes:
        order = [given.index(label) for label in dataset.classes]
        rows, test = rows[:, order], None if test is None else test[:, order]
        said = "its columns were put into the order of the data's classes"
    if "names" in tensors:
        own, left_over = matched(unpack(tensors["names"]), unpack(dataset.origin.names))
        rows, said = rows[own], f"{said}; its rows were matched with the images by name, {left_over}"
    said = f"{len(rows):,} rows, kept from {described['kind']}; {said}"
    return RecordedTeacher(rows, dataset, test=test, device=device), said
