"""Where files live: a folder, or a bucket of an S3-compatible store. One interface, two modules."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.errors import StorageError
from app.storage.base import BINARY, Found, Storage, Stored
from app.storage.local import LocalStorage

__all__ = ["BINARY", "Found", "LocalStorage", "Storage", "Stored", "open_storage"]


def open_storage(url: str, *, patience_seconds: float = 15, public_endpoint: str = "") -> Storage:
    """The storage behind a URL: ``file:///folder`` or ``s3://bucket/prefix``. Raises StorageError for another."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return LocalStorage(Path(unquote(parts.path)))
    if parts.scheme == "s3":
        from app.storage.s3 import S3Storage  # noqa: PLC0415  # the embedded default starts without it

        prefix = unquote(parts.path).strip("/")
        return S3Storage(parts.netloc, prefix, patience_seconds=patience_seconds, public_endpoint=public_endpoint)
    raise StorageError(f"STILLHOUSE_STORAGE_URL must be file:///FOLDER or s3://BUCKET/PREFIX, not {url!r}")
