"""What can go wrong between a client and its server.

StillhouseError
├── ConnectionFailed     no server answered
├── NotConfigured        no URL or key is known
├── IntegrityError       a downloaded file is not what its digest says
├── WrongFile            an upload was begun with another file
└── ApiError             the server answered with a problem (RFC 9457)
    ├── Unauthorized     401
    ├── Forbidden        403
    ├── NotFound         404
    ├── Conflict         409
    └── InvalidSpec      422
"""

from __future__ import annotations

import json

import httpx
from pydantic import ValidationError

from stillhouse.resources import FieldError, Problem


class StillhouseError(Exception):
    """The root; ``str()`` is a sentence for a person."""


class ConnectionFailed(StillhouseError):
    """No server answered."""


class NotConfigured(StillhouseError):
    """No URL or no key is known."""


class IntegrityError(StillhouseError):
    """A downloaded file is not what its digest says; nothing of it was kept."""


class WrongFile(StillhouseError):
    """An upload was begun with another file; nothing of this one was sent."""


class ApiError(StillhouseError):
    """The server answered with a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem

    @property
    def errors(self) -> list[FieldError]:
        """The fields at fault, each with its pointer."""
        return self.problem.errors


class Unauthorized(ApiError):
    """The key is missing, unknown or revoked."""


class Forbidden(ApiError):
    """The key lacks the scope."""


class NotFound(ApiError):
    """There is no such thing in the key's project."""


class Conflict(ApiError):
    """Not in this state."""


class InvalidSpec(ApiError):
    """A field or parameter is not as it must be."""


_BY_STATUS: dict[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    422: InvalidSpec,
}


def raise_for(response: httpx.Response) -> None:
    """Raise the error that an unsuccessful ``response``, already read, stands for."""
    if response.is_success or response.status_code == 304:
        return
    try:
        problem = Problem.model_validate(response.json())
    except (json.JSONDecodeError, ValidationError):
        problem = Problem(
            title="HTTP error", status=response.status_code, detail=_detail(response), code="http_error", request_id=""
        )
    raise _BY_STATUS.get(response.status_code, ApiError)(problem)


def _detail(response: httpx.Response) -> str:
    """What is said where the server did not: an answer to HEAD has no body, and a proxy's has another."""
    asked = response.request
    if asked.method == "HEAD" and response.status_code == 404:
        return f"no upload {asked.url.path.rpartition('/')[2]}: it has expired, or something has been made of it"
    return f"{asked.method} {asked.url} answered {response.status_code}"
