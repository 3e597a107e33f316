"""View tables that outlive their job. Each belongs to one project; those that were not used for longest go first.

A child gets a copy and hands a copy back, so that jobs at the same time cannot disturb each other: whichever brings
more rows is kept, and is put in place by one rename. What is in a table is for the engine to believe or not: every
row has a checksum, and random rows are computed again before any is used.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.config import Settings
from app.tables import Job
from worker.handover import Handover, Untrustworthy
from worker.weights import Source

NAME = "view.table"
"""In the child's folder ``tables``."""
HEADER = 4096
_CHECK_BYTES = 8
_ITEM_BYTES = {"torch.float32": 4, "torch.bfloat16": 2, "torch.float16": 2}
_ABANDONED_SECONDS = 3600


@dataclass(frozen=True)
class Kept:
    """Where the table of a job's teacher and data is kept."""

    folder: Path
    """Of all projects."""
    project_id: str
    key: str
    limit: int
    """Bytes of all tables together, and of one."""

    @property
    def path(self) -> Path:
        """The file; it need not be there."""
        return self.folder / self.project_id / f"{self.key}.table"


def kept(
    settings: Settings, job: Job, files: Mapping[str, Mapping[str, Any]] | None, networks: Mapping[str, Source]
) -> Kept | None:
    """Jobs of a project whose specs agree in all that a teacher's outputs depend on share a table; None where there
    is no teacher, or no room.

    ``files`` are those of an uploaded data set, ``networks`` where weights come from. That the teacher really is the
    same, down to its weights, is for the engine to see: a wrong guess here costs a cold start.
    """
    spec = job.spec
    if spec["teacher"] is None or not settings.tables_limit_bytes:
        return None
    training = {name: spec["training"][name] for name in ("seed", "augmentation", "precision")}
    data = sorted((name, str(file["sha256"])) for name, file in (files or {}).items())
    given = sorted((role, sorted(source.files)) for role, source in networks.items() if role != "student")
    about = [spec["dataset"], spec["teacher"], training, spec["resources"]["gpus"], data, given]
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    return Kept(settings.data_dir / "tables", job.project_id, key, settings.tables_limit_bytes)


def stage(found: Kept | None, scratch: Path, warn: Callable[[str], None]) -> None:
    """Make the child's folder, with a copy of the table if there is one. No job depends on that."""
    folder = scratch / "tables"
    folder.mkdir()
    if found is None:
        return
    try:
        with found.path.open("rb") as file:
            os.utime(file.fileno())  # used now
            _copy(file.fileno(), folder / NAME)
    except FileNotFoundError:
        return
    except OSError as error:
        warn(f"the view table could not be used: {error}")


def keep(found: Kept | None, scratch: Path, warn: Callable[[str], None]) -> None:
    """Keep the table that a child has left, if it holds more than the one that is kept. No job depends on that."""
    try:
        given = Handover(scratch / "tables")
        if found is not None and NAME in given.names():
            _keep(found, given)
    except (Untrustworthy, OSError) as error:
        warn(f"the view table could not be kept: {error}")


def _keep(found: Kept, given: Handover) -> None:
    with given.open(NAME) as file:
        descriptor = file.fileno()
        status = os.fstat(descriptor)
        if status.st_size > found.limit or status.st_size != _size(os.pread(descriptor, HEADER, 0)):
            raise Untrustworthy(f"the child's view table has {status.st_size} bytes, which is not its size")
        with suppress(FileNotFoundError):
            if _taken(found.path.stat()) >= _taken(status):
                return
        found.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _copy(descriptor, found.path)
    _evict(found)


def _size(head: bytes) -> int:
    """Of the table that a header describes. Raises Untrustworthy."""
    try:
        about = json.loads(head)
        rows, classes, item = about["rows"], about["classes"], _ITEM_BYTES[about["dtype"]]
    except (ValueError, KeyError, TypeError) as error:
        raise Untrustworthy("the child's view table has no header") from error
    if not (isinstance(rows, int) and isinstance(classes, int) and rows > 0 and classes > 0):
        raise Untrustworthy("the child's view table has a header of another kind")
    return HEADER + rows * (classes * item + _CHECK_BYTES)


def _copy(source: int, target: Path) -> None:
    """A copy with the same holes, whole or not at all. Raises OSError."""
    draft = target.with_name(f".{uuid.uuid4().hex}.part")
    writing = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        size = os.fstat(source).st_size
        os.ftruncate(writing, size)
        at = 0
        while at < size:
            try:
                at = os.lseek(source, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:  # nothing but a hole from here on
                    raise
                break
            end = min(os.lseek(source, at, os.SEEK_HOLE), size)
            os.lseek(writing, at, os.SEEK_SET)
            while at < end and (sent := os.sendfile(writing, source, at, end - at)):
                at += sent
        draft.rename(target)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(writing)


def _evict(found: Kept) -> None:
    """Remove what was not used for longest until the rest keeps the limit, and drafts of processes that died."""
    for draft in found.folder.glob("*/.*.part"):
        with suppress(FileNotFoundError):
            if time.time() - draft.stat().st_mtime > _ABANDONED_SECONDS:
                draft.unlink()
    tables = []
    for path in found.folder.glob("*/*.table"):
        with suppress(FileNotFoundError):
            status = path.stat()
            tables.append((path == found.path, status.st_mtime, _taken(status), path))
    total = sum(taken for _, _, taken, _ in tables)
    for _, _, taken, path in sorted(tables):
        if total <= found.limit:
            return
        path.unlink(missing_ok=True)
        total -= taken


def _taken(status: os.stat_result) -> int:
    """Bytes on the disk; holes take none."""
    return status.st_blocks * 512
