"""Jobs: submit, list, steer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Query, Request, Response
from sqlalchemy.orm import Session

from app import tables
from app.auth import Caller
from app.dependencies import Reader, ReadSession, Services, ServicesDep, Writer, WriteSession
from app.jobs import estimate, listing, schemas, service
from app.lifecycle import stop
from stillhouse.resources import DryRun, Job, Page
from stillhouse.spec import JobSpec, Status

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")]
LOCATED: dict[str, Any] = {
    "description": "Stored",
    "headers": {"Location": {"description": "The job's path.", "schema": {"type": "string"}}},
}
CREATED: dict[int | str, dict[str, Any]] = {
    201: LOCATED,
    200: {"model": Job, "description": "A replay of an earlier request's job"},
}
EXAMPLES = {
    "digits": {
        "summary": "A small digits network",
        "value": {
            "name": "digits",
            "dataset": {"id": "digits"},
            "teacher": {"architecture": "resnet20"},
            "student": {"architecture": "resnet8"},
            "method": {"name": "kd", "temperature": 4.0},
            "training": {"epochs": 30, "optimizer": {"name": "adam"}},
        },
    }
}


@router.post(
    "",
    status_code=201,
    response_model=Job | DryRun,
    responses={
        201: LOCATED,
        200: {"model": Job | DryRun, "description": "A dry run, or a replay of an earlier request's job"},
    },
)
def create_job(
    spec: Annotated[JobSpec, Body(openapi_examples=EXAMPLES)],
    caller: Writer,
    session: WriteSession,
    given: ServicesDep,
    response: Response,
    *,
    dry_run: Annotated[bool, Query(description="Check and estimate; store nothing.")] = False,
    idempotency_key: IdempotencyKey = None,
) -> Job | DryRun:
    """Submit a job. With an ``Idempotency-Key`` a request may be sent again without making a second job."""
    if dry_run:
        response.status_code = 200
        return estimate.dry_run(session, given.settings, caller, spec)
    created = service.create(session, given, caller, spec, idempotency_key=idempotency_key)
    return _created(created, session, given, caller, response)


_METADATA = {
    "name": "metadata",
    "in": "query",
    "style": "deepObject",
    "explode": True,
    "description": "All of these pairs, each as metadata[key]=value.",
    "schema": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 512}},
}


@router.get("", openapi_extra={"parameters": [_METADATA]})
def list_jobs(  # noqa: PLR0913, PLR0917  # each is a documented query parameter
    request: Request,
    caller: Reader,
    session: ReadSession,
    given: ServicesDep,
    status: Annotated[list[Status] | None, Query(description="Any of these.")] = None,
    tag: Annotated[list[str] | None, Query(description="All of these.")] = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    q: Annotated[str | None, Query(max_length=128, description="Part of the name, or an id.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=512)] = None,
) -> Page[Job]:
    """The project's jobs, newest first. Metadata is filtered by ``metadata[key]=value``."""
    filters = listing.Filters(
        status=status or (),
        tag=tag or (),
        metadata=_metadata(request),
        created_after=created_after,
        created_before=created_before,
        q=q,
    )
    rows, following = listing.find(session, caller, filters, limit=limit, cursor=cursor)
    data = _shown(session, given, caller, rows)
    return Page(data=data, has_more=following is not None, next_cursor=following)


def _metadata(request: Request) -> dict[str, str]:
    found = ((re.fullmatch(r"metadata\[([^\]]+)\]", name), value) for name, value in request.query_params.items())
    return {match[1]: value for match, value in found if match}


@router.get("/{job_id}")
def get_job(job_id: str, caller: Reader, session: ReadSession, given: ServicesDep) -> Job:
    """A job as it stands."""
    return _shown(session, given, caller, [service.get(session, caller, job_id)])[0]


def _shown(session: Session, given: Services, caller: Caller, rows: Sequence[tables.Job]) -> list[Job]:
    """Jobs as a client sees them; of those that wait also what keeps them from being taken."""
    places = sorted({(row.queue, row.gpus) for row in rows if row.status == "queued"})
    known = {
        (queue, gpus): service.prospects(session, given.settings, caller, queue=queue, gpus=gpus)
        for queue, gpus in places
    }
    return [
        schemas.job(row, caller.project, warnings=known[row.queue, row.gpus] if row.status == "queued" else ())
        for row in rows
    ]


ACTED: dict[int | str, dict[str, Any]] = {202: {"model": Job, "description": "Accepted: a worker must act"}}


@router.post("/{job_id}/cancel", responses=ACTED)
def cancel_job(job_id: str, caller: Writer, session: WriteSession, given: ServicesDep, response: Response) -> Job:
    """Cancel a job: 200 when it has stopped, 202 when its worker must stop it, 409 when it has ended otherwise."""
    return _steer(job_id, caller, session, given, response, stop.cancel)


@router.post("/{job_id}/pause", responses=ACTED)
def pause_job(job_id: str, caller: Writer, session: WriteSession, given: ServicesDep, response: Response) -> Job:
    """Pause a job at a checkpoint: 200 when it is paused, 202 when its worker must act."""
    return _steer(job_id, caller, session, given, response, stop.pause)


@router.post("/{job_id}/resume", responses=ACTED)
def resume_job(job_id: str, caller: Writer, session: WriteSession, given: ServicesDep, response: Response) -> Job:
    """Put a paused job back into the queue."""
    job = _steer(job_id, caller, session, given, response, stop.resume)
    if job.status == "queued":
        given.doorbell.ring_after(session, job.spec.resources.queue, job.id)
    return job


def _steer(job_id: str, caller: Caller, session: Session, given: Services, response: Response, act: stop.Action) -> Job:
    job = service.get_locked(session, caller, job_id)
    response.status_code = 202 if act(session, job) == "asked" else 200
    return _shown(session, given, caller, [job])[0]


@router.post("/{job_id}/retry", status_code=201, responses=CREATED)
def retry_job(
    job_id: str,
    caller: Writer,
    session: WriteSession,
    given: ServicesDep,
    response: Response,
    *,
    idempotency_key: IdempotencyKey = None,
) -> Job:
    """Make a new job from the same spec. With an ``Idempotency-Key`` it may be sent again without a second job."""
    created = service.retry(session, given, caller, job_id, idempotency_key=idempotency_key)
    return _created(created, session, given, caller, response)


def _created(created: service.Created, session: Session, given: Services, caller: Caller, response: Response) -> Job:
    if created.replayed:
        response.status_code = 200
        response.headers["Idempotent-Replayed"] = "true"
    response.headers["Location"] = f"/v1/jobs/{created.job.id}"
    return _shown(session, given, caller, [created.job])[0]


@router.delete("/{job_id}", status_code=204)
def delete_job(job_id: str, caller: Writer, session: WriteSession, given: ServicesDep) -> None:
    """Delete a job that has ended, with its files."""
    service.delete(session, given, caller, job_id)
