"""What keeps jobs moving when a worker has gone silent. Every write is guarded, so any number of loops may run."""

from __future__ import annotations

import logging

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import Database, now
from app.lifecycle.moves import HELD
from app.lifecycle.settle import end
from app.tables import Job

logger = logging.getLogger(__name__)


def sweep(database: Database, *, max_losses: int) -> int:
    """End the attempts whose lease has run out; how many there were."""
    ended = 0
    while True:
        with database.transaction() as session:
            if not end_one_expired(session, max_losses=max_losses):
                return ended
        ended += 1


def end_one_expired(session: Session, *, max_losses: int) -> bool:
    """Requeue or finish one job whose lease ran out."""
    statement = (
        select(Job)
        .where(Job.status.in_(HELD), Job.lease_expires_at < now(session))
        .order_by(Job.lease_expires_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    job = session.scalar(statement)
    if job is None:
        return False
    logger.warning("lease of %s attempt %s ran out", job.id, job.attempt)
    end(
        session,
        job,
        reason="worker_lost",
        detail=f"worker {job.lease_owner} stopped renewing its lease",
        max_losses=max_losses,
    )
    return True


def release(database: Database, *, owner: str, max_losses: int) -> None:
    """End the attempts of a worker that is known to be dead, without waiting for their leases to run out."""
    with database.transaction() as session:
        held = select(Job).where(Job.status.in_(HELD), Job.lease_owner == owner).with_for_update()
        for job in session.scalars(held):
            end(session, job, reason="worker_lost", detail=f"worker {owner} died", max_losses=max_losses)
