"""What a job would take, from its own arithmetic and from jobs like it that have run."""

from __future__ import annotations

from math import prod
from statistics import median
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.auth import Caller
from app.config import Settings
from app.jobs.service import checked, prospects
from app.jobs.weights import check_weights
from app.lifecycle import fleet, quotas
from app.tables import Job
from stillhouse.resources import DryRun, Estimate
from stillhouse.spec import JobSpec
from stillhouse.spec.datasets import DatasetFacts
from stillhouse.spec.methods.taps import read_by
from stillhouse.spec.review import Review
from stillhouse.spec.training import SGD, Optimizer

_TRAINED_BYTES = 16
"""Of each parameter that is trained: weight, gradient and two moments in fp32."""
_FROZEN_BYTES = 4
_LIKE_IT = 20


def dry_run(session: Session, settings: Settings, caller: Caller, spec: JobSpec) -> DryRun:
    """The spec with every default filled in, what to think about, and what it would take. Raises Invalid.

    It is not admissible when it could never run as things are set; that nobody would take it now is a warning.
    """
    found, dataset = checked(session, caller, spec)
    check_weights(session, caller, spec, dataset)
    complete = spec.complete(classes=len(dataset.classes))
    seconds = _seconds(session, caller, complete)
    asked = spec.resources
    limits = (
        quotas.waiting_full(session, caller.project_id, settings.project_waiting_limit),
        _too_large(session, settings, complete, found),
    )
    warnings = [*found.warnings, *(sentence for sentence in limits if sentence is not None)]
    warnings += prospects(session, settings, caller, queue=asked.queue, gpus=asked.gpus)
    if seconds is None:
        warnings.append(
            "no job with this data set and these networks has run here yet, so its time cannot be estimated"
        )
    return DryRun(
        spec=complete,
        warnings=warnings,
        estimate=_estimate(dataset, found, seconds),
        feature_points={
            "student": read_by(complete.imitations, "student", found.student),
            "teacher": read_by(complete.imitations, "teacher", found.teacher),
        },
        admissible=quotas.running_none(session, caller.project_id, settings.project_running_limit) is None,
    )


def _too_large(session: Session, settings: Settings, spec: JobSpec, found: Review) -> str | None:
    """A sentence when not even the networks' own numbers fit into the memory of a worker that could take the job."""
    most = fleet.most_memory(session, spec.resources.queue, lease_seconds=settings.lease_seconds)
    teacher, student = (each.parameters or 0 if each else 0 for each in (found.teacher, found.student))
    held = teacher * _FROZEN_BYTES + student * _trained_bytes(spec.training.optimizer)
    for each in spec.teachers:
        if each.train is not None and each.train.optimizer is not None and len(spec.teachers) == 1:
            held = max(held, teacher * _trained_bytes(each.train.optimizer))
    if most is None or held <= most:
        return None
    return (
        f"weights, gradients and the optimizer's state alone take {held / 2**30:,.1f} GiB, and no live worker that "
        f"serves the queue {spec.resources.queue!r} has more than {most / 2**30:,.1f} GiB; use smaller networks"
    )


def _trained_bytes(optimizer: Optimizer) -> int:
    """Of each parameter: weight, gradient and what the optimizer remembers, in fp32."""
    remembered = (1 if optimizer.momentum else 0) if isinstance(optimizer, SGD) else 2
    return 4 * (2 + remembered)


def _estimate(dataset: DatasetFacts, found: Review, seconds: float | None) -> Estimate:
    assert found.student is not None
    teacher, student = found.teacher.parameters if found.teacher else 0, found.student.parameters
    memory = None
    if teacher is not None and student is not None:
        memory = max(teacher * _TRAINED_BYTES, teacher * _FROZEN_BYTES + student * _TRAINED_BYTES)
        memory += dataset.images * prod(dataset.shape)
    return Estimate(
        teacher_parameters=found.teacher.parameters if found.teacher else None,
        student_parameters=found.student.parameters,
        teacher_flops=found.teacher.flops if found.teacher else None,
        student_flops=found.student.flops,
        memory_bytes=memory,
        seconds=seconds,
    )


def _seconds(session: Session, caller: Caller, spec: JobSpec) -> float | None:
    """The median of the newest like jobs' time for each epoch, times this job's epochs."""
    wanted = spec.model_dump(mode="json")
    newest = (
        select(Job.spec, Job.run_seconds)
        .where(Job.project_id == caller.project_id, Job.kind == "distillation", Job.status == "succeeded")
        .order_by(Job.id.desc())
        .limit(200)
    )
    like = [(past, seconds) for past, seconds in session.execute(newest) if _alike(past, wanted)][:_LIKE_IT]
    if not like:
        return None
    return float(median(seconds / _epochs(past) for past, seconds in like) * _epochs(wanted))


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    def essence(spec: dict[str, Any]) -> tuple[object, ...]:
        networks = [{**network, "train": None} for network in (*_teachers(spec), spec["student"])]
        listed = spec["method"] if isinstance(spec["method"], list) else [spec["method"]]
        methods = [(method["name"], method.get("views")) for method in listed]
        return (spec["dataset"]["id"], networks, spec["training"]["batch_size"], methods)

    return essence(one) == essence(other)


def _epochs(spec: dict[str, Any]) -> int:
    """Of all trainings of a job together."""
    training = spec["training"]
    students = training.get("generations", 1)  # a spec of before there were any has none
    runs = training["seeds"] * (students + (1 if spec["control"] and spec["teacher"] else 0))
    teachers = sum(teacher["train"]["epochs"] for teacher in _teachers(spec) if teacher["train"])
    return int(training["epochs"] * runs + teachers)


def _teachers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """None, one or several, as a list."""
    teacher = spec["teacher"]
    return teacher if isinstance(teacher, list) else [teacher] if teacher else []
