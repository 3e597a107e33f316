"""Kills at random moments, so many a job, and what came of them: shared by the tests and the benchmark."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.faults.invariants import check
from tests.harness import Service, Target, eventually

TARGETS: tuple[Target, ...] = ("child", "worker", "api", "all")

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


@dataclass(frozen=True)
class Disturbed:
    """A job that was disturbed, and what is wrong with it."""

    job_id: str
    kills: tuple[Target, ...]
    broken: tuple[str, ...]
    attempts: int


def undisturbed(service: Service) -> bytes:
    """The student's bytes when nothing happens."""
    job_id = service.submit(SPEC)
    assert service.wait(job_id)["status"] == "succeeded", service.job(job_id)
    assert check(service, job_id) == []
    return service.artifact(job_id, "student.safetensors")


def disturb(service: Service, expected: bytes, targets: Iterator[Target], chance: random.Random) -> Disturbed:
    """Submit a job and kill the next targets at random moments until it has ended.

    The first kill comes at any moment. Each further one waits for a checkpoint of the new attempt, since three
    attempts in a row without one are poison by design, then for another random moment.
    """
    job_id = service.submit(SPEC)
    eventually(lambda: service.child(job_id), what="the training child to run")
    kills: list[Target] = []
    time.sleep(chance.uniform(0.0, 3.0))
    while not service.job(job_id)["terminal"] and (target := next(targets, None)) is not None:
        if not service.kill(target, job_id):
            continue
        kills.append(target)
        if not _training_again(service, job_id):
            break
        time.sleep(chance.uniform(0.0, 1.5))
    job = service.wait(job_id)
    broken = check(service, job_id)
    if job["status"] != "succeeded":
        broken.append(f"the job {job['status']}: {job['status_reason']}, {job['status_detail']}")
    elif service.artifact(job_id, "student.safetensors") != expected:
        broken.append("the student's bytes differ from the undisturbed run's")
    return Disturbed(job_id=job_id, kills=tuple(kills), broken=tuple(broken), attempts=job["attempt"])


def _training_again(service: Service, job_id: str) -> bool:
    """Wait for a checkpoint that did not exist at the call; False when the job ended first."""
    before = {row["id"] for row in service.get(f"/v1/jobs/{job_id}/checkpoints")["data"]}

    def progressed() -> str | None:
        if service.job(job_id)["terminal"]:
            return "ended"
        now = {row["id"] for row in service.get(f"/v1/jobs/{job_id}/checkpoints")["data"]}
        return "training" if now - before else None

    return eventually(progressed, seconds=120, what="a checkpoint after the kill") == "training"
