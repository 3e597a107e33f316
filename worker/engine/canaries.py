"""Checks of the training itself, for the faults that leave a plausible loss and a useless student.

They work on copies, so they change no weight, no statistic and no random number of the run.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from worker.engine.errors import CanaryFailed, TeacherMismatch
from worker.engine.run import Run

_PROBE_SAMPLES = 64
_TEACHER_SAMPLES = 512


def before_training(run: Run) -> None:
    """At step 0: the terms live, the projectors are trained, the teacher knows the data."""
    trained = {id(parameter) for group in run.optimizer.param_groups for parameter in group["params"]}
    for name, parameter in run.method.named_parameters():
        if id(parameter) not in trained:
            raise CanaryFailed(f"the method's parameter {name} is not in the optimizer.")
    for name, value, gradient in _probe(run):
        if value == 0 or gradient == 0:
            what = "zero" if value == 0 else "without gradient in the student"
            raise CanaryFailed(f"the term {name} is {what} at the first step, so it would teach nothing.")
    run.canaries.append("every term of the loss was finite and reached the student before the first step")
    if run.teacher is not None:
        _check_teacher(run)


def after_first_epoch(run: Run) -> None:
    """After epoch 1: the terms are finite still, and what should move has moved."""
    _probe(run)
    for name, parameter in run.method.named_parameters():
        if torch.equal(parameter, run.first_method[name]):
            raise CanaryFailed(f"the method's parameter {name} did not move in the first epoch.")
    run.canaries.append("every term was finite after the first epoch")


def after_training(run: Run, fingerprint: str) -> None:
    """At the end: the teacher is the one that taught at the start."""
    assert run.teacher is not None
    if run.teacher.fingerprint() != fingerprint:
        raise CanaryFailed("the teacher's weights changed while it taught.")
    run.canaries.append("the teacher's weights were the same at the end as at the start")


def _probe(run: Run) -> list[tuple[str, float, float]]:
    """Each term's name, value and gradient norm in a copy of the student. Raises CanaryFailed."""
    student, method = copy.deepcopy(run.student).train(), copy.deepcopy(run.method)
    some = slice(0, min(_PROBE_SAMPLES, len(run.train)))
    images = run.train.images[some].to(run.device).float().div_(255)
    cuda = [run.device] if run.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        outputs = student(images)
        teacher = run.teacher.outputs(images) if run.teacher is not None else None
        terms = method(outputs, teacher, run.train.labels[some])
    if teacher is not None and teacher.logits.requires_grad:
        raise CanaryFailed("gradients reach the teacher.")
    weights = list(student.body.parameters())
    probed = []
    for name, term in terms.items():
        gradients = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
        norm = _norm([gradient for gradient in gradients if gradient is not None])
        value = float(term.detach())
        if not math.isfinite(value) or not math.isfinite(norm):
            raise CanaryFailed(f"the term {name} or its gradient is not finite.")
        probed.append((name, value, norm))
    return probed


def _norm(gradients: list[Tensor]) -> float:
    return math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients))


def _check_teacher(run: Run) -> None:
    """The teacher's accuracy on training samples must stand clear of the most frequent class's share."""
    assert run.teacher is not None
    count = min(_TEACHER_SAMPLES, len(run.train))
    step = max(1, len(run.train) // count)
    some = torch.arange(0, step * count, step, device=run.device)
    labels = run.train.labels[some]
    logits = run.teacher.outputs(run.train.batch(some).float().div_(255)).logits
    accuracy = float((logits.argmax(dim=1) == labels).float().mean())
    chance = float(torch.bincount(labels).max()) / count
    needed = chance + 3 * math.sqrt(chance * (1 - chance) / count)
    if accuracy <= needed:
        raise TeacherMismatch(
            f"the teacher is right on {accuracy:.1%} of {count} training images, where guessing gives {chance:.1%}.",
            remedy="If it was trained here, train it longer or with a lower learning rate; otherwise check its "
            "normalisation, the order of its classes and its input size.",
        )
    run.canaries.append(f"the teacher was right on {accuracy:.1%} of {count} training images")
