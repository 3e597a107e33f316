"""Files in a folder. They appear whole: temporary name, fsync, rename, fsync of the folder."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from app.errors import StorageError
from app.storage.base import BINARY, CHUNK, Found, Measure, Storage, Stored, checked

_DRAFT = re.compile(r"/\.[0-9a-f]{32}\.part$")


class LocalStorage(Storage):
    """A folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise _failure("create", root, error) from error

    def put(self, key: str, source: BinaryIO, *, media_type: str = BINARY) -> Stored:
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

    def read(self, key: str, into: BinaryIO) -> Stored:
        with self._path(key).open("rb") as reading:
            return _copy(reading, into, key)

    def local_path(self, key: str) -> Path | None:
        return self._path(key)

    def link(self, key: str) -> str:
        return self._path(key).as_uri()

    def find(self, prefix: str) -> Iterator[Found]:
        for path in (self.root / prefix).rglob("*"):
            try:
                modified = path.stat().st_mtime
            except FileNotFoundError:
                continue  # gone since it was listed
            if path.is_file():
                key = path.relative_to(self.root).as_posix()
                yield Found(key, datetime.fromtimestamp(modified, UTC))

    def delete(self, *keys: str) -> None:
        for key in keys:
            self._path(_DRAFT.sub("/draft", key))  # a draft's own name begins with a dot, as no key's does
            (self.root / key).unlink(missing_ok=True)

    def delete_prefix(self, prefix: str) -> None:
        shutil.rmtree(self._path(prefix), ignore_errors=True)

    def check(self) -> None:
        probe = self.root / f".{uuid.uuid4().hex}.probe"
        try:
            probe.write_bytes(b"probe")
            probe.unlink()
        except OSError as error:
            raise _failure("write", probe, error) from error

    def _path(self, key: str) -> Path:
        return self.root / checked(key)


def _copy(reading: BinaryIO, writing: BinaryIO, key: str) -> Stored:
    measure = Measure()
    while chunk := reading.read(CHUNK):
        writing.write(measure.add(chunk))
    return measure.stored(key)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _failure(verb: str, path: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot {verb} {path}: {error.strerror}; free some space or mend the rights, then try again")
