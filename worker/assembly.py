"""From the spec to engine objects: the only file that speaks both languages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from stillhouse.spec import JobSpec
from stillhouse.spec.networks import LayeredStudent, LayeredTeacher
from stillhouse.spec.networks import Network as NetworkSpec
from worker.engine.data import Dataset
from worker.engine.ensemble import Ensemble
from worker.engine.method import Method
from worker.engine.methods import METHODS
from worker.engine.methods.combination import Combination
from worker.engine.network import Network, Preprocessing, build_network
from worker.engine.optim import build_schedule
from worker.engine.precision import Precision
from worker.engine.random import derive
from worker.engine.run import Recipe, Run
from worker.engine.teacher import LiveTeacher

Kind = Literal["teacher", "student", "control"]


@dataclass(frozen=True)
class Phase:
    """One training within a job."""

    kind: Kind
    seed: int
    name: str
    index: int = 0
    """Which of several teachers."""


def phases(spec: JobSpec) -> list[Phase]:
    """What is trained, in order: the teacher or each of several, then student and control for each seed."""
    first = spec.training.seed
    listed = isinstance(spec.teacher, list)
    planned = [
        Phase("teacher", first, f"teacher-{index}" if listed else "teacher", index)
        for index in range(len(spec.teachers))
    ]
    kinds: Sequence[Kind] = ("student", "control") if spec.control and spec.teacher is not None else ("student",)
    for index in range(spec.training.seeds):
        planned += [Phase(kind, first + index, f"{kind}-{index}") for kind in kinds]
    return planned


def preprocessing_of(dataset: Dataset) -> Preprocessing:
    """What every network of this job does to an image first."""
    channels, height, width = dataset.train.images.shape[1:]
    return Preprocessing(shape=(channels, height, width), mean=dataset.mean, std=dataset.std)


def build(network: NetworkSpec, dataset: Dataset, *, seed: int) -> Network:
    """The network a spec describes, its weights a function of ``seed`` alone."""
    architecture: str | list[dict[str, Any]]
    if isinstance(network, LayeredStudent | LayeredTeacher):
        architecture = [layer.model_dump() for layer in network.layers]
    else:
        architecture = network.architecture
    return build_network(
        architecture=architecture, classes=len(dataset.classes), preprocessing=preprocessing_of(dataset), seed=seed
    )


def build_method(spec: JobSpec) -> Method:
    """The method a spec describes, or the combination of several; ready only once its run is made."""
    listed = spec.method if isinstance(spec.method, list) else [spec.method]
    parts = []
    for described in listed:
        fields = described.model_dump()
        name, weight = fields.pop("name"), fields.pop("weight", 1.0)
        parts.append((name, weight, METHODS[name](**fields)))
    return parts[0][2] if len(parts) == 1 and parts[0][1] == 1 else Combination(parts)


def build_teacher(spec: JobSpec, trained: Mapping[str, Network]) -> Network | Ensemble | None:
    """The teacher of the students: one network, or several as one, from those that are trained."""
    members = [trained[phase.name] for phase in phases(spec) if phase.kind == "teacher" and phase.name in trained]
    if len(members) < len(spec.teachers) or not members:
        return None
    if not isinstance(spec.teacher, list):
        return members[0]
    weights = [teacher.weight for teacher in spec.teachers]
    return Ensemble(list(zip(weights, members, strict=True)))


def build_run(
    spec: JobSpec,
    phase: Phase,
    dataset: Dataset,
    *,
    teacher: Network | Ensemble | None,
    device: torch.device,
    precision: Precision,
) -> Run:
    """One training, ready to start. Student and control of a seed differ in their method, and in nothing else."""
    imitates = phase.kind == "student" and teacher is not None
    taught = spec.teachers[phase.index] if phase.kind == "teacher" else None
    described = taught or spec.student
    budget = taught.train.over(spec.training) if taught else spec.training
    weights_seed = derive(phase.seed, phase.name if taught else "student")
    return Run(
        student=build(described, dataset, seed=weights_seed).to(device),
        method=build_method(spec) if phase.kind == "student" else METHODS["none"](),
        teacher=LiveTeacher(teacher, precision=precision) if imitates and teacher is not None else None,
        train=dataset.train.to(device),
        validation=dataset.validation.to(device) if dataset.validation is not None else None,
        recipe=Recipe(
            epochs=budget.epochs,
            batch_size=budget.batch_size,
            optimizer=budget.optimizer.model_dump(),
            schedule=build_schedule(budget.schedule.model_dump()),
            augmentation=budget.augmentation,
            precision=precision,
            seed=phase.seed,
        ),
    )


def rehearse(spec: JobSpec, dataset: Dataset) -> None:
    """Make the student's run once with untrained teachers, so that a method is refused before a teacher is trained.

    Raises MethodRefused.
    """
    planned = phases(spec)
    untrained = {
        phase.name: build(spec.teachers[phase.index], dataset, seed=0) for phase in planned if phase.kind == "teacher"
    }
    build_run(
        spec,
        next(phase for phase in planned if phase.kind == "student"),
        dataset,
        teacher=build_teacher(spec, untrained),
        device=torch.device("cpu"),
        precision=Precision("fp32", scales_gradients=False),
    )
