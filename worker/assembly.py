"""From the spec to engine objects: the only file that speaks both languages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from stillhouse.spec import JobSpec
from stillhouse.spec.catalog import split_tag
from stillhouse.spec.footprints import input_shape
from stillhouse.spec.networks import LayeredStudent, LayeredTeacher, title, training_of
from stillhouse.spec.networks import Network as NetworkSpec
from worker.engine import evaluate, recorded, weights
from worker.engine.data import Dataset
from worker.engine.ensemble import Ensemble
from worker.engine.errors import WeightsRefused
from worker.engine.method import Method
from worker.engine.methods import METHODS
from worker.engine.methods.combination import Combination
from worker.engine.mixture import Mixture
from worker.engine.network import Description, Network, Preprocessing, Stem, build_network
from worker.engine.optim import build_schedule
from worker.engine.precision import Precision
from worker.engine.random import derive
from worker.engine.recorded import RecordedTeacher
from worker.engine.run import Recipe, Run
from worker.engine.teacher import LiveTeacher, TeacherSource, with_table
from worker.engine.team import Team
from worker.phases import IMITATING, Phase, budget_of, phases, teachers_of

WEIGHTS = Path("weights")
"""In the child's folder: for each role with weights ROLE.safetensors (or ROLE.onnx) and ROLE.json, in the form of
``student.json``."""
TABLE = Path("tables/view.table")
"""In the child's folder, where the view table lies and is left; see ``worker.tables``."""
FP32 = Precision("fp32", scales_gradients=False)
Taught = Network | Ensemble | RecordedTeacher | Mixture
"""What can teach."""
_LOOKED_AT = 64
_NONE: Mapping[str, RecordedTeacher] = {}


def architecture_of(network: NetworkSpec) -> Description:
    """The engine's name for it."""
    if isinstance(network, LayeredStudent | LayeredTeacher):
        return [layer.model_dump() for layer in network.layers]
    return split_tag(network.architecture)[0]


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


def suits_bf16(spec: JobSpec, dataset: Dataset) -> bool:
    """What the precision ``auto`` depends on where a CPU trains; see ``worker.engine.evaluate.suits_bf16``."""
    student = build(spec.student, dataset, seed=0, role="student", fine_tune=True)
    return evaluate.suits_bf16(student, batch=spec.training.batch_size)


def ready_teachers(spec: JobSpec, dataset: Dataset) -> dict[str, Network]:
    """By name, the teachers that are used as they are; not those that are trained first."""
    return {
        name: build(teacher, dataset, seed=0, role=name, fine_tune=False)
        for name, teacher in teachers_of(spec).items()
        if training_of(teacher) is None and architecture_of(teacher) != recorded.LOGITS
    }


def recorded_teachers(spec: JobSpec, dataset: Dataset, device: torch.device) -> dict[str, RecordedTeacher]:
    """By name, the teachers that are files of logits. Raises WeightsRefused."""
    found = {}
    for name, teacher in teachers_of(spec).items():
        if architecture_of(teacher) == recorded.LOGITS:
            found[name], said = recorded.load(WEIGHTS, name, dataset, device=device)
            print(f"the {name} is a file of logits: {said}")  # into the job's log
    return found


def build_method(spec: JobSpec) -> Method:
    """The method a spec describes, or the combination of several; ready only once its run is made."""
    listed = spec.method if isinstance(spec.method, list) else [spec.method]
    parts = []
    for described in listed:
        fields = described.model_dump()
        name, weight = fields.pop("name"), fields.pop("weight", 1.0)
        parts.append((name, weight, METHODS[name](**fields)))
    return parts[0][2] if len(parts) == 1 and parts[0][1] == 1 else Combination(parts)


def _method_of(spec: JobSpec, phase: Phase) -> Method:
    """The spec's method, or the labels alone; the control sees the views that the student sees."""
    imitated = build_method(spec)
    if phase.kind in IMITATING:
        return imitated
    return METHODS["none"](views=2 if imitated.strong_view and phase.kind == "control" else 1)


def build_teacher(
    spec: JobSpec, networks: Mapping[str, Network], files: Mapping[str, RecordedTeacher] = _NONE
) -> Taught | None:
    """The teacher of the students: a network, a file, or several as one; None until all of them are there."""
    members = [(teacher.weight, networks[name]) for name, teacher in teachers_of(spec).items() if name in networks]
    told = [(teacher.weight, files[name]) for name, teacher in teachers_of(spec).items() if name in files]
    if len(members) + len(told) < len(spec.teachers) or not spec.teachers:
        return None
    if not isinstance(spec.teacher, list):
        return told[0][1] if told else members[0][1]
    ensemble = Ensemble(members) if members else None
    if not told:
        return ensemble
    return Mixture(told, ensemble, sum(weight for weight, _ in members), precision=FP32)


def teacher_of(
    spec: JobSpec, phase: Phase, networks: Mapping[str, Network], files: Mapping[str, RecordedTeacher] = _NONE
) -> Taught | None:
    """Who teaches in a phase: the generation before it, or the teacher of the spec."""
    if phase.taught_by is not None:
        return networks[phase.taught_by]
    return build_teacher(spec, networks, files)


def build_run(
    spec: JobSpec,
    phase: Phase,
    dataset: Dataset,
    *,
    teacher: Taught | None,
    device: torch.device,
    precision: Precision,
    team: Team | None = None,
    table_limit: int = 0,
) -> Run:
    """One training, ready to start. Student and control of a seed differ in their method, and in nothing else.

    ``table_limit`` are the bytes that the view table of the spec's teacher may have; 0 is no table.
    """
    taught = spec.teachers[phase.index] if phase.kind == "teacher" else None
    budget = budget_of(spec, phase)
    role = phase.name if taught else "student"
    seed = derive(phase.seed, role if phase.kind != "generation" else phase.name)
    train = dataset.train.to(device)
    source: TeacherSource | None = None
    if phase.kind in IMITATING and isinstance(teacher, Network | Ensemble):
        limit = table_limit if phase.taught_by is None else 0
        source = LiveTeacher(teacher, precision=precision)
        if limit:
            source = with_table(
                teacher,
                train,
                TABLE,
                augmentation=budget.augmentation,
                classes=len(dataset.classes),
                precision=precision,
                limit=limit,
            )
    elif phase.kind in IMITATING and isinstance(teacher, RecordedTeacher | Mixture):
        source = teacher.at(precision) if isinstance(teacher, Mixture) else teacher
    return Run(
        student=build(taught or spec.student, dataset, seed=seed, role=role, fine_tune=True).to(device),
        method=_method_of(spec, phase),
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
            sync_batchnorm=budget.sync_batchnorm,
            compile=budget.compile,
        ),
        team=team,
    )


def rehearse(
    spec: JobSpec, dataset: Dataset, ready: Mapping[str, Network], files: Mapping[str, RecordedTeacher] = _NONE
) -> None:
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
        teacher=build_teacher(spec, {**ready, **untrained}, files),
        device=torch.device("cpu"),
        precision=FP32,
    )
