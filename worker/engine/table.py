"""The view table: what a teacher gives for (sample, view), kept in a file and filled as it is asked for.

The file is a header of 4 KiB, JSON that says what the rows are, and then for each row of ``Views`` the logits and a
checksum of them and of the row's number. A row is there when its checksum is right. So a process that is killed, a
machine that loses power or a page that never reached the disk can lose rows, and can never leave a wrong one.
"""

from __future__ import annotations

import errno
import json
import os
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from worker.engine.random import scrambled

HEADER = 4096
_CHECK_BYTES = 8
_AT_ONCE = 2**22
"""Words of the rows that are looked through together."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class Layout:
    """How large a table is."""

    rows: int
    classes: int
    dtype: torch.dtype

    @property
    def words(self) -> int:
        """Of 16 bits, of a row's logits."""
        return self.classes * self.dtype.itemsize // 2

    @property
    def stride(self) -> int:
        """Bytes of a row."""
        return 2 * self.words + _CHECK_BYTES

    @property
    def bytes(self) -> int:
        """Of the file; it is sparse, so that rows that are not there take no room."""
        return HEADER + self.rows * self.stride


class ViewTable:
    """Open one file. One that was made for something else, or is damaged at its head, is emptied first."""

    def __init__(self, path: Path, layout: Layout, about: Mapping[str, object]) -> None:
        self.layout = layout
        self.looked_up = 0
        self.written = 0
        self.is_full = False
        """The disk is: what is there is used, nothing is added."""
        self._head = _head(layout, about)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        weakref.finalize(self, os.close, self._file)
        if os.pread(self._file, HEADER, 0) != self._head or path.stat().st_size != layout.bytes:
            self.clear()
        whole = torch.from_file(str(path), shared=True, size=layout.bytes // 2, dtype=torch.int16)
        self._rows = whole[HEADER // 2 :].view(layout.rows, layout.stride // 2)
        self._weights = scrambled(torch.arange(layout.words), 0) | 1

    def clear(self) -> None:
        """Forget every row."""
        os.ftruncate(self._file, HEADER)
        os.ftruncate(self._file, self.layout.bytes)
        os.pwrite(self._file, self._head, 0)

    def read(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, classes], and which of them are there, bool [B]."""
        records = self._rows[rows]
        words, check = records[:, : self.layout.words], records[:, self.layout.words :]
        aligned = check.clone(memory_format=torch.contiguous_format)  # a single row is contiguous where it lies
        there = aligned.view(torch.int64).flatten() == self._check(words, rows)
        return words.contiguous().view(self.layout.dtype), there

    def write(self, rows: Tensor, logits: Tensor) -> None:
        """Keep logits [B, classes] on the host. Written, not stored through the mapping: a full disk is no SIGBUS."""
        words = logits.contiguous().view(torch.int16)
        records = torch.cat([words, self._check(words, rows).view(torch.int16).view(len(rows), -1)], dim=1).numpy()
        for row, record in zip(rows.tolist(), records, strict=True):
            if self.is_full:
                return
            try:
                os.pwrite(self._file, record.tobytes(), HEADER + row * self.layout.stride)
                self.written += 1
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self.is_full = True

    def there(self, rows: Tensor) -> Tensor:
        """Which of ``rows`` are there: bool [B]."""
        return self.read(rows)[1]

    def written_rows(self) -> Iterator[Tensor]:
        """All rows that are there, ascending: int64, some at a time. Of the file it reads what is no hole, once."""
        piece, done = max(1, _AT_ONCE // self.layout.words), 0
        for start, end in self._data():
            last = min(-(-(end - HEADER) // self.layout.stride), self.layout.rows)
            for first in range(max(done, (start - HEADER) // self.layout.stride), last, piece):
                rows = torch.arange(first, min(first + piece, last))
                yield rows[self.there(rows)]
            done = max(done, last)

    def _data(self) -> Iterator[tuple[int, int]]:
        """From and to which byte the file holds something, behind its header."""
        end = HEADER
        while end < self.layout.bytes:
            try:
                start = os.lseek(self._file, end, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # there is nothing more
                    return
                raise
            end = os.lseek(self._file, start, os.SEEK_HOLE)
            yield start, end

    def _check(self, words: Tensor, rows: Tensor) -> Tensor:
        return scrambled((words.long() * self._weights).sum(dim=1) + rows, 1)


def _head(layout: Layout, about: Mapping[str, object]) -> bytes:
    described = {**about, "rows": layout.rows, "classes": layout.classes, "dtype": str(layout.dtype), "format": 1}
    text = json.dumps(described, sort_keys=True).encode() + b"\n"
    if len(text) > HEADER:
        raise ValueError(f"a table's header takes {len(text)} bytes; there is room for {HEADER}")
    return text.ljust(HEADER, b" ")
