"""Files a child hands over. It is confined because it may be hostile, so its names and its files are not trusted."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_METRIC = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./:+@ -]{0,95}")
_LARGEST_STEP = 2**31 - 1
PHASE = re.compile(r"teacher|(teacher|student|control)-\d{1,4}")
_NAME = re.compile(r"[a-z0-9][A-Za-z0-9_-]{0,90}(\.[a-z0-9]{1,12}){1,2}")


class Untrustworthy(Exception):
    """A child handed over what an honest one never does."""


class Handover:
    """A folder that a child writes into and its supervisor reads from. No link of the child's is ever followed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """The files in it, sorted. Raises Untrustworthy for a name that no honest child gives."""
        with self._opened() as folder:
            names = sorted(os.listdir(folder))  # noqa: PTH208  # by descriptor, so that the folder cannot be exchanged
        for name in names:
            _plain(name)
        return names

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """A regular file with one name, to read. Raises Untrustworthy, OSError."""
        with self._opened() as folder:
            try:
                descriptor = os.open(_plain(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            except OSError as error:
                raise Untrustworthy(f"the child's file {name} cannot be opened: {error.strerror}") from error
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                os.close(descriptor)
                raise Untrustworthy(f"the child's file {name} is no plain file")
            with os.fdopen(descriptor, "rb") as file:
                yield file

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""
        with self._opened() as folder:
            try:
                os.unlink(_plain(name), dir_fd=folder)
            except FileNotFoundError:
                return

    @contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            raise Untrustworthy(f"the child's folder {self._folder.name} cannot be opened: {error.strerror}") from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def point(name: object, step: object, at: object, value: object) -> tuple[str, int, float, float | None]:
    """A metric's point as every database takes it. Raises Untrustworthy for one that no honest child reports."""
    if not isinstance(name, str) or not _METRIC.fullmatch(name):
        raise Untrustworthy(f"the child named a metric {name!r:.100}")
    if not isinstance(step, int) or not 0 <= step <= _LARGEST_STEP:
        raise Untrustworthy(f"the child reported {name} at step {step!r:.100}")
    if not isinstance(at, int | float) or not isinstance(value, int | float | None):
        raise Untrustworthy(f"the child reported {name} as {value!r:.100} at {at!r:.100}")
    return name, step, float(at), None if value is None else float(value)


def _plain(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise Untrustworthy(f"the child named a file {name!r}")
    return name
