"""How many jobs a project may have: running at once, and waiting. Both are exact, whoever else claims or submits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.errors import TooMany
from app.lifecycle.moves import HELD
from app.tables import Job, Project
from stillhouse.spec import Status

WAITING: frozenset[Status] = frozenset({"queued", "paused"})


def count(session: Session, project_id: str, statuses: Iterable[Status]) -> int:
    """A project's jobs in these statuses."""
    mine = select(func.count()).where(
        Job.project_id == project_id, Job.kind == "distillation", Job.status.in_(tuple(statuses))
    )
    return session.scalar(mine) or 0


@dataclass
class Counts:
    """Of a project's jobs."""

    running: int = 0
    waiting: int = 0


def counts(session: Session, project_ids: Sequence[str]) -> dict[str, Counts]:
    """Of each of these projects."""
    found = {project_id: Counts() for project_id in project_ids}
    rows = (
        select(Job.project_id, Job.status, func.count())
        .where(Job.project_id.in_(project_ids), Job.kind == "distillation", Job.status.in_(HELD | WAITING))
        .group_by(Job.project_id, Job.status)
    )
    for project_id, status, jobs in session.execute(rows):
        if status in HELD:
            found[project_id].running += jobs
        else:
            found[project_id].waiting += jobs
    return found


class OneTooMany(Exception):
    """Another worker took a job of the same project at the same moment; what was taken now must be put back."""


def check_running(session: Session, project_id: str, installations: int | None) -> None:
    """Raise OneTooMany when a project, with what this transaction took, runs more than it may.

    The project's row is locked before the count, so that of two claims at one moment the second sees the first.
    """
    limit = _limit(session, Project.running_limit, project_id, installations)
    if limit is None:
        return
    _lock(session, project_id)
    if count(session, project_id, HELD) > limit:
        raise OneTooMany


def running_none(session: Session, project_id: str, installations: int | None) -> str | None:
    """A sentence when a project may run nothing at all."""
    if _limit(session, Project.running_limit, project_id, installations) != 0:
        return None
    return "this project may run no job (its running limit is 0); ask the operator to raise it"


def check_waiting(session: Session, project_id: str, installations: int | None) -> None:
    """Raise TooMany when a project has as many waiting jobs as it may."""
    limit = _limit(session, Project.waiting_limit, project_id, installations)
    if limit is None:
        return
    _lock(session, project_id)
    if (said := _full(session, project_id, limit)) is not None:
        raise TooMany(said)


def waiting_full(session: Session, project_id: str, installations: int | None) -> str | None:
    """A sentence when a project has as many waiting jobs as it may; another one may make it untrue at any moment."""
    limit = _limit(session, Project.waiting_limit, project_id, installations)
    return None if limit is None else _full(session, project_id, limit)


def _full(session: Session, project_id: str, limit: int) -> str | None:
    if (waiting := count(session, project_id, WAITING)) < limit:
        return None
    return (
        f"this project has {waiting} jobs waiting of {limit} (project_waiting_limit); "
        "submit again when some have run, or cancel what is no longer needed"
    )


def _limit(
    session: Session, column: InstrumentedAttribute[int | None], project_id: str, installations: int | None
) -> int | None:
    own = session.scalar(select(column).where(Project.id == project_id))
    return installations if own is None else own


def _lock(session: Session, project_id: str) -> None:
    """Until the transaction ends; rows that refer to the project can still be inserted by others."""
    session.execute(select(Project.id).where(Project.id == project_id).with_for_update(key_share=True))
