"""An uploaded file of outputs, once, in the sandbox: checked row by row, then kept as logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from worker.engine.blackbox import Kind, sums_to_one, to_logits
from worker.engine.data.files import shown
from worker.engine.errors import WeightsRefused
from worker.engine.recorded.names import once
from worker.engine.recorded.read import Answers, Array, read
from worker.engine.recorded.stored import LOGITS, save

_PIECE = 4096


def keep(
    upload: Path, target: Path, *, scratch: Path, classes: Sequence[str], report: dict[str, Any]
) -> dict[str, Any]:
    """Write ``model.safetensors`` and ``model.json`` into ``target``; what jobs must know of it.

    ``report`` grows along. Raises EngineError for a file whose rows could not teach ``classes``.
    """
    answers = read(upload, scratch)
    splits = {"train": answers.train} | ({} if answers.test is None else {"test": answers.test})
    report |= {"format": answers.format, "rows": {split: len(rows) for split, rows in splits.items()}}
    kinds = {split: _kind_of(split, rows, len(classes)) for split, rows in splits.items()}
    if len(set(kinds.values())) > 1:
        said = " and ".join(f"{kind} for {split}" for split, kind in kinds.items())
        raise WeightsRefused(f"the file holds {said}.", remedy="Store outputs of one kind for both.")
    kind = report["kind"] = kinds["train"]
    order = {"train": _order(answers)}
    names = None if answers.names is None else once(answers.names)
    facts = {
        "architecture": LOGITS,
        "classes": list(classes),
        "rows": report["rows"],
        "kind": kind,
        "parameters": None,
        "named": names is not None,
    }
    if names is not None:
        report["named"] = f"rows have names, such as {shown(names[0])}; they are matched with those of a job's data set"
    pieces = {split: (len(rows), _logits(rows, kind, order.get(split))) for split, rows in splits.items()}
    save(target, "model", pieces, facts, names=names or ())
    return facts


@dataclass
class _Seen:
    """Rows that are what each kind's would be, and the first of each that are not."""

    rows: int = 0
    like: dict[Kind, int] = field(default_factory=lambda: {"probabilities": 0, "log-probabilities": 0})
    unlike: dict[Kind, int] = field(default_factory=dict)


def _kind_of(split: str, rows: Array, classes: int) -> Kind:
    """What all rows are. Raises WeightsRefused for one that could be nothing, and where most are what some are not."""
    if rows.ndim != 2 or not (np.issubdtype(rows.dtype, np.floating) and rows.shape[0]):
        message = f"the rows of {split} have the shape {list(rows.shape)} of {rows.dtype}."
        raise WeightsRefused(message, remedy="Store them as floating-point numbers of the shape [images, classes].")
    if rows.shape[1] != classes:
        message = f"the rows of {split} have {rows.shape[1]} columns, where {classes} classes were named."
        raise WeightsRefused(message, remedy="Give one column for each class, and name as many classes as columns.")
    seen = _Seen()
    for start, piece in _pieces(rows):
        bad = ~np.isfinite(piece).all(axis=1)
        if bad.any():
            message = f"row {start + int(bad.argmax())} of {split} holds NaN or infinity."
            raise WeightsRefused(message, remedy="Compute it again; rows are counted from 0.")
        for kind, like in sums_to_one(torch.from_numpy(piece)).items():
            seen.like[kind] += int(like.sum())
            if kind not in seen.unlike and not bool(like.all()):
                seen.unlike[kind] = start + int((~like).int().argmax())
        seen.rows += len(piece)
    for kind, count in seen.like.items():
        if count == seen.rows:
            return kind
        if 2 * count > seen.rows:
            message = f"row {seen.unlike[kind]} of {split} is no {kind}, as {count:,} of the {seen.rows:,} rows are."
            raise WeightsRefused(message, remedy="Compute it again; rows are counted from 0.")
    return "logits"


def _order(answers: Answers) -> npt.NDArray[np.int64] | None:
    """For each image of the training split the place of its row in the file; None where they are the same."""
    if answers.ids is None:
        return None
    count = len(answers.train)
    order = np.argsort(answers.ids, kind="stable").astype(np.int64)
    if len(answers.ids) != count or not np.array_equal(answers.ids[order], np.arange(count)):
        message = f"the ids do not name each of the places 0 to {count - 1} once."
        raise WeightsRefused(message, remedy="As id give each image's place in the training split, counted from 0.")
    return order


def _logits(rows: Array, kind: Kind, order: npt.NDArray[np.int64] | None) -> Iterator[npt.NDArray[np.float32]]:
    for _, piece in _pieces(rows, order):
        yield to_logits(torch.from_numpy(piece), kind).numpy()


def _pieces(rows: Array, order: npt.NDArray[np.int64] | None = None) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Some rows at a time as float32 of their own, with the place of the first."""
    for start in range(0, len(rows), _PIECE):
        part: Any = slice(start, start + _PIECE) if order is None else order[start : start + _PIECE]
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
            yield start, np.array(rows[part], dtype=np.float32)
