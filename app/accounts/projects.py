"""Projects with their limits. An operator's key sees and limits all of them, any other its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.orm import Session

from app import tables
from app.accounts.schemas import ProjectPatch
from app.auth import Caller
from app.config import Settings
from app.dependencies import Admin, Reader, ReadSession, ServicesDep, WriteSession
from app.errors import Forbidden, NotFound
from app.lifecycle import quotas
from app.lifecycle.uploads import stored_bytes
from stillhouse.projects import Limits, Project, Usage
from stillhouse.resources import Page

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/projects", tags=["projects"])


@router.get("")
def list_projects(caller: Reader, session: ReadSession, given: ServicesDep) -> Page[Project]:
    """The caller's project; for an operator's key every project, by name."""
    rows = select(tables.Project).order_by(tables.Project.name)
    if not caller.is_operator:
        rows = rows.where(tables.Project.id == caller.project_id)
    return Page(data=_shown(session, given.settings, session.scalars(rows).all()), has_more=False)


@router.get("/{project_id}")
def get_project(project_id: str, caller: Reader, session: ReadSession, given: ServicesDep) -> Project:
    """A project with its limits and what it has of each now."""
    return _shown(session, given.settings, [_found(session, caller, project_id)])[0]


@router.patch("/{project_id}")
def limit_project(
    project_id: str, patch: ProjectPatch, caller: Admin, session: WriteSession, given: ServicesDep
) -> Project:
    """Set limits: those that are named, null for the installation's. Takes an operator's key.

    What runs goes on, and what is stored stays, when a limit is set below it.
    """
    row = _found(session, caller, project_id)
    if not caller.is_operator:
        raise Forbidden("a project's limits are set with an operator's key: an admin key of the project default")
    changed = patch.limits.model_dump(exclude_unset=True)
    columns = {"running": "running_limit", "waiting": "waiting_limit", "storage_bytes": "storage_limit_bytes"}
    for name, value in changed.items():
        setattr(row, columns[name], value)
    session.flush()
    logger.info("key %s set limits of project %s: %s", caller.key_id, row.name, changed)
    return _shown(session, given.settings, [row])[0]


def _found(session: Session, caller: Caller, project_id: str) -> tables.Project:
    row = session.get(tables.Project, project_id)
    if row is None or not (caller.is_operator or row.id == caller.project_id):
        raise NotFound(f"no project {project_id}")
    return row


def _shown(session: Session, settings: Settings, rows: Sequence[tables.Project]) -> list[Project]:
    ids = [row.id for row in rows]
    jobs, stored = quotas.counts(session, ids), stored_bytes(session, ids)
    return [
        Project(
            id=row.id,
            name=row.name,
            limits=_limits(row.running_limit, row.waiting_limit, row.storage_limit_bytes),
            in_force=_limits(
                _first(row.running_limit, settings.project_running_limit),
                _first(row.waiting_limit, settings.project_waiting_limit),
                _first(row.storage_limit_bytes, settings.project_quota_bytes),
            ),
            usage=Usage(running=jobs[row.id].running, waiting=jobs[row.id].waiting, storage_bytes=stored[row.id]),
            created_at=row.created_at,
        )
        for row in rows
    ]


def _limits(running: int | None, waiting: int | None, storage_bytes: int | None) -> Limits:
    return Limits(running=running, waiting=waiting, storage_bytes=storage_bytes)


def _first(own: int | None, installations: int | None) -> int | None:
    return installations if own is None else own
