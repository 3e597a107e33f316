"""From the spec to engine objects: the only file that speaks both languages."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from stillhouse.spec import JobSpec
from stillhouse.spec.footprints import input_shape
from stillhouse.spec.networks import LayeredStudent, LayeredTeacher, Teacher, title, training_of
from stillhouse.spec.networks import Network as NetworkSpec
from stillhouse.spec.training import Training
from worker.engine import weights
from worker.engine.data import Dataset
from worker.engine.ensemble import Ensemble
from worker.engine.errors import WeightsRefused
from worker.engine.evaluate import trial_step
from worker.engine.method import Method
from worker.engine.methods import METHODS
from worker.engine.methods.combination import Combination
from worker.engine.network import Description, Network, Preprocessing, Stem, build_network
from worker.engine.optim import build_schedule
from worker.engine.precision import Precision
from worker.engine.random import derive
from worker.engine.run import Recipe, Run
from worker.engine.teacher import LiveTeacher, with_table

Kind = Literal["teacher", "student", "control"]
WEIGHTS = Path("weights")
"""In the child's folder: for each role with weights ROLE.safetensors (or ROLE.onnx) and ROLE.json, in the form of
``student.json``."""
TABLE = Path("tables/view.table")
"""In the child's folder, where the view table lies and is left; see ``worker.tables``."""
_LOOKED_AT = 64


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
    planned = [
        Phase("teacher", first, name, index)
        for index, (name, teacher) in enumerate(teachers_of(spec).items())
        if training_of(teacher) is not None
    ]
    kinds: Sequence[Kind] = ("student", "control") if spec.control and spec.teacher is not None else ("student",)
    for index in range(spec.training.seeds):
        planned += [Phase(kind, first + index, f"{kind}-{index}") for kind in kinds]
    return planned


def teachers_of(spec: JobSpec) -> dict[str, Teacher]:
    """The teachers by the names of their phases and files: ``teacher``, or ``teacher-0`` and on of a list."""
    if not isinstance(spec.teacher, list):
        return {"teacher": spec.teacher} if spec.teacher is not None else {}
    return {f"teacher-{index}": teacher for index, teacher in enumerate(spec.teacher)}


def budget_of(spec: JobSpec, phase: Phase) -> Training:
    """What a phase is trained with."""
    first = training_of(spec.teachers[phase.index]) if phase.kind == "teacher" else None
    return first.over(spec.training) if first is not None else spec.training


def architecture_of(network: NetworkSpec) -> Description:
    """The engine's name for it."""
    if isinstance(network, LayeredStudent | LayeredTeacher):
        return [layer.model_dump() for layer in network.layers]
    return network.architecture


def stem_of(network: NetworkSpec) -> Stem:
    """Of a list of layers, what the list says."""
    return "standard" if isinstance(network, LayeredStudent | LayeredTeacher) else network.stem


def build(network: NetworkSpec, dataset: Dataset, *, seed: int, role: str, fine_tune: bool) -> Network:
    """The network a spec describes: from the weights staged for its ``role``, or from ``seed`` alone.

    ``fine_tune`` lets the classifier be replaced where the classes differ.
    """
    if architecture_of(network) == weights.ONNX:
        return _black_box(dataset, role)
    if network.weights is not None:
        return _from_weights(network, dataset, seed=seed, role=role, fine_tune=fine_tune)
    channels, height, width = dataset.train.images.shape[1:]
    shape = input_shape(network, (channels, height, width))
    return build_network(
        architecture=architecture_of(network),
        classes=len(dataset.classes),
        preprocessing=Preprocessing(shape=shape, mean=dataset.mean, std=dataset.std),
        seed=seed,
        stem=stem_of(network),
    )


def _from_weights(network: NetworkSpec, dataset: Dataset, *, seed: int, role: str, fine_tune: bool) -> Network:
    given = weights.load(WEIGHTS, role)
    asked, stem = architecture_of(network), stem_of(network)
    if (given.architecture, given.stem) != (asked, stem):
        theirs = given.architecture if isinstance(given.architecture, str) else f"layers({len(given.architecture)})"
        message = f"{network.weights} is {theirs} with a {given.stem} stem, but the {role} is {title(network)}, {stem}."
        raise WeightsRefused(message, remedy=f"Give the {role} the architecture of its weights.")
    side = None if isinstance(network, LayeredStudent | LayeredTeacher) else network.input_size
    built, fitted = weights.rebuild(given, classes=dataset.classes, side=side, seed=seed, replace_head=fine_tune)
    print(f"weights of the {role} from {network.weights}: {json.dumps(fitted.describe())}")  # into the job's log
    return built


