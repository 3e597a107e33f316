"""Making, listing and revoking keys."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.auth import SCOPES, Caller, digest, new_secret
from app.db import now
from app.errors import Conflict, NotFound
from app.ids import new_id
from app.tables import ApiKey, Project
from stillhouse.resources import ApiKey as ApiKeyResource
from stillhouse.resources import NewApiKey


def bootstrap(session: Session) -> NewApiKey:
    """The first key of an installation: every scope, in the project ``default``."""
    return create(session, project="default", name="admin", scopes=list(SCOPES))


def create(session: Session, *, project: str, name: str, scopes: Sequence[str]) -> NewApiKey:
    """A new key; the project is made if need be. The secret is in the answer and nowhere else."""
    owner = session.scalar(select(Project).where(Project.name == project))
    if owner is None:
        owner = Project(id=new_id("prj"), name=project, created_at=now(session))
        session.add(owner)
        session.flush()
    secret = new_secret()
    key = ApiKey(
        id=new_id("key"),
        project_id=owner.id,
        name=name,
        prefix=secret[:8],
        sha256=digest(secret),
        scopes=list(scopes),
        created_at=now(session),
    )
    session.add(key)
    return NewApiKey(id=key.id, key=secret, name=name, project=project, scopes=list(scopes))


def find_all(session: Session, *, project_id: str | None = None) -> list[ApiKeyResource]:
    """Every key, of one project or of all, newest first."""
    rows = select(ApiKey, Project.name).join(Project).order_by(ApiKey.id.desc())
    if project_id is not None:
        rows = rows.where(ApiKey.project_id == project_id)
    return [
        ApiKeyResource(
            id=key.id,
            name=key.name,
            project=project,
            scopes=key.scopes,
            prefix=key.prefix,
            created_at=key.created_at,
            last_used_at=key.last_used_at,
            revoked_at=key.revoked_at,
        )
        for key, project in session.execute(rows)
    ]


def revoke(session: Session, key_id: str, *, caller: Caller | None) -> None:
    """Revoke a key; done twice it is done once. Raises NotFound, Conflict.

    ``caller`` is None on the installation's own machine, where every project's keys are in reach.
    """
    key = session.get(ApiKey, key_id, with_for_update=True)
    if key is None or (caller is not None and key.project_id != caller.project_id):
        raise NotFound(f"no key {key_id}")
    if caller is not None and key.id == caller.key_id:
        raise Conflict("a key cannot revoke itself; use another admin key")
    if key.revoked_at is not None:
        return
    others = select(ApiKey).where(ApiKey.revoked_at.is_(None), ApiKey.id != key.id)
    if "admin" in key.scopes and not any("admin" in other.scopes for other in session.scalars(others)):
        raise Conflict("this is the last admin key; make another first")
    key.revoked_at = now(session)
