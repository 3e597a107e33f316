"""What jobs that have not ended name in their specs: a data set, a model, another job's student. It must stay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.errors import Conflict
from app.tables import Job
from stillhouse.spec.reasons import TERMINAL

_UNENDED = select(Job.id, Job.spec).where(Job.kind == "distillation", Job.status.not_in(TERMINAL))


def check_unused(session: Session, project_id: str, asset_id: str, noun: str) -> None:
    """Raises Conflict while a job of the project that has not ended names ``asset_id``, whose row is locked."""
    for job_id, spec in session.execute(_UNENDED.where(Job.project_id == project_id)):
        if asset_id in _texts(spec):
            raise Conflict(f"{job_id} has not ended and uses this {noun}; cancel it first", code="in_use")


def jobs_in_use(session: Session) -> set[str]:
    """The ids of all jobs that jobs which have not ended name."""
    specs = session.execute(_UNENDED)
    return {text for _, spec in specs for text in _texts(spec) if text.startswith("job_")}


def _texts(value: Any) -> Iterator[str]:
    """Every text anywhere in a spec."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value
