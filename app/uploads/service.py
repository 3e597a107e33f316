"""Taking a file in, piece by piece. What is counted as arrived lies in the storage, which API processes share."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from io import BytesIO

from anyio import to_thread
from sqlalchemy import Select, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.requests import ClientDisconnect

from app.auth import Caller
from app.db import now, on_commit
from app.dependencies import Services
from app.errors import Busy, Conflict, Invalid, NotFound, TooLarge, WrongChecksum
from app.ids import new_id
from app.lifecycle.garbage import discard, drop
from app.lifecycle.uploads import check_quota, folder
from app.tables import Upload, UploadPart
from app.uploads.schemas import Checksum

PART_BYTES = 8 * 2**20
"""What is held in memory of a request, and lost at most when its connection is cut in a kill."""

_written_to: set[str] = set()
"""The uploads that a request of this process is writing to; touched by the event loop alone."""


def create(session: Session, given: Services, caller: Caller, *, length: int, metadata: str) -> Upload:
    """Begin an upload. Raises TooLarge over the limit of a file or the project's quota, Invalid."""
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
    return row


async def begin(
    given: Services,
    caller: Caller,
    *,
    length: int,
    metadata: str,
    body: AsyncIterator[bytes] | None,
    checksum: Checksum | None,
) -> Upload:
    """Begin an upload with ``body`` as its first piece, if there is one; see ``create`` and ``append``.

    Where that piece is refused there is no upload: its client has not been told of one that it could go on with.
    """
    row = await to_thread.run_sync(partial(_create, given, caller, length=length, metadata=metadata))
    if body is None:
        return row
    try:
        return await append(given, caller, row.id, offset=0, body=body, checksum=checksum)
    except (TooLarge, WrongChecksum):
        await to_thread.run_sync(_drop, given, caller, row.id)
        raise


def _create(given: Services, caller: Caller, *, length: int, metadata: str) -> Upload:
    with given.database.transaction() as session:
        return create(session, given, caller, length=length, metadata=metadata)


def _drop(given: Services, caller: Caller, upload_id: str) -> None:
    with given.database.transaction() as session:
        delete(session, given, caller, upload_id)


def get(session: Session, caller: Caller, upload_id: str) -> Upload:
    """An upload of the caller's project. Raises NotFound, also for another project's and for one that has expired."""
    return _found(session, _owned(caller, upload_id), upload_id)


def delete(session: Session, given: Services, caller: Caller, upload_id: str) -> None:
    """Throw an upload away. Raises Conflict once something is being made of it."""
    row = get(session, caller, upload_id)
    if row.expires_at is None:
        raise Conflict("a data set or model is being made of this upload; delete that one", code="invalid_state")
    session.delete(row)
    on_commit(session, partial(discard, given.storage, folder(upload_id)))


async def append(
    given: Services,
    caller: Caller,
    upload_id: str,
    *,
    offset: int,
    body: AsyncIterator[bytes],
    checksum: Checksum | None,
) -> Upload:
    """Store ``body`` as what follows ``offset``, in constant memory. The upload as it stands then.

    Without a checksum whatever has arrived is kept, also when the connection is cut; with one, all or nothing.
    Raises NotFound, Conflict (another offset), TooLarge, Busy, WrongChecksum, StorageError.
    """
    with _alone(upload_id):
        row = await to_thread.run_sync(_begin, given, caller, upload_id, offset)
        room = min(row.length - offset, given.settings.patch_limit_bytes)
        piece = _Piece(given, caller, upload_id, offset, checksum)
        try:
            async for chunk in body:
                if piece.end + len(chunk) > offset + room:
                    raise TooLarge(f"this piece may hold at most {room:,} bytes: what is missing, or patch_limit_bytes")
                piece.take(chunk)
                if piece.is_full:
                    await to_thread.run_sync(piece.store)
            return await to_thread.run_sync(piece.finish)
        except ClientDisconnect:
            return row if checksum is not None else await to_thread.run_sync(piece.finish)
        finally:
            await to_thread.run_sync(piece.drop_uncounted)


