"""Who calls: a bearer key, known by its hash alone."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.db import now
from app.errors import Forbidden, Unauthorized
from app.tables import ApiKey, Project

Scope = Literal["jobs:read", "jobs:write", "metrics:read", "admin"]
SCOPES: tuple[Scope, ...] = ("jobs:read", "jobs:write", "metrics:read", "admin")
OPERATORS = "default"
"""The project whose admin keys are the operators': the first key of an installation is one of it."""
_USE_RECORDED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class Caller:
    """A key that was accepted, and the one project it speaks for."""

    key_id: str
    project_id: str
    project: str
    scopes: frozenset[str]

    @property
    def is_operator(self) -> bool:
        """Whether it speaks for the installation, and so for every project."""
        return self.project == OPERATORS and "admin" in self.scopes

    def require(self, scope: Scope) -> None:
        """Raise Forbidden unless the key has ``scope``; ``admin`` has all."""
        if scope not in self.scopes and "admin" not in self.scopes:
            raise Forbidden(f"this key lacks the scope {scope}; use one that has it")


def new_secret() -> str:
    """``sk_`` and 43 characters that hold 256 random bits."""
    return f"sk_{secrets.token_urlsafe(32)}"


def digest(secret: str) -> str:
    """What is stored. The secret has 256 bits of its own, so no slow hash is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def authenticate(session: Session, authorization: str | None) -> tuple[Caller, bool]:
    """The caller behind an ``Authorization`` header, and whether this use should be recorded. Raises Unauthorized.

    The look-up is by hash, so its time tells nothing of the secret.
    """
    kind, _, secret = (authorization or "").partition(" ")
    if kind.lower() != "bearer" or not secret:
        raise Unauthorized("send the header Authorization: Bearer sk_…")
    found = session.execute(
        select(ApiKey, Project.name)
        .join(Project)
        .where(ApiKey.sha256 == digest(secret.strip()), ApiKey.revoked_at.is_(None))
    ).first()
    if found is None:
        raise Unauthorized("this key is not known, or was revoked")
    key, project = found
    caller = Caller(key_id=key.id, project_id=key.project_id, project=project, scopes=frozenset(key.scopes))
    return caller, key.last_used_at is None or key.last_used_at < now(session) - _USE_RECORDED_EVERY


def record_use(session: Session, key_id: str) -> None:
    """Note that a key was used just now."""
    session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=now(session)))
