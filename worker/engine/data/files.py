"""The files of an upload. They are kept in one file of ours, one after the other, so no name in them is ever a path."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from worker.engine.errors import UnusableUpload

_CHUNK = 2**20
FILES_LIMIT = 2_000_000
TOTAL_LIMIT = 60 * 2**30
"""Bytes that an upload may unpack to; below the largest file a child may write."""
RATIO_LIMIT, RATIO_ALLOWANCE = 100, 64 * 2**20
"""Image files hardly shrink and raw arrays by a factor of ten; a thousand is a bomb."""


@dataclass(frozen=True)
class Member:
    """Where one file lies."""

    name: str
    """As in the archive, with forward slashes. For reports and for finding classes; never opened."""
    offset: int
    size: int

    @property
    def parts(self) -> tuple[str, ...]:
        """The name, folder by folder."""
        return tuple(self.name.split("/"))

    @property
    def suffix(self) -> str:
        """What comes after the last dot, in small letters."""
        last = self.parts[-1]
        return last.rpartition(".")[2].lower() if "." in last else ""


@dataclass
class Files:
    """What was uploaded: a file and the places of its members in it."""

    path: Path
    kind: str
    """zip, tar or parquet."""
    uploaded_bytes: int
    members: list[Member] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    """What was not unpacked, and why."""
    written: int = 0

    def add(self, name: str, source: BinaryIO, *, limit: int | None = None) -> Member:
        """Append the bytes of ``source``. Raises UnusableUpload past a limit."""
        if len(self.members) >= FILES_LIMIT:
            raise UnusableUpload(
                f"the archive holds more than {FILES_LIMIT:,} files.", remedy="Split it into several data sets."
            )
        start = self.written
        with self.path.open("ab") as file:
            while chunk := source.read(_CHUNK):
                self.written += len(chunk)
                if limit is not None and self.written - start > limit:
                    raise UnusableUpload(
                        f"{shown(name)} is longer than the archive says.", remedy="Pack the archive again."
                    )
                self._check(name)
                file.write(chunk)
        member = Member(name, start, self.written - start)
        self.members.append(member)
        return member

    def _check(self, name: str) -> None:
        if self.written > TOTAL_LIMIT:
            raise UnusableUpload(
                f"it unpacks to more than {TOTAL_LIMIT:,} bytes (at {shown(name)}).",
                remedy="Make the images smaller before packing them.",
            )
        if self.written > RATIO_ALLOWANCE + RATIO_LIMIT * self.uploaded_bytes:
            raise UnusableUpload(
                f"it unpacks to more than {RATIO_LIMIT} times its size (at {shown(name)}), as archive bombs do.",
                remedy="Pack image files as they are.",
            )

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """Open for reading members at random."""
        with self.path.open("rb") as file:
            yield Reader(file)


class Reader:
    """Reads members."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, member: Member, *, limit: int | None = None) -> bytes:
        """A member's bytes, at most ``limit`` of them."""
        size = member.size if limit is None else min(limit, member.size)
        return os.pread(self._file.fileno(), size, member.offset)

    def open(self, member: Member) -> BinaryIO:
        """A member as a file."""
        return io.BufferedReader(_Window(self._file, member))


class _Window(io.RawIOBase):
    """A stretch of a file, as a file."""

    def __init__(self, file: BinaryIO, member: Member) -> None:
        super().__init__()
        self._descriptor = file.fileno()
        self._member = member
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._member.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed's private buffer type
        wanted = max(0, min(len(buffer), self._member.size - self._at))
        found = os.pread(self._descriptor, wanted, self._member.offset + self._at)
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


def shown(name: str) -> str:
    """A user's name for a file in a sentence: bounded, and without anything that a terminal or a page would obey."""
    clean = "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in name[:300])
    return clean if len(clean) <= 200 else f"{clean[:120]}…{clean[-70:]}"
