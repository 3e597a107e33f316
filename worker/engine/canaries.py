"""Checks of the training itself, for the faults that leave a plausible loss and a useless student.

They work on copies, so they change no weight, no statistic and no random number of the run.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import torch
from torch import Tensor

from worker.engine import aptitude
from worker.engine.data import ImageSet
from worker.engine.errors import CanaryFailed, MethodRefused, TeacherMismatch
from worker.engine.evaluate import images_at_once
from worker.engine.method import Batch, Outputs
from worker.engine.network import Network
from worker.engine.random import derive
from worker.engine.recorded import RecordedTeacher
from worker.engine.run import Run
from worker.engine.teacher import LiveTeacher

_PROBE_SAMPLES = 64
_RECORDED_SAMPLES = 2**16
_AGREES = 0.8
"""Share of images from which on a file's disorder is one of columns, or its classes as frequent as the data's."""


def before_training(run: Run) -> None:
    """At step 0: the terms live, the projectors are trained, the teacher knows the data."""
    trained = {id(parameter) for group in run.optimizer.param_groups for parameter in group["params"]}
    for name, parameter in run.method.named_parameters():
        if id(parameter) not in trained:
            raise CanaryFailed(f"the method's parameter {name} is not in the optimizer.")
    probed, alike = _probe(run)
    run.first_loss = sum(value for _, value, _ in probed)
    for name, value, gradient in probed:
        if value == 0 or gradient == 0:
            if alike:
                raise MethodRefused(
                    f"the student gives what its teacher gives before the first step, so the term {name} would teach "
                    "nothing.",
                    remedy="Start the student from other weights than its teacher's, or from none.",
                )
            what = "zero" if value == 0 else "without gradient in the network"
            raise CanaryFailed(f"the term {name} is {what} at the first step, so it would teach nothing.")
    run.canaries.append("every term of the loss was finite and reached the network before the first step")
    if run.teacher is not None:
        _check_teacher(run)


def check_rows(run: Run) -> None:
    """Before a teacher's table is used, random rows of it are computed again; see ``LiveTeacher.check_table``."""
    if isinstance(run.teacher, LiveTeacher):
        run.table_found = run.teacher.check_table(seed=derive(run.recipe.seed, "guard", run.global_step))


def first_learning_epoch(run: Run) -> int | None:
    """The first one with a learning rate above zero: a warm-up starts from zero, and an epoch may be one step."""
    factor, epochs = run.recipe.schedule.factor, run.recipe.epochs
    steps = ((epoch, step / run.steps) for epoch in range(epochs) for step in range(run.steps))
    return next((epoch + 1 for epoch, part in steps if factor(epoch + part, epochs) > 0), None)


def after_first_learning_epoch(run: Run) -> None:
    """After that epoch: the terms are finite still, and what should move has moved."""
    _probe(run)
    for name, parameter in run.method.named_parameters():
        if torch.equal(parameter, run.first_method[name]):
            raise CanaryFailed(f"the method's parameter {name} did not move by the end of epoch {run.epoch}.")
    run.canaries.append(f"every term was finite after epoch {run.epoch}")


def after_training(run: Run, fingerprint: str) -> None:
    """At the end: the teacher is the one that taught at the start."""
    assert run.teacher is not None
    if run.teacher.fingerprint() != fingerprint:
        raise CanaryFailed("the teacher's weights changed while it taught.")
    run.canaries.append("the teacher's weights were the same at the end as at the start")


def _probe(run: Run) -> tuple[list[tuple[str, float, float]], bool]:
    """Each term's name, value and gradient norm in a copy of the student, and whether it gives what its teacher gives.

    Raises CanaryFailed.
    """
    student, method = copy.deepcopy(run.student).train(), copy.deepcopy(run.method)
    some = slice(0, min(_PROBE_SAMPLES, max(8, run.recipe.batch_size), len(run.train)))
    samples = torch.arange(len(run.train), device=run.device)[some]
    batch = Batch(run.train.labels[some], samples, run.epoch, run.recipe.seed)
    images = method.view(run.train.batch(samples).float().div_(255), batch)
    cuda = [run.device] if run.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        outputs = student(images)
        teacher = run.teacher.outputs(images, batch) if run.teacher is not None else None
        if method.strong_view:
            strong = run.views.strong(samples.cpu() * run.views.each, seed=run.recipe.seed, epoch=run.epoch)
            outputs = replace(outputs, strong=student(strong))
            if teacher is not None and run.teacher is not None:
                teacher = replace(teacher, strong=run.teacher.outputs(strong, batch))
        terms = method(outputs, teacher, batch)
    if teacher is not None and any(given.requires_grad for given in (teacher.logits, *teacher.features.values())):
        raise CanaryFailed("gradients reach the teacher.")
    weights = [parameter for parameter in student.body.parameters() if parameter.requires_grad]
    probed = []
    for name, term in terms.items():
        gradients = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
        norm = _norm([gradient for gradient in gradients if gradient is not None])
        value = float(term.detach())
        if not math.isfinite(value) or not math.isfinite(norm):
            raise CanaryFailed(f"the term {name} or its gradient is not finite.")
        probed.append((name, value, norm))
    return probed, teacher is not None and _alike(outputs, teacher)


