"""What tus says in headers, read and written."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Protocol

from app import tables
from app.errors import Invalid
from stillhouse.assets import Upload

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,checksum,expiration,termination"
ALGORITHMS = "sha256"
PIECE_TYPE = "application/offset+octet-stream"
_HTTP_DATE = "%a, %d %b %Y %H:%M:%S GMT"


class Digest(Protocol):
    """The part of a hash object that is used here."""

    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


@dataclass(frozen=True)
class Checksum:
    """What the bytes of one request must hash to."""

    expected: bytes

    def begin(self) -> Digest:
        """A hash over nothing yet."""
        return hashlib.sha256()


def length(header: str | None) -> int:
    """The Upload-Length. Raises Invalid."""
    if header is None or not header.isascii() or not header.isdigit() or len(header) > 18:
        raise Invalid("send Upload-Length, the file's size in bytes; a length that is not known yet is not supported")
    if not int(header):
        raise Invalid("the file is empty (Upload-Length: 0)")
    return int(header)


def offset(header: str | None) -> int:
    """The Upload-Offset. Raises Invalid."""
    if header is None or not header.isascii() or not header.isdigit() or len(header) > 18:
        raise Invalid("send Upload-Offset, the number of bytes that have arrived; HEAD says it")
    return int(header)


def checksum(header: str | None) -> Checksum | None:
    """The Upload-Checksum, if there is one. Raises Invalid for another algorithm or a malformed value."""
    if header is None:
        return None
    algorithm, _, value = header.partition(" ")
    try:
        expected = base64.b64decode(value, validate=True)
    except binascii.Error:
        expected = b""
    if algorithm != ALGORITHMS or len(expected) != hashlib.sha256().digest_size:
        raise Invalid(f"Upload-Checksum must be 'sha256' and the digest in base64, not {header[:80]!r}")
    return Checksum(expected)


def progress(row: tables.Upload) -> dict[str, str]:
    """The headers that say how far an upload is."""
    headers = {"Tus-Resumable": VERSION, "Upload-Offset": str(row.offset), "Upload-Length": str(row.length)}
    if row.expires_at is not None:
        headers["Upload-Expires"] = row.expires_at.strftime(_HTTP_DATE)
    if row.upload_metadata:
        headers["Upload-Metadata"] = row.upload_metadata
    return headers


def upload(row: tables.Upload) -> Upload:
    """An upload as a client sees it."""
    return Upload(id=row.id, length=row.length, offset=row.offset, created_at=row.created_at, expires_at=row.expires_at)
