"""From rows to what the API answers with."""

from __future__ import annotations

from collections.abc import Sequence

from app import tables
from stillhouse import resources
from stillhouse.spec import JobSpec
from stillhouse.spec.reasons import TERMINAL


def job(row: tables.Job, project: str, *, warnings: Sequence[str] = ()) -> resources.Job:
    """A job as a client sees it."""
    return resources.Job(
        id=row.id,
        name=row.name,
        project=project,
        spec=JobSpec.model_validate(row.spec),
        status=row.status,
        stage=row.stage,
        status_reason=row.status_reason,
        status_detail=row.status_detail,
        terminal=row.status in TERMINAL,
        attempt=row.attempt,
        progress=resources.Progress(**row.progress),
        result=None if row.result is None else resources.Result(**row.result),
        retry_of=row.retry_of,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        warnings=list(warnings),
    )


def event(row: tables.Event) -> resources.Event:
    """An event as a client sees it."""
    return resources.Event(
        id=row.id,
        job_id=row.job_id,
        seq=row.seq,
        type=row.type,
        attempt=row.attempt,
        created_at=row.created_at,
        data=row.data,
    )


def attempt(row: tables.Attempt) -> resources.Attempt:
    """An attempt as a client sees it."""
    return resources.Attempt(
        n=row.n,
        worker=row.worker,
        host=row.host,
        devices=row.devices,
        pid=row.pid,
        started_at=row.started_at,
        ended_at=row.ended_at,
        exit=row.exit,
        reason=row.reason,
        resumed_from=row.resumed_from,
    )


def checkpoint(row: tables.Checkpoint) -> resources.Checkpoint:
    """A checkpoint as a client sees it."""
    return resources.Checkpoint(
        id=row.id,
        attempt=row.attempt,
        phase=row.phase,
        complete=row.complete,
        epoch=row.epoch,
        step=row.step,
        bytes=row.bytes,
        sha256=row.sha256,
        created_at=row.created_at,
    )


def artifact(row: tables.Artifact) -> resources.Artifact:
    """A file as a client sees it."""
    return resources.Artifact(id=row.id, name=row.name, bytes=row.bytes, sha256=row.sha256, media_type=row.media_type)