def _alike(student: Outputs, teacher: Outputs) -> bool:
    """Whether logits, or the values at a point of one name, are equal: the student has its teacher's weights."""
    shared = student.features.keys() & teacher.features.keys()
    pairs = [(student.logits, teacher.logits), *((student.features[name], teacher.features[name]) for name in shared)]
    return any(
        ours.shape == theirs.shape and torch.allclose(ours.float(), theirs.float(), rtol=1e-4, atol=1e-6)
        for ours, theirs in pairs
    )


def _norm(gradients: list[Tensor]) -> float:
    return math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients))


def _check_teacher(run: Run) -> None:
    """The teacher must stand clear of guessing on training images drawn at random."""
    assert run.teacher is not None
    some = aptitude.drawn(_teacher_samples(run), len(run.train)).to(run.device)
    labels = run.train.labels[some]
    batch = Batch(labels, some, run.epoch, run.recipe.seed)
    logits = run.teacher.outputs(run.train.batch(some).float().div_(255), batch).logits
    look = aptitude.judge(logits.argmax(dim=1), labels)
    if not look.knows:
        remedy = (
            "If it was trained here, train it longer or with a lower learning rate; otherwise check its "
            "normalisation, the order of its classes and its input size."
        )
        raise TeacherMismatch(
            f"the teacher is {look.sentence(len(some))}.",
            remedy=_likely_disorder(run.teacher, run) if isinstance(run.teacher, RecordedTeacher) else remedy,
        )
    _check_preprocessing(run, run.train.take(some.to(run.train.images.device)), look.accuracy)
    run.canaries.append(f"the teacher was right on {look.accuracy:.1%} of {len(some)} training images")


def _likely_disorder(teacher: RecordedTeacher, run: Run) -> str:
    """Why a file of outputs knows nothing of these images: its columns, its rows, or neither, are in another order."""
    some = aptitude.drawn(_RECORDED_SAMPLES, len(run.train)).to(run.device)
    labels = run.train.labels[some]
    batch = Batch(labels, some, run.epoch, run.recipe.seed)
    named = teacher.outputs(run.train.images[:0], batch).logits.argmax(dim=1).to(labels.device)
    classes = teacher.rows.shape[1]
    pairs = torch.bincount(named * classes + labels, minlength=classes**2).view(classes, classes)
    if float(pairs.max(dim=1).values.sum()) / len(some) > _AGREES:
        return "Its columns are in another order than the data's classes: name its classes in the order of its columns."
    said, true = (torch.bincount(each, minlength=classes).double() / len(some) for each in (named, labels))
    if float((said - true).abs().sum()) / 2 < 1 - _AGREES:
        return (
            "It names each class as often as the data does, so its rows are probably in another order: give one row "
            "for each image in the order of the training split as uploaded, or each row's place there as id."
        )
    return "Check that it was computed on this data set, in the order of its training split and of its classes."


def _teacher_samples(run: Run) -> int:
    """So many that one look at them needs no more memory than an evaluation."""
    assert run.teacher is not None
    return images_at_once(run.teacher.network) if isinstance(run.teacher, LiveTeacher) else aptitude.LOOKED_AT


def _check_preprocessing(run: Run, images: ImageSet, accuracy: float) -> None:
    """A teacher that halves its errors under another preprocessing was not trained with the one it came with."""
    if not isinstance(run.teacher, LiveTeacher) or not isinstance(run.teacher.network, Network):
        return  # of several teachers each may have its own
    better = aptitude.better_preprocessing(run.teacher.network, images, accuracy)
    if better is not None:
        raise TeacherMismatch(
            f"the teacher is right on {accuracy:.1%} of {len(images)} training images, but on {better.seen}.",
            remedy=better.remedy,
        )