class _Piece:
    """The body of one PATCH on its way into the storage. All but ``take`` blocks, and so runs on a thread."""

    def __init__(self, given: Services, caller: Caller, upload_id: str, start: int, checksum: Checksum | None) -> None:
        self.given = given
        self.caller = caller
        self.upload_id = upload_id
        self.end = self.counted = start
        self.checksum = checksum
        self.digest = checksum.begin() if checksum else None
        self.buffer = bytearray()
        self.uncounted: list[UploadPart] = []

    @property
    def is_full(self) -> bool:
        """Whether what is in memory should become a part."""
        return len(self.buffer) >= PART_BYTES

    def take(self, chunk: bytes) -> None:
        """Hold a chunk in memory."""
        self.buffer += chunk
        self.end += len(chunk)

    def store(self) -> None:
        """Make a part of what is in memory; without a checksum it counts at once."""
        data = bytes(self.buffer)
        self.buffer.clear()
        if self.digest is not None:
            self.digest.update(data)
        start = self.end - len(data)
        stored = self.given.storage.put(f"{folder(self.upload_id)}/{start:018d}-{secrets.token_hex(8)}", BytesIO(data))
        part = UploadPart(upload_id=self.upload_id, offset=start, key=stored.key, bytes=len(data), sha256=stored.sha256)
        self.uncounted.append(part)
        if self.checksum is None:
            self.count()

    def finish(self) -> Upload:
        """Store and count the rest. Raises WrongChecksum, and keeps nothing of this piece then."""
        if self.buffer:
            self.store()
        if self.digest is not None and self.checksum is not None and self.digest.digest() != self.checksum.expected:
            raise WrongChecksum("the bytes that arrived do not have the sha256 that was sent along; send them again")
        return self.count()

    def count(self) -> Upload:
        """Say in the rows how much has arrived. Raises Conflict when another request was faster, NotFound."""
        try:
            with self.given.database.transaction() as session:
                locked = _owned(self.caller, self.upload_id).with_for_update()
                row = _at(_found(session, locked, self.upload_id), self.counted)
                session.add_all(self.uncounted)
                row.offset = self.end
                if row.expires_at is not None:
                    row.expires_at = now(session) + timedelta(seconds=self.given.settings.upload_keep_seconds)
        except SQLAlchemyError:
            self.uncounted = []  # the commit may have arrived; what has not goes with the upload in the end
            raise
        self.uncounted, self.counted = [], self.end
        return row

    def drop_uncounted(self) -> None:
        """Delete the parts that did not come to count."""
        drop(self.given.storage, [part.key for part in self.uncounted])


def _begin(given: Services, caller: Caller, upload_id: str, offset: int) -> Upload:
    with given.database.reading() as session:
        row = get(session, caller, upload_id)
    if row.expires_at is None:
        raise Conflict("a data set or model is being made of this upload", code="invalid_state")
    return _at(row, offset)


def _owned(caller: Caller, upload_id: str) -> Select[Upload]:
    return select(Upload).where(Upload.id == upload_id, Upload.project_id == caller.project_id)


def _found(session: Session, statement: Select[Upload], upload_id: str) -> Upload:
    row = session.scalar(statement)
    if row is None or (row.expires_at is not None and row.expires_at < now(session)):
        raise NotFound(f"no upload {upload_id}")
    return row


def _at(row: Upload, offset: int) -> Upload:
    if row.offset != offset:
        raise Conflict(f"{row.offset} bytes have arrived, so go on there and not at {offset}", code="wrong_offset")
    return row


@contextmanager
def _alone(upload_id: str) -> Iterator[None]:
    """In this process one request at a time writes to an upload; of several processes the database takes one's."""
    if upload_id in _written_to:
        raise Busy("another request is writing to this upload; ask with HEAD, then go on")
    _written_to.add(upload_id)
    try:
        yield
    finally:
        _written_to.remove(upload_id)
