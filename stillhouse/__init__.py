"""Stillhouse: knowledge distillation as a service. This package is what a user installs: spec, client, command."""

from __future__ import annotations

from stillhouse.client import AsyncClient, Client
from stillhouse.client.errors import (
    ApiError,
    Conflict,
    ConnectionFailed,
    Forbidden,
    IntegrityError,
    InvalidSpec,
    NotConfigured,
    NotFound,
    StillhouseError,
    Unauthorized,
    WrongFile,
)
from stillhouse.spec import JobSpec

__all__ = [
    "ApiError",
    "AsyncClient",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "Forbidden",
    "IntegrityError",
    "InvalidSpec",
    "JobSpec",
    "NotConfigured",
    "NotFound",
    "StillhouseError",
    "Unauthorized",
    "WrongFile",
]
