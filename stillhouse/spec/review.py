"""What the fields cannot say one by one: whether a spec's parts fit each other. No torch, no database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from stillhouse.resources import FieldError
from stillhouse.spec.catalog import Footprint
from stillhouse.spec.datasets import DATASETS, DatasetFacts
from stillhouse.spec.footprints import LOGITS, ONNX, close, footprint
from stillhouse.spec.job import JobSpec
from stillhouse.spec.methods.fitness import examine
from stillhouse.spec.methods.taps import missing, unpaired
from stillhouse.spec.networks import NamedTeacher, Network, training_of
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


def review(spec: JobSpec, uploaded: DatasetFacts | None = None) -> Review:
    """Check ``spec`` across its fields; ``uploaded`` is the data set that it names, where that is no built-in one."""
    found = Review()
    published = uploaded or DATASETS.get(spec.dataset.id)
    if published is None:
        found.refuse("/dataset/id", f"no data set is called {spec.dataset.id!r}{close(spec.dataset.id, DATASETS)}")
        return found
    dataset = published.resized(spec.dataset.input_size)
    if dataset != published and min(dataset.shape[1:]) > min(published.shape[1:]):
        found.warnings.append(
            f"input_size {spec.dataset.input_size} enlarges images of {'x'.join(map(str, published.shape[1:]))}"
        )
    _check_split(spec, dataset, found)
    found.student = _footprint("/student", spec.student, dataset, found)
    found.teacher = _teachers(spec, dataset, found)
    _compare(spec, found)
    _check_schedule("", spec.training, found)
    for teacher in spec.teachers:
        if (first := training_of(teacher)) is not None:
            _check_schedule("the teacher's ", first.over(spec.training), found)
    if spec.training.precision == "fp16" and spec.resources.gpus == 0:
        found.refuse("/training/precision", "fp16 needs a GPU, and resources.gpus is 0; use auto, fp32 or bf16")
    _check_methods(spec, dataset, found)
    _check_files(spec, found)
    _check_devices(spec, found)
    _check_generations(spec, found)
    if spec.control and spec.teacher is None:
        found.warnings.append("method 'none' is its own control, so no second one is trained")
    return found


def _teachers(spec: JobSpec, dataset: DatasetFacts, found: Review) -> Footprint | None:
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
    return Footprint(parameters=_sum([each.parameters for each in known]), flops=_sum([each.flops for each in known]))


def _sum(counts: Sequence[int | None]) -> int | None:
    """Unknown when one of them is."""
    told = [count for count in counts if count is not None]
    return sum(told) if len(told) == len(counts) else None


def _check_split(spec: JobSpec, dataset: DatasetFacts, found: Review) -> None:
    images, rarest = dataset.train, dataset.smallest_class
    fraction, classes = spec.dataset.validation, len(dataset.classes)
    if dataset.test is None:
        images = round(dataset.train * (1 - _TEST_FRACTION))
        drawn = round((rarest or dataset.train) * _TEST_FRACTION)
        if not drawn:
            message = f"it has no test split, and a tenth of the {rarest} images of its rarest class is none; bring one"
            found.refuse("/dataset/id", message)
        rarest = None if rarest is None else rarest - drawn
    if fraction == 0:
        found.warnings.append("validation is 0: no epoch is selected, the last one is served")
        return
    if dataset.validation is not None:
        found.warnings.append("the data set brings its own validation split, so no fraction of train is held out")
        return
    held_out = images * fraction
    if rarest is not None and not 0 < round(rarest * fraction) < rarest:
        message = f"a fraction of {fraction} takes {round(rarest * fraction)} of the {rarest} images of a class"
        found.refuse("/dataset/validation", message)
    elif held_out < classes or images - held_out < classes:
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


def _check_generations(spec: JobSpec, found: Review) -> None:
    if spec.training.generations == 1:
        return
    where = "/training/generations"
    if spec.teacher is None:
        found.refuse(where, "generations are taught one by another, and method 'none' teaches nothing; leave this out")
    elif any(method.name == "simkd" for method in spec.imitations):
        found.refuse(where, "simkd gives the student its teacher's last layer, so the next would be no such student")
    elif spec.student.weights is not None:
        found.warnings.append("each generation starts from the student's given weights, so they differ by chance alone")


def _check_methods(spec: JobSpec, dataset: DatasetFacts, found: Review) -> None:
    for index, method in enumerate(spec.imitations):
        pointer = f"/method/{index}" if isinstance(spec.method, list) else "/method"
        fitness = examine(method, classes=len(dataset.classes), images=dataset.train)
        for field_name, message in fitness.refusals:
            found.refuse(f"{pointer}/{field_name}", message)
        found.warnings += fitness.warnings
        rises, epochs = getattr(method.for_classes(len(dataset.classes)), "warmup_epochs", 0), spec.training.epochs
        if rises > epochs:
            found.warnings.append(
                f"{method.name}'s weight rises over {rises} epochs and there are {epochs}, so it never comes to more "
                f"than {epochs / rises:.0%} of itself; lower its warmup_epochs"
            )
        points = missing(method, "student", found.student) + missing(method, "teacher", found.teacher)
        for field_name, message in points or unpaired(method, found.student, found.teacher):
            found.refuse(f"{pointer}/{field_name}", message)
        if method.reads_features and len(spec.teachers) > 1:
            message = f"{method.name} reads a teacher's features, and {len(spec.teachers)} teachers have none in common"
            found.refuse(f"{pointer}/name", f"{message}; name one teacher, or use a method on logits such as kd")


def _check_files(spec: JobSpec, found: Review) -> None:
    """What teachers cannot do that are files: an ONNX file has no features, one of logits has not seen other views."""
    files = {teacher.architecture for teacher in spec.teachers if isinstance(teacher, NamedTeacher)} & {ONNX, LOGITS}
    for index, method in enumerate(spec.imitations):
        base = f"/method/{index}" if isinstance(spec.method, list) else "/method"
        pointer = f"{base}/name"
        if files and method.reads_features and len(spec.teachers) == 1:
            found.refuse(pointer, f"{method.name} reads a teacher's features, and a file has none; use kd or another")
        if LOGITS in files and method.mixes_images and getattr(method, "mixup", True):
            message = f"{method.name} mixes images, and a file of logits knows them unmixed alone; set mixup: false"
            found.refuse(pointer, message)
        if LOGITS in files and method.strong_view:
            message = f"{method.name} shows a changed view, and a file of logits knows images as they are; set views: 1"
            found.refuse(f"{base}/views", message)
    if LOGITS not in files:
        return
    if spec.training.augmentation != "none":
        found.warnings.append(
            f"the file of logits was computed on images as they are, and the student will see "
            f"{spec.training.augmentation} of them: a teacher that is not asked about the same view teaches less "
            "(Beyer et al. 2022); use augmentation: none, or a teacher that can be asked"
        )


def _check_devices(spec: JobSpec, found: Review) -> None:
    gpus, training = spec.resources.gpus, spec.training
    if training.sync_batchnorm and gpus < 2:
        message = f"sync_batchnorm counts over several GPUs, and resources.gpus is {gpus}; turn it off, or ask for more"
        found.refuse("/training/sync_batchnorm", message)
    budgets = [training, *(first.over(training) for teacher in spec.teachers if (first := training_of(teacher)))]
    smallest = min(budget.batch_size for budget in budgets)
    if gpus > 1 and smallest < 2 * gpus:
        found.refuse("/resources/gpus", f"a batch of {smallest} gives {gpus} GPUs fewer than two images each")
    elif gpus > 1:
        counted = "over all of them" if training.sync_batchnorm else "within each part; sync_batchnorm counts over all"
        found.warnings.append(
            f"each of {gpus} GPUs takes its part of a batch of {training.batch_size}; batch norm counts {counted}"
        )


def _footprint(pointer: str, network: Network, dataset: DatasetFacts, found: Review) -> Footprint | None:
    traced = footprint(network, shape=dataset.shape, classes=len(dataset.classes))
    for place, message in traced.refusals:
        found.refuse(f"{pointer}{place}", message)
    found.warnings += [f"{pointer.removeprefix('/')}: {message}" for message in traced.warnings]
    return traced.footprint


def _compare(spec: JobSpec, found: Review) -> None:
    teacher, student = (each.parameters if each else None for each in (found.teacher, found.student))
    if teacher is not None and student is not None and teacher < student and spec.training.generations == 1:
        found.warnings.append(
            f"the teacher ({teacher:,} parameters) is smaller than its student "
            f"({student:,}); distillation is meant for a larger teacher"
        )
