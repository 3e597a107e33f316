"""The event log of a job: gapless, because the number is raised under the job row's lock."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from app.db import now
from app.ids import new_id
from app.tables import Event, Job


def append(session: Session, job: Job, type_: str, data: dict[str, Any], *, at: datetime | None = None) -> Event:
    """Add an event. ``job`` must be locked by this transaction (see ``lock`` and ``held``)."""
    job.last_seq += 1
    event = Event(
        id=new_id("evt"),
        job_id=job.id,
        seq=job.last_seq,
        type=type_,
        attempt=job.attempt,
        created_at=at or now(session),
        data=data,
    )
    session.add(event)
    return event
