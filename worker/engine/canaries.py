"""Checks of the training itself, for the faults that leave a plausible loss and a useless student.

They work on copies, so they change no weight, no statistic and no random number of the run.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from worker.engine.errors import CanaryFailed, TeacherMismatch
from worker.engine.method import Batch
from worker.engine.network import Network, Preprocessing
from worker.engine.random import derive
from worker.engine.run import Run
from worker.engine.teacher import LiveTeacher

_PROBE_SAMPLES = 64
_TEACHER_SAMPLES = 512
_CLEARLY_BETTER = 0.1
"""In accuracy: by more than this, and with half the errors."""


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


def check_rows(run: Run) -> None:
    """Before a teacher's table is used, random rows of it are computed again; see ``LiveTeacher.check_table``."""
    if isinstance(run.teacher, LiveTeacher):
        run.table_found = run.teacher.check_table(seed=derive(run.recipe.seed, "guard", run.global_step))


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
    samples = torch.arange(len(run.train), device=run.device)[some]
    batch = Batch(run.train.labels[some], samples, run.epoch, run.recipe.seed)
    images = method.view(run.train.batch(samples).float().div_(255), batch)
    cuda = [run.device] if run.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        outputs = student(images)
        teacher = run.teacher.outputs(images, batch) if run.teacher is not None else None
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
    batch = Batch(labels, some, run.epoch, run.recipe.seed)
    logits = run.teacher.outputs(run.train.batch(some).float().div_(255), batch).logits
    accuracy = float((logits.argmax(dim=1) == labels).float().mean())
    chance = float(torch.bincount(labels).max()) / count
    needed = chance + 3 * math.sqrt(chance * (1 - chance) / count)
    if accuracy <= needed:
        raise TeacherMismatch(
            f"the teacher is right on {accuracy:.1%} of {count} training images, where guessing gives {chance:.1%}.",
            remedy="If it was trained here, train it longer or with a lower learning rate; otherwise check its "
            "normalisation, the order of its classes and its input size.",
        )
    _check_preprocessing(run, run.train.images[some], labels, accuracy)
    run.canaries.append(f"the teacher was right on {accuracy:.1%} of {count} training images")


def _check_preprocessing(run: Run, images: Tensor, labels: Tensor, accuracy: float) -> None:
    """A teacher that halves its errors under another preprocessing was not trained with the one it came with."""
    if not isinstance(run.teacher, LiveTeacher) or not isinstance(run.teacher.network, Network):
        return  # of several teachers each may have its own
    network = run.teacher.network
    given = network.preprocessing
    pixels = images.float().div(255)
    for name, mean, std in _other_statistics(pixels, given.shape[0]):
        other = Network(network.body, Preprocessing(given.shape, mean, std)).to(pixels.device)
        _compare(other, pixels, labels, accuracy, f"with {name}")
    if images.shape[1] == 3:
        _compare(network, pixels.flip(1), labels, accuracy, "with red and blue exchanged")


def _other_statistics(pixels: Tensor, channels: int) -> Iterator[tuple[str, tuple[float, ...], tuple[float, ...]]]:
    """Name, mean and deviation of what a network is often trained with."""
    if pixels.shape[1] == channels:
        mean = tuple(pixels.mean(dim=(0, 2, 3)).tolist())
        std = tuple(pixels.transpose(0, 1).flatten(1).std(dim=1).clamp_min(1e-3).tolist())
        shown = (", ".join(f"{value:.4f}" for value in values) for values in (mean, std))
        yield "the training images' own mean ({}) and deviation ({})".format(*shown), mean, std
    yield "values of 0 to 1 as they are (mean 0, deviation 1)", (0.0,) * channels, (1.0,) * channels
    yield "mean 0.5 and deviation 0.5", (0.5,) * channels, (0.5,) * channels


@torch.no_grad()
def _compare(network: Network, pixels: Tensor, labels: Tensor, accuracy: float, how: str) -> None:
    found = float((network(pixels).logits.argmax(dim=1) == labels).float().mean())
    if found - accuracy > _CLEARLY_BETTER and 1 - found < (1 - accuracy) / 2:
        raise TeacherMismatch(
            f"the teacher is right on {accuracy:.1%} of {len(labels)} training images, but on {found:.1%} {how}.",
            remedy="Its mean and deviation are not those it was trained with; give the model the right ones.",
        )
