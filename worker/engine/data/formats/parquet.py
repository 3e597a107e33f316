"""Parquet with image bytes, as Hugging Face's ``datasets`` writes it: a column of {bytes, path} and one of labels."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from worker.engine.data.files import TOTAL_LIMIT, Files, Member, shown
from worker.engine.data.found import SPLITS, EncodedImage, Found, Split, class_names
from worker.engine.errors import UnusableUpload
from worker.engine.memory import out_of_memory

_IMAGE, _LABEL = ("image", "img", "images", "jpg", "png"), ("label", "labels", "fine_label", "class", "target", "cls")
_BATCH = 64
_SPLIT = re.compile(r"(?P<split>[A-Za-z]+)(?:[-_.].*)?\.parquet", re.IGNORECASE)


def matches(files: Files) -> bool:
    """Whether there is a Parquet file."""
    return any(member.suffix == "parquet" for member in files.members)


def read(files: Files) -> Found:
    """Several files are told apart by their names (``train-00000-of-00001.parquet``); one is all train."""
    tables = [member for member in files.members if member.suffix == "parquet"]
    encoded = Files(Path(f"{files.path}.images"), "parquet", max(files.uploaded_bytes, files.written))
    encoded.path.touch()
    rows: list[tuple[Member, Split, Any]] = []
    names: tuple[str, ...] | None = None
    with files.reading() as reader:
        for table in tables:
            split = _split(table, alone=len(tables) == 1)
            try:
                with pq.ParquetFile(pa.PythonFile(reader.open(table), mode="r"), memory_map=False) as file:
                    names = names or _class_label(file)
                    _take(file, table, split, encoded, rows)
            except pa.ArrowException as error:
                if out_of_memory(error):
                    raise
                raise UnusableUpload(
                    f"{shown(table.name)} cannot be read: {str(error)[:200]}.", remedy="Write it again."
                ) from error
    labels = [label for _, _, label in rows]
    texts = any(isinstance(label, str) for label in labels)
    if names is None or texts:
        names = class_names([str(label) for label in labels])
        number = {name: index for index, name in enumerate(names)}
        indices = [number[str(label)] for label in labels]
    else:
        indices = [int(label) for label in labels]
    if not rows or min(indices) < 0 or max(indices) >= len(names):
        raise UnusableUpload(
            f"it has {len(rows)} rows, and labels that are not among its {len(names)} class names.",
            remedy="Leave unlabelled rows (-1) out.",
        )
    images = [EncodedImage(member, split, index) for (member, split, _), index in zip(rows, indices, strict=True)]
    return Found(names, encoded, images=images)


def _split(table: Member, *, alone: bool) -> Split:
    match = _SPLIT.fullmatch(table.parts[-1])
    name = match["split"].lower() if match else ""
    if name in SPLITS:
        return SPLITS[name]
    if alone:
        return "train"
    raise UnusableUpload(
        f"the name of {shown(table.name)} does not say its split.", remedy="Call it train-….parquet or test-….parquet."
    )


def _class_label(file: pq.ParquetFile) -> tuple[str, ...] | None:
    """The class names that Hugging Face keeps in the schema's metadata."""
    metadata = (file.schema_arrow.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(metadata)["info"]["features"] if metadata else {}
        label: dict[str, Any] = next((features[name] for name in _LABEL if name in features), {})
        names = tuple(str(name)[:128] for name in label.get("names", ()))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return names or None


def _take(
    file: pq.ParquetFile, table: Member, split: Split, encoded: Files, rows: list[tuple[Member, Split, Any]]
) -> None:
    schema = file.schema_arrow
    image = next((name for name in _IMAGE if name in schema.names), None)
    label = next((name for name in _LABEL if name in schema.names), None)
    if image is None or label is None:
        raise UnusableUpload(
            f"{shown(table.name)} has the columns {', '.join(shown(name) for name in schema.names[:20])}.",
            remedy="Call them image and label.",
        )
    metadata = file.metadata
    claimed = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    if claimed > TOTAL_LIMIT:
        raise UnusableUpload(f"{shown(table.name)} unpacks to {claimed:,} bytes.", remedy="Make the images smaller.")
    for batch in file.iter_batches(batch_size=_BATCH, columns=[image, label]):
        for cell, said in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
            data = cell.get("bytes") if isinstance(cell, dict) else cell
            if not isinstance(data, bytes) or said is None or not isinstance(said, int | str):
                raise UnusableUpload(
                    f"row {len(rows)} of {shown(table.name)} has no image bytes, or a label that is no number or text.",
                    remedy="Embed the images (cast the column to Image with its bytes), and label every row.",
                )
            name = cell.get("path") if isinstance(cell, dict) else None
            rows.append((encoded.add(str(name or f"row {len(rows)}"), pa.BufferReader(data)), split, said))
