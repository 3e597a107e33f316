"""Errors the API answers with, each with its status and code.

AppError
├── NotFound        404 not_found
├── Unauthorized    401 unauthorized
├── Forbidden       403 forbidden
├── Conflict        409 conflict, invalid_state
├── Invalid         422 invalid_spec: errors that point into the body
├── TooLarge        413 too_large, quota_exceeded
├── WrongMediaType  415 wrong_media_type
├── RangeNotSatisfiable  416 range_not_satisfiable
├── WrongProtocol   412 wrong_protocol: a version of tus that is not spoken here
├── OtherVersion    412 precondition_failed: the file is not the one that If-Match names
├── Busy            423 busy: another request is writing
├── WrongChecksum   460 wrong_checksum
├── TooMany         429 too_many_jobs
├── Unavailable     503 unavailable: the database does not answer
└── StorageError    507 storage_error: no space, no right to write
    └── StorageAway 503 storage_error: the store does not answer now
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from stillhouse.resources import FieldError


class AppError(Exception):
    """An error a caller can act on; ``str()`` is the sentence they read."""

    status = 500
    code = "internal"
    title = "Internal error"

    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, detail: str, *, code: str | None = None, errors: list[FieldError] | None = None) -> None:
        super().__init__(detail)
        self.code = code or type(self).code
        self.errors = errors or []


class NotFound(AppError):
    status, code, title = 404, "not_found", "Not found"


class Unauthorized(AppError):
    status, code, title = 401, "unauthorized", "Unauthorized"
    headers: ClassVar = {"WWW-Authenticate": "Bearer"}


class Forbidden(AppError):
    status, code, title = 403, "forbidden", "Forbidden"


class Conflict(AppError):
    status, code, title = 409, "conflict", "Conflict"


class Invalid(AppError):
    status, code, title = 422, "invalid_spec", "Invalid request"


class TooLarge(AppError):
    status, code, title = 413, "too_large", "Request body too large"


class RangeNotSatisfiable(AppError):
    status, code, title = 416, "range_not_satisfiable", "Range not satisfiable"


class WrongMediaType(AppError):
    status, code, title = 415, "wrong_media_type", "Wrong media type"


class WrongProtocol(AppError):
    status, code, title = 412, "wrong_protocol", "Wrong protocol version"
    headers: ClassVar = {"Tus-Version": "1.0.0"}


class OtherVersion(AppError):
    status, code, title = 412, "precondition_failed", "Precondition failed"


class Busy(AppError):
    status, code, title = 423, "busy", "Locked"


class WrongChecksum(AppError):
    status, code, title = 460, "wrong_checksum", "Checksum mismatch"


class TooMany(AppError):
    status, code, title = 429, "too_many_jobs", "Too many jobs"


class Unavailable(AppError):
    status, code, title = 503, "unavailable", "Service unavailable"
    headers: ClassVar = {"Retry-After": "2"}


class StorageError(AppError):
    status, code, title = 507, "storage_error", "Storage failed"


class StorageAway(StorageError):
    status, title = 503, "Storage does not answer"
    headers: ClassVar = {"Retry-After": "5"}
