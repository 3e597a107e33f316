"""Whether the weights a spec names can be had: another job's student, of the same project and the same architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.auth import Caller
from app.errors import Invalid
from app.tables import Job
from stillhouse.resources import FieldError
from stillhouse.spec import JobSpec


def check_weights(session: Session, caller: Caller, spec: JobSpec) -> None:
    """Raises Invalid with pointers."""
    errors = []
    for role in ("teacher", "student"):
        network = spec.model_dump(mode="json")[role]
        named = network["weights"] if network is not None else None
        if named is not None and named != "pretrained":
            problem = _problem(session, caller, named, network)
            if problem is not None:
                errors.append(FieldError(pointer=f"/{role}/weights", code="does_not_fit", message=problem))
    if errors:
        raise Invalid("; ".join(f"{error.pointer}: {error.message}" for error in errors), errors=errors)


def _problem(session: Session, caller: Caller, named: str, network: Mapping[str, Any]) -> str | None:
    if named.startswith("mdl_"):
        return f"there is no model {named} in this project; see /v1/models"
    job = session.scalar(select(Job).where(Job.id == named, Job.project_id == caller.project_id))
    if job is None:
        return f"there is no job {named} in this project; see /v1/jobs"
    if job.status != "succeeded":
        return f"the job {named} is {job.status}; its student can be used once it has succeeded"
    student = job.spec["student"]
    if any(student.get(name) != network.get(name) for name in ("architecture", "layers")):
        is_ = student.get("architecture") or f"a list of {len(student['layers'])} layers"
        return f"the student of {named} is {is_}; give this network the same architecture"
    return None
