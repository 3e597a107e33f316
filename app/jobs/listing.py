"""Lists with filters and a cursor that is a place in the order, so that inserts neither skip nor double a row."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Select, exists, or_, select
from sqlalchemy.orm import Session

from app.auth import Caller
from app.errors import Invalid
from app.tables import Job, JobLabel

_JOB_ID = re.compile(r"job_[0-9a-z]{1,32}")


@dataclass(frozen=True)
class Filters:
    """Which jobs; all that are given must hold."""

    status: Sequence[str] = ()
    tag: Sequence[str] = ()
    metadata: Mapping[str, str] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    q: str | None = None

    def fingerprint(self) -> str:
        """Binds a cursor to the filters it was made under."""
        return hashlib.sha256(json.dumps(asdict(self), default=str, sort_keys=True).encode()).hexdigest()[:16]


def find(
    session: Session, caller: Caller, filters: Filters, *, limit: int, cursor: str | None
) -> tuple[list[Job], str | None]:
    """A page of jobs, newest first, and the cursor of the next. Raises Invalid for a cursor of other filters."""
    statement = _filtered(select(Job).where(Job.project_id == caller.project_id, Job.kind == "distillation"), filters)
    if cursor is not None:
        statement = statement.where(Job.id < _decode(cursor, filters))
    rows = list(session.scalars(statement.order_by(Job.id.desc()).limit(limit + 1)))
    page = rows[:limit]
    return page, _encode(page[-1].id, filters) if len(rows) > limit else None


def _filtered(statement: Select[Job], filters: Filters) -> Select[Job]:
    if filters.status:
        statement = statement.where(Job.status.in_(filters.status))
    pairs = [("", tag) for tag in filters.tag] + list((filters.metadata or {}).items())
    for key, value in pairs:
        labelled = exists().where(JobLabel.job_id == Job.id, JobLabel.key == key, JobLabel.value == value)
        statement = statement.where(labelled)
    if filters.created_after is not None:
        statement = statement.where(Job.created_at > filters.created_after)
    if filters.created_before is not None:
        statement = statement.where(Job.created_at < filters.created_before)
    if filters.q:
        statement = statement.where(or_(Job.name.icontains(filters.q, autoescape=True), Job.id == filters.q))
    return statement


def _encode(last_id: str, filters: Filters) -> str:
    return base64.urlsafe_b64encode(f"{filters.fingerprint()}.{last_id}".encode()).decode()


def _decode(cursor: str, filters: Filters) -> str:
    try:
        fingerprint, _, last_id = base64.urlsafe_b64decode(cursor.encode()).decode().partition(".")
    except ValueError:
        fingerprint = last_id = ""
    if not _JOB_ID.fullmatch(last_id) or fingerprint != filters.fingerprint():
        raise Invalid(
            "the cursor is not one of this list under these filters; start again without it", code="invalid_cursor"
        )
    return last_id
