"""Taking a file in, piece by piece. What is counted as arrived has been written and synced before."""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from anyio import to_thread
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.requests import ClientDisconnect

from app.auth import Caller
from app.db import now, on_commit
from app.dependencies import Services
from app.errors import Busy, Conflict, Invalid, NotFound, StorageError, TooLarge, WrongChecksum
from app.ids import new_id
from app.lifecycle.uploads import check_quota, create_file, path
from app.tables import Upload
from app.uploads.schemas import Checksum

COUNTED_EVERY = 16 * 2**20
"""Bytes between two moments at which what has arrived is synced and counted."""


def create(session: Session, given: Services, caller: Caller, *, length: int, metadata: str) -> Upload:
    """Begin an upload. Raises TooLarge over the limit of a file or the project's quota, Invalid, StorageError."""
    settings = given.settings
    if length > settings.upload_limit_bytes:
        raise TooLarge(f"a file may hold at most {settings.upload_limit_bytes:,} bytes (upload_limit_bytes)")
    if len(metadata) > 4096 or not metadata.isprintable():
        raise Invalid("Upload-Metadata may hold at most 4096 printable characters")
    check_quota(session, caller.project_id, length, limit=settings.project_quota_bytes)
    moment = now(session)
    row = Upload(
        id=new_id("upl"),
        project_id=caller.project_id,
        length=length,
        offset=0,
        upload_metadata=metadata,
        created_at=moment,
        expires_at=moment + timedelta(seconds=settings.upload_keep_seconds),
    )
    session.add(row)
    create_file(path(settings.data_dir, row.id))
    return row


def get(session: Session, caller: Caller, upload_id: str) -> Upload:
    """An upload of the caller's project. Raises NotFound, also for another project's and for one that has expired."""
    row = session.scalar(select(Upload).where(Upload.id == upload_id, Upload.project_id == caller.project_id))
    if row is None or (row.expires_at is not None and row.expires_at < now(session)):
        raise NotFound(f"no upload {upload_id}")
    return row


def delete(session: Session, given: Services, caller: Caller, upload_id: str) -> None:
    """Throw an upload away. Raises Conflict once something is being made of it."""
    row = get(session, caller, upload_id)
    if row.expires_at is None:
        raise Conflict("a data set or model is being made of this upload; delete that one", code="invalid_state")
    session.delete(row)
    file = path(given.settings.data_dir, upload_id)
    on_commit(session, lambda: file.unlink(missing_ok=True))


async def append(
    given: Services,
    caller: Caller,
    upload_id: str,
    *,
    offset: int,
    body: AsyncIterator[bytes],
    checksum: Checksum | None,
) -> Upload:
    """Write ``body`` at ``offset``, in constant memory. The upload as it stands then.

    Without a checksum whatever has arrived is kept, also when the connection is cut; with one, all or nothing.
    Raises NotFound, Conflict (another offset), TooLarge, Busy, WrongChecksum, StorageError.
    """
    row = await to_thread.run_sync(_begin, given, caller, upload_id, offset)
    room = min(row.length - offset, given.settings.patch_limit_bytes)
    file = path(given.settings.data_dir, upload_id)
    with _locked(file) as writing:
        piece = _Piece(given, caller, upload_id, writing, offset, checksum)
        await to_thread.run_sync(piece.begin)
        try:
            async for chunk in body:
                if piece.end + len(chunk) > offset + room:
                    raise TooLarge(f"this piece may hold at most {room:,} bytes: what is missing, or patch_limit_bytes")
                await to_thread.run_sync(piece.write, chunk)
        except ClientDisconnect:
            if checksum is not None:
                return row
        return await to_thread.run_sync(piece.finish)


class _Piece:
    """The body of one PATCH on its way into the file. Every method blocks, and so runs on a thread."""

    def __init__(
        self, given: Services, caller: Caller, upload_id: str, file: BinaryIO, start: int, checksum: Checksum | None
    ) -> None:
        self.given = given
        self.caller = caller
        self.upload_id = upload_id
        self.file = file
        self.end = self.counted = start
        self.checksum = checksum
        self.digest = checksum.begin() if checksum else None

    def begin(self) -> None:
        """Cut off what was written but never counted, once the lock is held: the row may have moved on meanwhile."""
        _begin(self.given, self.caller, self.upload_id, self.end)
        self.file.truncate(self.end)
        self.file.seek(self.end)

    def write(self, chunk: bytes) -> None:
        """Take a chunk, and count from time to time."""
        try:
            self.file.write(chunk)
        except OSError as error:
            raise StorageError(
                f"the upload cannot be written: {error.strerror}; free some space, go on then"
            ) from error
        self.end += len(chunk)
        if self.digest is not None:
            self.digest.update(chunk)
        elif self.end - self.counted >= COUNTED_EVERY:
            self.count()

    def finish(self) -> Upload:
        """Count the rest. Raises WrongChecksum, and keeps nothing of this piece then."""
        if self.digest is not None and self.checksum is not None and self.digest.digest() != self.checksum.expected:
            raise WrongChecksum("the bytes that arrived do not have the sha256 that was sent along; send them again")
        return self.count()

    def count(self) -> Upload:
        """Sync the file, then say in the row how much has arrived."""
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
        except OSError as error:
            raise StorageError(
                f"the upload cannot be written: {error.strerror}; free some space, go on then"
            ) from error
        with self.given.database.transaction() as session:
            row = get(session, self.caller, self.upload_id)
            row.offset = self.counted = self.end
            if row.expires_at is not None:
                row.expires_at = now(session) + timedelta(seconds=self.given.settings.upload_keep_seconds)
        return row


def _begin(given: Services, caller: Caller, upload_id: str, offset: int) -> Upload:
    with given.database.reading() as session:
        row = get(session, caller, upload_id)
    if row.offset != offset:
        raise Conflict(f"{row.offset} bytes have arrived, so go on there and not at {offset}", code="wrong_offset")
    return row


def _unwritable(error: OSError) -> StorageError:
    return StorageError(f"the upload cannot be written: {error.strerror}; free some space, then go on with it")


@contextmanager
def _locked(file: Path) -> Iterator[BinaryIO]:
    """The file, for this request alone; the kernel frees the lock however the process ends."""
    try:
        writing = file.open("r+b")
    except FileNotFoundError as error:
        raise Conflict("a data set or model is being made of this upload", code="invalid_state") from error
    with writing:
        try:
            fcntl.flock(writing, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Busy("another request is writing to this upload; ask with HEAD, then go on") from error
        yield writing
