"""What the fields cannot say one by one: whether a spec's parts fit each other. No torch, no database."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from stillhouse.resources import FieldError
from stillhouse.spec.catalog import Footprint, architectures
from stillhouse.spec.datasets import DATASETS, DatasetFacts
from stillhouse.spec.job import JobSpec
from stillhouse.spec.layers import LayerShapeError, trace
from stillhouse.spec.networks import LayeredStudent, LayeredTeacher, Network
from stillhouse.spec.training import MultiStep, Training

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


def review(spec: JobSpec, uploaded: DatasetFacts | None = None) -> Review:
    """Check ``spec`` across its fields; ``uploaded`` is the data set that it names, where that is no built-in one."""
    found = Review()
    published = uploaded or DATASETS.get(spec.dataset.id)
    if published is None:
        found.refuse("/dataset/id", f"no data set is called {spec.dataset.id!r}{_close(spec.dataset.id, DATASETS)}")
        return found
    dataset = published.resized(spec.dataset.input_size)
    if dataset != published and min(dataset.shape[1:]) > min(published.shape[1:]):
        found.warnings.append(
            f"input_size {spec.dataset.input_size} enlarges images of {'x'.join(map(str, published.shape[1:]))}"
        )
    _check_split(spec, dataset, found)
    found.student = _footprint("/student", spec.student, dataset, found)
    if spec.teacher is not None:
        found.teacher = _footprint("/teacher", spec.teacher, dataset, found)
    if found.teacher and found.student and found.teacher.parameters <= found.student.parameters:
        found.warnings.append(
            f"the teacher ({found.teacher.parameters:,} parameters) is no larger than its student "
            f"({found.student.parameters:,}); distillation is meant for a larger teacher"
        )
    _check_schedule(spec.training, found)
    if spec.control and spec.teacher is None:
        found.warnings.append("method 'none' is its own control, so no second one is trained")
    return found


def _check_split(spec: JobSpec, dataset: DatasetFacts, found: Review) -> None:
    images = dataset.train if dataset.test is not None else round(dataset.train * (1 - _TEST_FRACTION))
    fraction, classes = spec.dataset.validation, len(dataset.classes)
    if fraction == 0:
        found.warnings.append("validation is 0: no epoch is selected, the last one is served")
        return
    if dataset.validation is not None:
        found.warnings.append("the data set brings its own validation split, so no fraction of train is held out")
        return
    held_out = images * fraction
    rarest = dataset.smallest_class
    if rarest is not None and not 0 < round(rarest * fraction) < rarest:
        message = f"a fraction of {fraction} takes {round(rarest * fraction)} of the {rarest} images of a class"
        found.refuse("/dataset/validation", message)
    elif held_out < classes or images - held_out < classes:
        message = f"a fraction of {fraction} of {images} images leaves a class of {classes} without an image in a split"
        found.refuse("/dataset/validation", message)
    elif images - held_out < spec.training.batch_size:
        found.warnings.append(f"batch_size {spec.training.batch_size} is larger than the training split")


def _check_schedule(training: Training, found: Review) -> None:
    if isinstance(training.schedule, MultiStep) and training.schedule.milestones[0] >= training.epochs:
        found.warnings.append(
            f"no milestone lies within the {training.epochs} epochs, so the learning rate stays as it is"
        )


def _footprint(pointer: str, network: Network, dataset: DatasetFacts, found: Review) -> Footprint | None:
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
    if min(dataset.shape[1:]) < known.minimum_size:
        side = known.minimum_size
        given = "x".join(map(str, dataset.shape[1:]))
        message = f"{known.name} takes images of at least {side}x{side}, but those of {dataset.name} are {given}"
        found.refuse(f"{pointer}/architecture", message)
        return None
    figures = known.figures.get(_like(dataset) or "")
    if figures is None:
        found.warnings.append(
            f"the catalog has no figures of {known.name} for {len(dataset.classes)} classes of images "
            f"{'x'.join(map(str, dataset.shape))}, so its size is not told in advance"
        )
    return figures


def _like(dataset: DatasetFacts) -> str | None:
    """A built-in set with the same input and as many classes: networks cost the same on it."""
    same = (
        name
        for name, known in DATASETS.items()
        if known.shape == dataset.shape and len(known.classes) == len(dataset.classes)
    )
    return next(same, None)


def _close(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3)
    return f"; did you mean {' or '.join(close)}?" if close else f"; choose one of {', '.join(names)}"
