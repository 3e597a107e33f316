"""What every storage does. A key is made of ids and numbers that the service chose, never of a user's string.

No key is ever written by two: attempts have a number of their own, parts of uploads a random name. So a late writer
can overwrite nothing, and which file counts is decided in the database.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

BINARY = "application/octet-stream"
CHUNK = 2**20
_KEY = re.compile(r"[a-z0-9_-]+(/[A-Za-z0-9][A-Za-z0-9_.-]*)+")


@dataclass(frozen=True)
class Stored:
    """A file that has safely arrived, or left."""

    key: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Found:
    """A file that a listing shows."""

    key: str
    modified: datetime
    """By the store's clock."""


class Storage(ABC):
    """The narrow interface to the outside."""

    @abstractmethod
    def put(self, key: str, source: BinaryIO, *, media_type: str = BINARY) -> Stored:
        """Copy an open file in, durably and in constant memory, and say what arrived. Raises StorageError."""

    @abstractmethod
    def read(self, key: str, into: BinaryIO) -> Stored:
        """Copy a file into an open one and say what left. Raises FileNotFoundError, StorageError."""

    def fetch(self, key: str, target: Path) -> Stored:
        """Copy a file out and say what left. Raises FileNotFoundError, StorageError."""
        with target.open("wb") as writing:
            return self.read(key, writing)

    @abstractmethod
    def local_path(self, key: str) -> Path | None:
        """A path to serve the file from, when the files are local."""

    @abstractmethod
    def link(self, key: str) -> str:
        """A URL that hands the file to whoever has it, for some minutes; only where files are not local.

        It is as good as a key, and so is never logged. Raises StorageError.
        """

    @abstractmethod
    def find(self, prefix: str) -> Iterator[Found]:
        """Every file below a prefix. Raises StorageError."""

    @abstractmethod
    def delete(self, *keys: str) -> None:
        """Delete files; one that is not there is no error. Raises StorageError."""

    @abstractmethod
    def delete_prefix(self, prefix: str) -> None:
        """Delete everything below a prefix; nothing there is no error. Raises StorageError."""

    @abstractmethod
    def check(self) -> None:
        """Write, read and delete a small file. Raises StorageError, soon, with what is wrong and how to mend it."""


def checked(key: str) -> str:
    """``key``, if it is one. Raises ValueError."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"not a storage key: {key!r}")
    return key


class Measure:
    """Counts and hashes what passes by."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._bytes = 0

    def add(self, chunk: bytes) -> bytes:
        """The same chunk, counted and hashed."""
        self._digest.update(chunk)
        self._bytes += len(chunk)
        return chunk

    def stored(self, key: str) -> Stored:
        """What has passed by."""
        return Stored(key=key, bytes=self._bytes, sha256=self._digest.hexdigest())
