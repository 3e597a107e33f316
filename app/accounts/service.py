"""Making, listing and revoking keys."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.auth import OPERATORS, SCOPES, Caller, digest, new_secret
from app.db import now
from app.errors import Conflict, NotFound
from app.ids import new_id
from app.tables import ApiKey, Project
from stillhouse.resources import ApiKey as ApiKeyResource
from stillhouse.resources import NewApiKey


def bootstrap(session: Session) -> NewApiKey:
    """The first key of an installation: every scope, in the operators' project."""
    return create(session, project=OPERATORS, name="admin", scopes=list(SCOPES))


def create(session: Session, *, project: str, name: str, scopes: Sequence[str]) -> NewApiKey:
    """A new key; the project is made if need be. The secret is in the answer and nowhere else."""
    owner = _project(session, project)
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


def _project(session: Session, name: str) -> Project:
    """A project, made if need be, however many make it at the same moment."""
    named = select(Project).where(Project.name == name)
    found = session.scalar(named)
    if found is not None:
        return found
    made = Project(id=new_id("prj"), name=name, created_at=now(session))
    try:
        with session.begin_nested():
            session.add(made)
    except IntegrityError:
        return session.scalars(named).one()
    return made


def find_all(session: Session, *, project: str | None = None) -> list[ApiKeyResource]:
    """Every key, of one project or of all, newest first. Raises NotFound for a project that does not exist."""
    rows = select(ApiKey, Project.name).join(Project).order_by(ApiKey.id.desc())
    if project is not None:
        if session.scalar(select(Project.id).where(Project.name == project)) is None:
            raise NotFound(f"no project {project!r}")
        rows = rows.where(Project.name == project)
    return [
        ApiKeyResource(
            id=key.id,
            name=key.name,
            project=owner,
            scopes=key.scopes,
            prefix=key.prefix,
            created_at=key.created_at,
            last_used_at=key.last_used_at,
            revoked_at=key.revoked_at,
        )
        for key, owner in session.execute(rows)
    ]


def revoke(session: Session, key_id: str, *, caller: Caller | None) -> None:
    """Revoke a key; done twice it is done once. Raises NotFound, Conflict.

    ``caller`` is None on the installation's own machine, where every project's keys are in reach.
    """
    live = select(ApiKey).where(ApiKey.revoked_at.is_(None)).order_by(ApiKey.id)
    kept = list(session.scalars(live.with_for_update()))  # all of them, so that two admins cannot revoke each other
    key = session.get(ApiKey, key_id)
    if key is None or not (caller is None or caller.is_operator or key.project_id == caller.project_id):
        raise NotFound(f"no key {key_id}")
    if caller is not None and key.id == caller.key_id:
        raise Conflict("a key cannot revoke itself; use another admin key")
    if key.revoked_at is not None:
        return
    if "admin" in key.scopes and not any("admin" in other.scopes for other in kept if other is not key):
        raise Conflict("this is the last admin key; make another first")
    key.revoked_at = now(session)
