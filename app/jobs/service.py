"""What can be done to a job. Every function looks the job up within the caller's project."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.auth import Caller
from app.config import Settings
from app.db import now
from app.dependencies import Services
from app.errors import Conflict, Invalid, NotFound
from app.ids import new_id
from app.jobs.weights import check_weights
from app.lifecycle import events, fleet, quotas, retention
from app.lifecycle.moves import lock
from app.lifecycle.uses import check_unused
from app.lifecycle.validation import state_of
from app.tables import DataSet, IdempotencyKey, Job, JobLabel
from stillhouse.resources import FieldError
from stillhouse.spec import JobSpec
from stillhouse.spec.datasets import DATASETS, DatasetFacts
from stillhouse.spec.reasons import TERMINAL
from stillhouse.spec.review import Review, review


@dataclass(frozen=True)
class Created:
    """A job, and whether it had been made by an earlier request with the same key."""

    job: Job
    replayed: bool


def checked(session: Session, caller: Caller, spec: JobSpec) -> tuple[Review, DatasetFacts]:
    """The review of a spec that fits together, and its data set. Raises Invalid with pointers otherwise."""
    uploaded = _uploaded(session, caller, spec.dataset.id)
    found = review(spec, uploaded)
    if found.errors:
        detail = "; ".join(f"{error.pointer}: {error.message}" for error in found.errors[:5])
        raise Invalid(detail, errors=found.errors)
    return found, (uploaded or DATASETS[spec.dataset.id]).resized(spec.dataset.input_size)


def _uploaded(session: Session, caller: Caller, dataset_id: str) -> DatasetFacts | None:
    """What is known of an uploaded data set of the project. Raises Invalid when it is not (yet) there to be used."""
    if not dataset_id.startswith("ds_"):
        return None
    named = select(DataSet).where(DataSet.id == dataset_id, DataSet.project_id == caller.project_id)
    row = session.scalar(named.with_for_update(read=True))  # not deleted before the job that names it is there
    facts = row.facts if row is not None else None
    if row is None or facts is None:
        state = "there is no such data set"
        if row is not None:
            state = f"it is {state_of(row, session.get(Job, row.job_id))}, and a job needs one that is ready"
        message = f"{dataset_id}: {state}"
        raise Invalid(message, errors=[FieldError(pointer="/dataset/id", code="not_usable", message=message)])
    channels, height, width = facts["shape"]
    return DatasetFacts(
        name=dataset_id,
        classes=tuple(facts["classes"]),
        shape=(channels, height, width),
        train=facts["splits"]["train"],
        test=facts["splits"].get("test"),
        validation=facts["splits"].get("validation"),
        smallest_class=facts["smallest_class"],
    )


def create(session: Session, given: Services, caller: Caller, spec: JobSpec, *, idempotency_key: str | None) -> Created:
    """Store a job with its idempotency row and first event in one transaction; ring once it has committed."""
    asked = json.dumps(spec.model_dump(mode="json"), sort_keys=True)

    def insert() -> Job:
        _, dataset = checked(session, caller, spec)
        check_weights(session, caller, spec, dataset)
        quotas.check_waiting(session, caller.project_id, given.settings.project_waiting_limit)
        return _insert(session, caller, spec.complete(classes=len(dataset.classes)), retry_of=None)

    return _once(session, given, caller, insert, asked=asked, idempotency_key=idempotency_key)


def retry(session: Session, given: Services, caller: Caller, job_id: str, *, idempotency_key: str | None) -> Created:
    """A new job from the spec of one that has ended. Raises Conflict while it has not."""

    def insert() -> Job:
        old = get_locked(session, caller, job_id)
        if old.status not in TERMINAL:
            raise Conflict(f"the job is {old.status}; it can be retried once it has ended", code="invalid_state")
        spec = JobSpec.model_validate(old.spec)
        _, dataset = checked(session, caller, spec)  # its data set, or its weights, may be gone
        check_weights(session, caller, spec, dataset)
        quotas.check_waiting(session, caller.project_id, given.settings.project_waiting_limit)
        return _insert(session, caller, spec, retry_of=old.id)

    return _once(session, given, caller, insert, asked=f"retry {job_id}", idempotency_key=idempotency_key)


def _once(
    session: Session,
    given: Services,
    caller: Caller,
    insert: Callable[[], Job],
    *,
    asked: str,
    idempotency_key: str | None,
) -> Created:
    """The job that ``insert`` makes or, when this key was seen before, the one that it made then."""
    fingerprint = hashlib.sha256(asked.encode()).hexdigest()
    if idempotency_key is not None:
        earlier = _replay(session, caller, idempotency_key, fingerprint)
        if earlier is not None:
            return Created(earlier, replayed=True)
    try:
        with session.begin_nested():
            job = insert()
            if idempotency_key is not None:
                row = IdempotencyKey(
                    project_id=caller.project_id,
                    key=idempotency_key,
                    fingerprint=fingerprint,
                    job_id=job.id,
                    created_at=job.created_at,
                )
                session.add(row)
                session.flush()
    except IntegrityError:  # the same key came in by another connection at the same moment, and was first
        earlier = _replay(session, caller, idempotency_key or "", fingerprint)
        if earlier is None:
            raise
        return Created(earlier, replayed=True)
    given.doorbell.ring_after(session, job.queue, job.id)
    return Created(job, replayed=False)


def prospects(session: Session, settings: Settings, caller: Caller, *, queue: str, gpus: int) -> tuple[str, ...]:
    """What keeps a job of this project in this queue, that asks for so many devices, from being run now."""
    found = (
        quotas.running_none(session, caller.project_id, settings.project_running_limit),
        fleet.complaint(session, queue, gpus=gpus, lease_seconds=settings.lease_seconds),
    )
    return tuple(sentence for sentence in found if sentence is not None)


def _replay(session: Session, caller: Caller, key: str, fingerprint: str) -> Job | None:
    earlier = session.get(IdempotencyKey, (caller.project_id, key))
    if earlier is None:
        return None
    if earlier.fingerprint != fingerprint:
        message = "this Idempotency-Key was used for another request; use a new key for a new job"
        raise Invalid(message, code="idempotency_mismatch")
    return session.get_one(Job, earlier.job_id)


def _insert(session: Session, caller: Caller, spec: JobSpec, *, retry_of: str | None) -> Job:
    job = Job(
        id=new_id("job"),
        project_id=caller.project_id,
        name=spec.name,
        spec=spec.model_dump(mode="json"),
        queue=spec.resources.queue,
        priority=spec.resources.priority,
        gpus=spec.resources.gpus,
        retry_of=retry_of,
        status="queued",
        progress={},
        attempt=0,
        losses=0,
        last_seq=0,
        log_bytes=0,
        run_seconds=0.0,
        created_at=now(session),
    )
    session.add(job)
    session.flush()
    labels = {("", tag) for tag in spec.tags} | set(spec.metadata.items())
    session.add_all(JobLabel(job_id=job.id, key=key, value=value) for key, value in sorted(labels))
    events.append(session, job, "job.created", {"name": job.name, "retry_of": retry_of}, at=job.created_at)
    return job


def get(session: Session, caller: Caller, job_id: str) -> Job:
    """A job of the caller's project. Raises NotFound, also for another project's."""
    job = session.scalar(
        select(Job).where(Job.id == job_id, Job.project_id == caller.project_id, Job.kind == "distillation")
    )
    if job is None:
        raise NotFound(f"no job {job_id}")
    return job


def get_locked(session: Session, caller: Caller, job_id: str) -> Job:
    """The same, locked until the transaction ends."""
    get(session, caller, job_id)
    job = lock(session, job_id)
    if job is None:
        raise NotFound(f"no job {job_id}")
    return job


def delete(session: Session, given: Services, caller: Caller, job_id: str) -> None:
    """Delete a job that has ended, and its files once the rows are gone.

    Raises Conflict while it has not, and while a job that has not ended needs its student.
    """
    job = get_locked(session, caller, job_id)
    if job.status not in TERMINAL:
        raise Conflict(f"the job is {job.status}; cancel it first", code="invalid_state")
    check_unused(session, caller.project_id, job_id, "job's student")
    retention.delete(session, given.storage, job)
