"""Errors the API answers with, each with its status and code.

AppError
├── NotFound        404 not_found
├── Unauthorized    401 unauthorized
├── Forbidden       403 forbidden
├── Conflict        409 conflict, invalid_state
├── Invalid         422 invalid_spec: errors that point into the body
├── TooLarge        413 too_large
├── RangeNotSatisfiable  416 range_not_satisfiable
└── StorageError    507 storage_error: no space, no right to write
"""

from __future__ import annotations

from stillhouse.resources import FieldError


class AppError(Exception):
    """An error a caller can act on; ``str()`` is the sentence they read."""

    status = 500
    code = "internal"
    title = "Internal error"

    def __init__(self, detail: str, *, code: str | None = None, errors: list[FieldError] | None = None) -> None:
        super().__init__(detail)
        self.code = code or type(self).code
        self.errors = errors or []


class NotFound(AppError):
    status, code, title = 404, "not_found", "Not found"


class Unauthorized(AppError):
    status, code, title = 401, "unauthorized", "Unauthorized"


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


class StorageError(AppError):
    status, code, title = 507, "storage_error", "Storage failed"
