"""Kills at random moments, so many a job, and what came of them: shared by the tests and the benchmark."""

from __future__ import annotations

import json
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.invariants import check
from tests.harness import Remote, Service, Target, eventually

TARGETS: tuple[Target, ...] = ("child", "worker", "api", "all")
Strike = Callable[[Service, str], bool]
"""Does something to a service that runs a job; whether there was something to do it to."""


def _killing(target: Target) -> Strike:
    return lambda service, job_id: service.kill(target, job_id)


KILLS: dict[str, Strike] = {target: _killing(target) for target in TARGETS}

SPEC: dict[str, Any] = {
    "name": "kills",
    "dataset": {"id": "digits"},
    "teacher": {
        "layers": [
            {"name": "conv", "channels": 16},
            {"name": "batchnorm"},
            {"name": "relu"},
            {"name": "dropout", "rate": 0.2},
            {"name": "maxpool"},
            {"name": "conv", "channels": 32},
            {"name": "relu"},
            {"name": "globalpool"},
            {"name": "linear"},
        ],
        "train": {"epochs": 20},
    },
    "student": {
        "layers": [
            {"name": "conv", "channels": 4},
            {"name": "batchnorm"},
            {"name": "relu"},
            {"name": "globalpool"},
            {"name": "linear"},
        ]
    },
    "training": {"epochs": 20, "batch_size": 32, "augmentation": "crop", "optimizer": {"name": "adam"}},
}
"""About ten seconds of training with all that could lose its place: dropout, augmentation, selection, a control."""

SHORT: dict[str, Any] = {
    **{name: part for name, part in SPEC.items() if name != "teacher"},
    "name": "short",
    "method": {"name": "none"},
    "training": {"epochs": 24, "batch_size": 32, "augmentation": "crop", "optimizer": {"name": "adam"}},
    "control": False,
}
"""One network alone, for faults whose moment does not depend on the phase."""


@dataclass(frozen=True)
class Disturbed:
    """A job that was disturbed, and what is wrong with it."""

    job_id: str
    struck: tuple[str, ...]
    broken: tuple[str, ...]
    attempts: int


@dataclass(frozen=True)
class Reference:
    """What a job comes to when nothing happens to it."""

    student: bytes
    metrics: dict[str, list[tuple[int, float | None]]]

    def differences(self, service: Remote, job_id: str, *, scratch: Path | None = None) -> list[str]:
        """What is wrong with a job that was disturbed: a broken invariant, or any other result."""
        job = service.job(job_id)
        broken = check(service, job_id, scratch=scratch)
        if job["status"] != "succeeded":
            return [*broken, f"the job {job['status']}: {job['status_reason']}, {job['status_detail']}"]
        if service.artifact(job_id, "student.safetensors") != self.student:
            broken.append("the student's bytes differ from the undisturbed run's")
        if service.metrics(job_id) != self.metrics:
            broken.append("a metric's steps or values differ from the undisturbed run's")
        return broken


_known: dict[str, Reference] = {}
"""By spec: the result is the same on every backend, so it is found once a session."""


def undisturbed(service: Remote, spec: dict[str, Any] = SPEC) -> Reference:
    """What ``spec`` comes to when nothing happens."""
    key = json.dumps(spec)
    if key not in _known:
        job_id = service.submit(spec)
        assert service.wait(job_id, seconds=580)["status"] == "succeeded", service.job(job_id)
        broken = check(service, job_id)
        assert not broken, broken
        _known[key] = Reference(service.artifact(job_id, "student.safetensors"), service.metrics(job_id))
    return _known[key]


def disturb(
    service: Service,
    expected: Reference,
    faults: deque[str],
    chance: random.Random,
    *,
    strikes: Mapping[str, Strike] = KILLS,
) -> Disturbed:
    """Submit a job and let the next faults strike at random moments until it has ended.

    The first one strikes at any moment. Each further one waits for a new checkpoint, since three attempts in a row
    without one are poison by design, then for another random moment. A fault that found nothing to strike, or a job
    that may have ended before it struck, counts for nothing and stays the next.
    """
    job_id = service.submit(SPEC)
    eventually(lambda: service.child(job_id), what="the training child to run")
    struck: list[str] = []
    time.sleep(chance.uniform(0.0, 3.0))
    while faults and not service.job(job_id)["terminal"]:
        if not strikes[faults[0]](service, job_id):
            continue
        if service.job(job_id)["terminal"]:
            break
        struck.append(faults.popleft())
        if not _training_again(service, job_id):
            break
        time.sleep(chance.uniform(0.0, 1.5))
    job = service.wait(job_id)
    broken = expected.differences(service, job_id, scratch=service.data_dir / "scratch")
    return Disturbed(job_id=job_id, struck=tuple(struck), broken=tuple(broken), attempts=job["attempt"])


def _training_again(service: Service, job_id: str) -> bool:
    """Wait for a checkpoint that did not exist at the call; False when the job ended first."""
    before = {row["id"] for row in service.get(f"/v1/jobs/{job_id}/checkpoints")["data"]}

    def progressed() -> str | None:
        if service.job(job_id)["terminal"]:
            return "ended"
        now = {row["id"] for row in service.get(f"/v1/jobs/{job_id}/checkpoints")["data"]}
        return "training" if now - before else None

    return eventually(progressed, seconds=120, what="a checkpoint after the kill") == "training"
