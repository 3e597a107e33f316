"""What the fields cannot say one by one: whether a spec's parts fit each other. No torch, no database."""

from __future__ import annotations

from dataclasses import dataclass, field

from stillhouse.resources import FieldError
from stillhouse.spec.catalog import Footprint
from stillhouse.spec.datasets import DATASETS, BuiltinDataset
from stillhouse.spec.footprints import close, footprint
from stillhouse.spec.job import JobSpec
from stillhouse.spec.networks import Network
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


def review(spec: JobSpec) -> Review:
    """Check ``spec`` across its fields."""
    found = Review()
    dataset = DATASETS.get(spec.dataset.id)
    if dataset is None:
        found.refuse("/dataset/id", f"no data set is called {spec.dataset.id!r}{close(spec.dataset.id, DATASETS)}")
        return found
    _check_split(spec, dataset, found)
    found.student = _footprint("/student", spec.student, dataset, found)
    if spec.teacher is not None:
        found.teacher = _footprint("/teacher", spec.teacher, dataset, found)
    _compare(found)
    _check_schedule(spec.training, found)
    if spec.control and spec.teacher is None:
        found.warnings.append("method 'none' is its own control, so no second one is trained")
    return found


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


def _check_schedule(training: Training, found: Review) -> None:
    if isinstance(training.schedule, MultiStep) and training.schedule.milestones[0] >= training.epochs:
        found.warnings.append(
            f"no milestone lies within the {training.epochs} epochs, so the learning rate stays as it is"
        )


def _footprint(pointer: str, network: Network, dataset: BuiltinDataset, found: Review) -> Footprint | None:
    traced = footprint(network, shape=dataset.shape, classes=len(dataset.classes))
    for place, message in traced.refusals:
        found.refuse(f"{pointer}{place}", message)
    found.warnings += [f"{pointer.removeprefix('/')}: {message}" for message in traced.warnings]
    return traced.footprint


def _compare(found: Review) -> None:
    teacher, student = (each.parameters if each else None for each in (found.teacher, found.student))
    if teacher is not None and student is not None and teacher <= student:
        found.warnings.append(
            f"the teacher ({teacher:,} parameters) is no larger than its student "
            f"({student:,}); distillation is meant for a larger teacher"
        )