def _black_box(dataset: Dataset, role: str) -> Network:
    samples = dataset.train.images[:_LOOKED_AT].float().div(255)
    opened, kind = weights.open_black_box(WEIGHTS, role, classes=dataset.classes, samples=samples)
    print(f"the {role} is an ONNX file; its outputs on {len(samples)} training images are {kind}")
    return opened


def trial(spec: JobSpec, dataset: Dataset) -> Callable[[], object] | None:
    """What the precision ``auto`` is tried on; see ``trial_step``."""
    student = build(spec.student, dataset, seed=0, role="student", fine_tune=True)
    return trial_step(student, batch=spec.training.batch_size)


def ready_teachers(spec: JobSpec, dataset: Dataset) -> dict[str, Network]:
    """By name, the teachers that are used as they are; not those that are trained first."""
    return {
        name: build(teacher, dataset, seed=0, role=name, fine_tune=False)
        for name, teacher in teachers_of(spec).items()
        if training_of(teacher) is None
    }


def build_method(spec: JobSpec) -> Method:
    """The method a spec describes, or the combination of several; ready only once its run is made."""
    listed = spec.method if isinstance(spec.method, list) else [spec.method]
    parts = []
    for described in listed:
        fields = described.model_dump()
        name, weight = fields.pop("name"), fields.pop("weight", 1.0)
        parts.append((name, weight, METHODS[name](**fields)))
    return parts[0][2] if len(parts) == 1 and parts[0][1] == 1 else Combination(parts)


def build_teacher(spec: JobSpec, networks: Mapping[str, Network]) -> Network | Ensemble | None:
    """The teacher of the students: one network, or several as one; None until all of them are there."""
    members = [networks[name] for name in teachers_of(spec) if name in networks]
    if len(members) < len(spec.teachers) or not members:
        return None
    if not isinstance(spec.teacher, list):
        return members[0]
    shares = [teacher.weight for teacher in spec.teachers]
    return Ensemble(list(zip(shares, members, strict=True)))


def build_run(
    spec: JobSpec,
    phase: Phase,
    dataset: Dataset,
    *,
    teacher: Network | Ensemble | None,
    device: torch.device,
    precision: Precision,
    table_limit: int = 0,
) -> Run:
    """One training, ready to start. Student and control of a seed differ in their method, and in nothing else.

    ``table_limit`` are the bytes that the teacher's view table may have; 0 is no table.
    """
    imitates = phase.kind == "student" and teacher is not None
    taught = spec.teachers[phase.index] if phase.kind == "teacher" else None
    budget = budget_of(spec, phase)
    role = phase.name if taught else "student"
    train = dataset.train.to(device)
    source: LiveTeacher | None = None
    if imitates and teacher is not None and table_limit:
        source = with_table(
            teacher,
            train,
            TABLE,
            augmentation=budget.augmentation,
            classes=len(dataset.classes),
            precision=precision,
            limit=table_limit,
        )
    elif imitates and teacher is not None:
        source = LiveTeacher(teacher, precision=precision)
    return Run(
        student=build(taught or spec.student, dataset, seed=derive(phase.seed, role), role=role, fine_tune=True).to(
            device
        ),
        method=build_method(spec) if phase.kind == "student" else METHODS["none"](),
        teacher=source,
        train=train,
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


def rehearse(spec: JobSpec, dataset: Dataset, ready: Mapping[str, Network]) -> None:
    """Make the student's run once with untrained teachers, so that a method is refused before a teacher is trained.

    ``ready`` are the teachers that are not trained here. Raises MethodRefused.
    """
    planned = phases(spec)
    untrained = {
        phase.name: build(spec.teachers[phase.index], dataset, seed=0, role=phase.name, fine_tune=True)
        for phase in planned
        if phase.kind == "teacher"
    }
    build_run(
        spec,
        next(phase for phase in planned if phase.kind == "student"),
        dataset,
        teacher=build_teacher(spec, {**ready, **untrained}),
        device=torch.device("cpu"),
        precision=Precision("fp32", scales_gradients=False),
    )
