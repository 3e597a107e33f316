"""Where files live. A key is made of ids and numbers that the service chose; no user's string is ever part of one."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from app.errors import StorageError

_KEY = re.compile(r"[a-z0-9_-]+(/[A-Za-z0-9][A-Za-z0-9_.-]*)+")
_CHUNK = 2**20


@dataclass(frozen=True)
class Stored:
    """A file that has safely arrived."""

    key: str
    bytes: int
    sha256: str


class Storage(Protocol):
    """The narrow interface to the outside."""

    def put(self, key: str, source: BinaryIO) -> Stored:
        """Copy an open file in, durably, and say what arrived. Raises StorageError."""

    def take(self, key: str, source: Path) -> None:
        """Move a file in. A second call, after one that came through, is no error. Raises StorageError."""

    def fetch(self, key: str, target: Path) -> Stored:
        """Copy a file out and say what left. Raises FileNotFoundError, StorageError."""

    def local_path(self, key: str) -> Path | None:
        """A path to serve the file from, when the files are local."""

    def delete(self, key: str) -> None:
        """Delete a file; one that is not there is no error."""

    def delete_prefix(self, prefix: str) -> None:
        """Delete everything below a prefix; nothing there is no error."""


class LocalStorage:
    """A folder. Files appear whole: temporary name, fsync, rename, fsync of the folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise _failure("create", root, error) from error

    def put(self, key: str, source: BinaryIO) -> Stored:
        target = self._path(key)
        draft = target.with_name(f".{uuid.uuid4().hex}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("xb") as writing:
                stored = _copy(source, writing, key)
                writing.flush()
                os.fsync(writing.fileno())
            draft.rename(target)
            _sync_folder(target.parent)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise _failure("write", target, error) from error
        return stored

    def take(self, key: str, source: Path) -> None:
        target = self._path(key)
        if not source.exists() and target.exists():
            return
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
            _sync_folder(target.parent)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise _failure("move", target, error) from error
            with source.open("rb") as file:  # the storage lies on another disk
                self.put(key, file)
            source.unlink(missing_ok=True)

    def fetch(self, key: str, target: Path) -> Stored:
        with self._path(key).open("rb") as reading, target.open("wb") as writing:
            return _copy(reading, writing, key)

    def local_path(self, key: str) -> Path | None:
        return self._path(key)

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def delete_prefix(self, prefix: str) -> None:
        shutil.rmtree(self._path(prefix), ignore_errors=True)

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"not a storage key: {key!r}")
        return self.root / key


def open_storage(url: str) -> Storage:
    """The storage behind a URL: ``file:///folder``."""
    parts = urlsplit(url)
    if parts.scheme != "file":
        raise StorageError(f"STILLHOUSE_STORAGE_URL must be a file:/// URL, not {url!r}")
    return LocalStorage(Path(unquote(parts.path)))


def _copy(reading: BinaryIO, writing: BinaryIO, key: str) -> Stored:
    digest, size = hashlib.sha256(), 0
    while chunk := reading.read(_CHUNK):
        digest.update(chunk)
        size += len(chunk)
        writing.write(chunk)
    return Stored(key=key, bytes=size, sha256=digest.hexdigest())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _failure(verb: str, path: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot {verb} {path}: {error.strerror}; free some space or mend the rights, then try again")
