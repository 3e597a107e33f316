"""What the fields cannot say one by one: whether a spec's parts fit each other. No torch, no database."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from stillhouse.resources import FieldError
from stillhouse.spec.catalog import Footprint, architectures
from stillhouse.spec.datasets import DATASETS, BuiltinDataset
from stillhouse.spec.job import JobSpec
from stillhouse.spec.layers import LayerShapeError, trace
from stillhouse.spec.methods.fitness import examine
from stillhouse.spec.networks import LayeredStudent, LayeredTeacher, Network
from stillhouse.spec.training import Cosine, MultiStep, Training

_TEST_FRACTION = 0.1


@dataclass
class Review:
    """What was found. A spec with errors is refused; warnings are for a person to weigh."""

    errors: list[FieldError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    teacher: Footprint | None = None
    student: Footprint | None = None

    def refuse(self, pointer: str, message: str) -> None:
        """Add an error that points into the spec."""
        self.errors.append(FieldError(pointer=pointer, code="does_not_fit", message=message))


def review(spec: JobSpec) -> Review:
    """Check ``spec`` across its fields."""
    found = Review()
    dataset = DATASETS.get(spec.dataset.id)
    if dataset is None:
        found.refuse("/dataset/id", f"no data set is called {spec.dataset.id!r}{_close(spec.dataset.id, DATASETS)}")
        return found
    _check_split(spec, dataset, found)
    found.student = _footprint("/student", spec.student, dataset, found)
    found.teacher = _teachers(spec, dataset, found)
    if found.teacher and found.student and found.teacher.parameters <= found.student.parameters:
        found.warnings.append(
            f"the teacher ({found.teacher.parameters:,} parameters) is no larger than its student "
            f"({found.student.parameters:,}); distillation is meant for a larger teacher"
        )
    _check_schedule("", spec.training, found)
    for teacher in spec.teachers:
        _check_schedule("the teacher's ", teacher.train.over(spec.training), found)
    if spec.training.precision == "fp16" and spec.resources.gpus == 0:
        found.refuse("/training/precision", "fp16 needs a GPU, and resources.gpus is 0; use auto, fp32 or bf16")
    _check_methods(spec, dataset, found)
    if spec.control and spec.teacher is None:
        found.warnings.append("method 'none' is its own control, so no second one is trained")
    return found


def _teachers(spec: JobSpec, dataset: BuiltinDataset, found: Review) -> Footprint | None:
    """Of several, what they cost together."""
    listed = isinstance(spec.teacher, list)
    each = [
        _footprint(f"/teacher/{index}" if listed else "/teacher", teacher, dataset, found)
        for index, teacher in enumerate(spec.teachers)
    ]
    known = [footprint for footprint in each if footprint is not None]
    if not known or len(known) < len(each):
        return None
    if len(known) == 1:
        return known[0]
    return Footprint(
        parameters=sum(footprint.parameters for footprint in known), flops=sum(footprint.flops for footprint in known)
    )


def _check_split(spec: JobSpec, dataset: BuiltinDataset, found: Review) -> None:
    images = dataset.train if dataset.test is not None else round(dataset.train * (1 - _TEST_FRACTION))
    fraction, classes = spec.dataset.validation, len(dataset.classes)
    if fraction == 0:
        found.warnings.append("validation is 0: no epoch is selected, the last one is served")
        return
    held_out = images * fraction
    if held_out < classes or images - held_out < classes:
        message = f"a fraction of {fraction} of {images} images leaves a class of {classes} without an image in a split"
        found.refuse("/dataset/validation", message)
    elif images - held_out < spec.training.batch_size:
        found.warnings.append(f"batch_size {spec.training.batch_size} is larger than the training split")


def _check_schedule(whose: str, training: Training, found: Review) -> None:
    match training.schedule:
        case MultiStep(milestones=[first, *_]) if first >= training.epochs:
            said = f"no milestone lies within {whose}{training.epochs} epochs, so the learning rate stays as it is"
        case Cosine(warmup_epochs=warmup) if warmup >= training.epochs:
            said = f"the warm-up outlasts {whose}{training.epochs} epochs, so the learning rate never comes to its base"
        case _:
            return
    if said not in found.warnings:
        found.warnings.append(said)


def _check_methods(spec: JobSpec, dataset: BuiltinDataset, found: Review) -> None:
    for index, method in enumerate(spec.imitations):
        pointer = f"/method/{index}" if isinstance(spec.method, list) else "/method"
        fitness = examine(method, classes=len(dataset.classes), images=dataset.train)
        for field_name, message in fitness.refusals:
            found.refuse(f"{pointer}/{field_name}", message)
        found.warnings += fitness.warnings
        if method.reads_features and len(spec.teachers) > 1:
            message = f"{method.name} reads a teacher's features, and {len(spec.teachers)} teachers have none in common"
            found.refuse(f"{pointer}/name", f"{message}; name one teacher, or use a method on logits such as kd")


def _footprint(pointer: str, network: Network, dataset: BuiltinDataset, found: Review) -> Footprint | None:
    if isinstance(network, LayeredStudent | LayeredTeacher):
        try:
            traced = trace(network.layers, input_shape=dataset.shape, classes=len(dataset.classes))
        except LayerShapeError as error:
            place = "".join(f"/{step}" for step in error.path)
            message = f"layer {place.removeprefix('/')} on images of {'x'.join(map(str, dataset.shape))}: {error}"
            found.refuse(f"{pointer}/layers{place}", message)
            return None
        return Footprint(parameters=traced.parameters, flops=2 * traced.macs)
    known = architectures().get(network.architecture)
    if known is None:
        close = _close(network.architecture, architectures())
        found.refuse(f"{pointer}/architecture", f"no architecture is called {network.architecture!r}{close}")
        return None
    if dataset.name not in known.figures:
        side = known.minimum_size
        given = "x".join(map(str, dataset.shape[1:]))
        message = f"{known.name} takes images of at least {side}x{side}, but those of {dataset.name} are {given}"
        found.refuse(f"{pointer}/architecture", message)
        return None
    return known.figures[dataset.name]


def _close(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3)
    return f"; did you mean {' or '.join(close)}?" if close else f"; choose one of {', '.join(names)}"
