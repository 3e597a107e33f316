"""What an attempt reads of its job before it stages anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.config import Settings
from app.tables import Checkpoint, DataSet, Job
from worker import tables, weights
from worker.reporter import resumable, run_seconds


@dataclass(frozen=True)
class Needs:
    """What is to be staged, and under which limits."""

    spec: dict[str, Any]
    plan: dict[str, Any] | None
    """What earlier attempts settled."""
    dataset: Mapping[str, Mapping[str, Any]] | None
    """The files of an uploaded data set; None of a built-in one."""
    checkpoints: dict[str, list[Checkpoint]]
    weights: dict[str, weights.Source]
    table: tables.Kept | None
    spent: float
    """Seconds of all attempts so far."""


def needs(session: Session, settings: Settings, job: Job) -> Needs:
    """Of a job whose lease is held."""
    uploaded = session.get(DataSet, job.spec["dataset"]["id"])
    files = None if uploaded is None else uploaded.files
    networks = weights.sources(session, job)
    return Needs(
        spec=job.spec,
        plan=job.plan,
        dataset=files,
        checkpoints=resumable(session, job.id),
        weights=networks,
        table=tables.kept(settings, job, files, networks),
        spent=run_seconds(session, job),
    )
