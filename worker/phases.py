"""What a job trains, in which order, and with which budget: read off its spec alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stillhouse.spec import JobSpec
from stillhouse.spec.networks import Teacher, training_of
from stillhouse.spec.training import Training

Kind = Literal["teacher", "generation", "student", "control"]
IMITATING: tuple[Kind, ...] = ("generation", "student")


@dataclass(frozen=True)
class Phase:
    """One training within a job."""

    kind: Kind
    seed: int
    name: str
    index: int = 0
    """Which of several teachers; of a generation, which seed."""
    taught_by: str | None = None
    """The phase whose network teaches, where it is an earlier generation; else the spec's teachers do."""


def phases(spec: JobSpec) -> list[Phase]:
    """What is trained, in order: the teacher or each of several, then for each seed the student, its earlier
    generations before it, and the control.
    """
    first = spec.training.seed
    planned = [
        Phase("teacher", first, name, index)
        for index, (name, teacher) in enumerate(teachers_of(spec).items())
        if training_of(teacher) is not None
    ]
    for index in range(spec.training.seeds):
        before: str | None = None
        for generation in range(1, spec.training.generations):
            name = f"generation-{generation}-{index}"
            planned.append(Phase("generation", first + index, name, index, taught_by=before))
            before = name
        planned.append(Phase("student", first + index, f"student-{index}", index, taught_by=before))
        if spec.control and spec.teacher is not None:
            planned.append(Phase("control", first + index, f"control-{index}", index))
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


def batch_size_field(spec: JobSpec, phase: Phase) -> str:
    """Where the spec says how large a phase's batches are."""
    if phase.kind != "teacher":
        return "training.batch_size"
    return f"teacher{f'.{phase.index}' if isinstance(spec.teacher, list) else ''}.train.batch_size"
