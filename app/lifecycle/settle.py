"""How an attempt ends: by success, or by a reason that decides what becomes of the job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db import now
from app.lifecycle import events, outcomes
from app.lifecycle.moves import move
from app.tables import Artifact, Attempt, Checkpoint, Job
from stillhouse.spec.reasons import REASONS

RETRY_BACKOFF_SECONDS = 2.0
OUTAGE_TRIES = 10
"""Of what something outside keeps from working: pauses of 4, 8, 16 s ... make 34 minutes together."""


def succeed(
    session: Session, job: Job, *, result: Mapping[str, Any], artifacts: Sequence[Artifact], max_losses: int
) -> None:
    """Publish: the artifacts' rows and the end of the job in one fenced transaction. ``job`` comes from ``held``.

    A cancellation that was accepted before this transaction wins: nothing is published then.
    """
    if job.status == "cancelling":
        end(session, job, reason="user_cancelled", exit_=0, max_losses=max_losses)
        return
    session.add_all(artifacts)
    job.result = dict(result)
    job.progress = {**job.progress, "fraction": 1.0, "eta_seconds": 0.0}
    _end_attempt(session, job, reason=None, exit_=0)
    move(session, job, "succeeded")


def end(
    session: Session, job: Job, *, reason: str, detail: str | None = None, exit_: int | None = None, max_losses: int
) -> None:
    """End the current attempt of a locked job without success.

    A worker that was asked to stop ends the job as it was asked to. Otherwise the reason decides: failed, or back to
    the queue; but after ``max_losses`` lost attempts without a new checkpoint failed as poison, and after
    ``OUTAGE_TRIES`` that an outage ended failed with its own reason. Neither count adds to the other.
    """
    _end_attempt(session, job, reason=reason, exit_=exit_)
    if job.stop_reason is not None:
        asked = REASONS[job.stop_reason]
        move(session, job, asked.status, reason=job.stop_reason, detail=None if asked.fault == "none" else detail)
        return
    meaning = REASONS[reason]
    if not meaning.retryable:
        move(session, job, meaning.status, reason=reason, detail=detail)
        return
    if meaning.outage:
        tries = _since_checkpoint(session, job, reason)
        if tries >= OUTAGE_TRIES:
            move(session, job, "failed", reason=reason, detail=detail)
            return
        job.not_before = now(session) + timedelta(seconds=RETRY_BACKOFF_SECONDS * 2**tries)
    elif meaning.fault == "platform":
        job.losses = _since_checkpoint(session, job, reason)
        if job.losses >= max_losses:
            text = f"{job.losses} attempts died without a new checkpoint; the last ended as {reason}: {detail}"
            move(session, job, "failed", reason="poison", detail=text)
            return
        job.not_before = now(session) + timedelta(seconds=RETRY_BACKOFF_SECONDS * (job.losses - 1))
    move(session, job, "queued", reason=reason, detail=detail)


def _since_checkpoint(session: Session, job: Job, reason: str) -> int:
    """How many attempts that ended like ``reason``, by an outage or otherwise lost, came to no newer checkpoint."""
    outage = REASONS[reason].outage
    alike = [
        name
        for name, meaning in REASONS.items()
        if meaning.fault == "platform" and meaning.retryable and meaning.outage == outage
    ]
    newest = select(func.coalesce(func.max(Checkpoint.attempt), 0)).where(Checkpoint.job_id == job.id)
    lost = select(func.count()).where(
        Attempt.job_id == job.id, Attempt.n >= newest.scalar_subquery(), Attempt.reason.in_(alike)
    )
    return session.scalars(lost).one()


def _end_attempt(session: Session, job: Job, *, reason: str | None, exit_: int | None) -> None:
    moment = now(session)
    attempt = session.get_one(Attempt, (job.id, job.attempt))
    attempt.ended_at, attempt.reason, attempt.exit = moment, reason, exit_
    job.run_seconds += (moment - attempt.started_at).total_seconds()
    events.append(session, job, "job.attempt_ended", {"reason": reason, "exit": exit_}, at=moment)
    outcomes.tally(session, job.kind, reason or "succeeded")
