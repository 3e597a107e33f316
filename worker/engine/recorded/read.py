"""A file of outputs to rows: .npy, .npz, safetensors, CSV or Parquet, told by its first bytes. Nothing of it is run."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import safetensors
from safetensors.torch import load_file

from worker.engine.data.files import Files, Member, shown
from worker.engine.data.npy import mapped_array
from worker.engine.data.unpack import unpack
from worker.engine.errors import WeightsRefused
from worker.engine.memory import out_of_memory

Array = npt.NDArray[np.generic]

_ROWS = ("train", "train_logits", "train_probabilities", "logits", "probabilities", "log_probabilities", "outputs")
_TEST = ("test", "test_logits", "test_probabilities", "test_outputs")
_IDS = ("id", "ids", "index", "indices", "sample", "sample_id", "row")
_NAMES = ("path", "file", "filename", "file_name", "image", "image_path", "filepath", "name")
_REMEDY = "Store one row for each training image and one column for each class, as floating-point numbers."
_LONGEST_LINE = 2**20


@dataclass(frozen=True)
class Answers:
    """What a file holds."""

    format: str
    train: Array
    """[N, classes] of floating-point numbers, mapped where the format allows."""
    test: Array | None = None
    ids: npt.NDArray[np.int64] | None = None
    """Of each row of train, the image's place in the training split; None where the rows are in its order, or have
    names."""
    names: tuple[str, ...] | None = None
    """Of each row of train, the path of its image in the uploaded data set."""


def read(upload: Path, scratch: Path) -> Answers:
    """The rows of ``upload``. ``scratch`` is a file that may be written. Raises EngineError."""
    with upload.open("rb") as file:
        head = file.read(512)
    size = upload.stat().st_size
    if head.startswith(b"\x93NUMPY"):
        array = mapped_array(Files(upload, "npy", size), Member("the array", 0, size))
        return _named("npy", {"array": array})
    if head.startswith(b"PK"):
        files = unpack(upload, scratch)
        members = {member.parts[-1].removesuffix(".npy").lower(): member for member in files.members}
        return _named("npz", {name: mapped_array(files, member) for name, member in members.items()})
    if head[8:9] == b"{":
        return _named("safetensors", _safetensors(upload))
    if head.startswith(b"PAR1"):
        return _table("parquet", _parquet(upload))
    return _table("csv", _csv(upload))


def _safetensors(upload: Path) -> dict[str, Array]:
    try:
        tensors = load_file(upload)
        return {
            name: (tensor.float() if tensor.is_floating_point() else tensor).numpy() for name, tensor in tensors.items()
        }
    except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError) as error:
        if out_of_memory(error):
            raise
        raise WeightsRefused(f"the safetensors file is damaged: {error}.", remedy="Write it again.") from error


def _named(kind: str, arrays: Mapping[str, Array]) -> Answers:
    """Arrays by the names that people give them; a table that is alone may have any."""
    tables = {name: array for name, array in arrays.items() if array.ndim == 2}
    train = next((tables[name] for name in _ROWS if name in tables), None)
    if train is None and len(tables) == 1:
        (train,) = tables.values()
    if train is None:
        given = ", ".join(f"{shown(name)} {list(array.shape)}" for name, array in sorted(arrays.items())[:10])
        message = f"the file's arrays are {given or 'none'}, and none is known for the rows of the training images."
        raise WeightsRefused(message, remedy="Call it train, of the shape [images, classes], and those of test test.")
    ids = next((arrays[name] for name in _IDS if name in arrays), None)
    return Answers(kind, train, next((tables[name] for name in _TEST if name in tables), None), _whole(ids))


def _whole(ids: Array | None) -> npt.NDArray[np.int64] | None:
    if ids is None:
        return None
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        message = f"the ids have the shape {list(ids.shape)} of {ids.dtype}."
        raise WeightsRefused(message, remedy="As id give each image's place in the training split, counted from 0.")
    return np.asarray(ids, dtype=np.int64)


def _csv(upload: Path) -> Iterator[pa.RecordBatch]:
    """With or without a line of names before the numbers."""
    with upload.open("rb") as file:
        first = file.readline(_LONGEST_LINE)
    try:
        cells = next(csv.reader([first.decode("utf-8-sig")]), [])
    except (UnicodeDecodeError, csv.Error):
        cells = []
    if len(cells) < 2:
        message = "the file is neither npy, npz, safetensors, Parquet nor CSV with a column for each class."
        raise WeightsRefused(message, remedy=_REMEDY)
    read_options = pyarrow.csv.ReadOptions(autogenerate_column_names=all(_is_number(cell) for cell in cells))
    try:
        with pyarrow.csv.open_csv(upload, read_options=read_options) as batches:
            yield from batches
    except pa.ArrowException as error:
        if out_of_memory(error):
            raise
        raise WeightsRefused(f"the CSV cannot be read: {str(error)[:200]}.", remedy=_REMEDY) from error


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _parquet(upload: Path) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(upload) as file:
            yield from file.iter_batches(batch_size=4096)
    except pa.ArrowException as error:
        if out_of_memory(error):
            raise
        raise WeightsRefused(f"the Parquet file cannot be read: {str(error)[:200]}.", remedy=_REMEDY) from error


def _table(kind: str, batches: Iterator[pa.RecordBatch]) -> Answers:
    """Rows of a table: a column for each class or one column of lists, and perhaps one of ids or of paths."""
    pieces: list[npt.NDArray[np.float32]] = []
    ids: list[Array] = []
    names: list[str] = []
    for batch in batches:
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        named = next((name for name in columns if name.strip().lower() in _IDS), None)
        if named is not None:
            ids.append(columns.pop(named).to_numpy(zero_copy_only=False))
        texts = [name for name in columns if name.strip().lower() in _NAMES and _is_text(columns[name])]
        if texts:
            names += (str(name) for name in columns.pop(texts[0]).to_pylist())
        pieces.append(_columns(columns))
    if not pieces:
        raise WeightsRefused("the file has no rows.", remedy=_REMEDY)
    if len({piece.shape[1] for piece in pieces}) > 1:
        raise WeightsRefused("the lists of outputs are not all of one length.", remedy=_REMEDY)
    places = _whole(np.concatenate(ids)) if ids else None
    return Answers(kind, np.concatenate(pieces), None, places, tuple(names) if names and not ids else None)


def _is_text(column: Any) -> bool:
    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type)) and not column.null_count


def _columns(columns: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    if not columns:
        raise WeightsRefused("the file's rows have an id or a path, and no outputs.", remedy=_REMEDY)
    for name, column in columns.items():
        kind = column.type
        nested = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        values = kind.value_type if nested else kind
        if column.null_count or not (pa.types.is_floating(values) or pa.types.is_integer(values)):
            what = "has empty cells" if column.null_count else f"holds {kind}"
            raise WeightsRefused(
                f"the column {shown(name)} {what}.",
                remedy=f"{_REMEDY} A column of places is called id, one of paths path.",
            )
        if nested:
            if len(columns) > 1:
                message = f"the columns {', '.join(shown(each) for each in list(columns)[:10])} hold lists and more."
                raise WeightsRefused(message, remedy="Keep the list of outputs, and id.")
            return _lists(name, column)
    return np.stack([column.to_numpy(zero_copy_only=False).astype(np.float32) for column in columns.values()], axis=1)


def _lists(name: str, column: Any) -> npt.NDArray[np.float32]:
    fixed = pa.types.is_fixed_size_list(column.type)
    lengths = {column.type.list_size} if fixed else set(column.value_lengths().to_pylist())
    if len(lengths) != 1:
        raise WeightsRefused(f"the lists of {shown(name)} are not all of one length.", remedy=_REMEDY)
    if 0 in lengths:
        raise WeightsRefused(f"the lists of {shown(name)} are empty.", remedy=_REMEDY)
    values = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(values, dtype=np.float32).reshape(-1, lengths.pop())
