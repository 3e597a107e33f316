"""Made files for tests of uploads: images of every kind, and archives that hold them."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from PIL import Image

from worker.engine.data import store
from worker.engine.data.images import RawDataset
from worker.engine.data.ingest import Ingest


def picture(
    value: int | tuple[int, ...] = (200, 100, 50),
    *,
    size: tuple[int, int] = (12, 12),
    mode: str = "RGB",
    kind: str = "PNG",
    **options: Any,
) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, value).save(out, kind, **options)
    return out.getvalue()


def folder(**splits: int) -> dict[str, bytes]:
    """``{split}/{class}/{n}.png``, each image another shade."""
    return {
        f"{split}/{name}/{number}.png": picture((shade + number, len(split), 7))
        for split, count in splits.items()
        for name, shade in (("ants", 10), ("bees", 120))
        for number in range(count)
    }


def zipped(path: Path, files: Mapping[str, bytes], *, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(prefix + name, data)
    return path


def tarred(path: Path, files: Mapping[str, bytes]) -> Path:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    data = out.getvalue()
    if path.suffix == ".gz":
        data = gzip.compress(data)
    elif path.suffix == ".zst":
        data = zstandard.ZstdCompressor().compress(data)
    path.write_bytes(data)
    return path


def idx(array: np.ndarray[Any, Any]) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()
    )


def npz(path: Path, **arrays: Any) -> Path:
    with path.open("wb") as file:
        np.savez(file, **arrays)
    return path


def ingested(
    upload: Path, *, image_size: int | None = None, report: dict[str, Any] | None = None
) -> tuple[RawDataset, dict[str, Any], dict[str, Any]]:
    """(the stored set, its report, its facts)."""
    said: dict[str, Any] = {} if report is None else report
    target = upload.parent / f"{upload.name}.stored"
    scratch = upload.parent / f"{upload.name}.scratch"
    ingest = Ingest(upload, scratch=scratch, image_size=image_size, report=said, alive=lambda: None)
    facts = ingest.run(target, name="made")
    return store.load(target), said, facts
