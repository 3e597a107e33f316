"""Makes a method ready for its networks: checks and captures its feature points, and builds what depends on shapes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from worker.engine.errors import MethodRefused
from worker.engine.method import Method, Setting, Tap
from worker.engine.mixture import Mixture
from worker.engine.network import Network
from worker.engine.points import Shape
from worker.engine.random import derive
from worker.engine.recorded import RecordedTeacher
from worker.engine.teacher import TeacherSource, network_of
from worker.engine.team import Team


def prepare(
    method: Method,
    *,
    student: Network,
    teacher: TeacherSource | None,
    labels: Tensor,
    seed: int,
    synchronised_by: Team | None = None,
) -> list[str]:
    """Returns warnings. The method's initial weights are a function of ``seed`` alone. Raises MethodRefused.

    ``labels`` are those of the training split; ``synchronised_by`` is the team whose batch norm counts together.
    """
    if method.needs_teacher and teacher is None:
        raise MethodRefused("this method imitates a teacher, and there is none.", remedy="Name a teacher.")
    from_a_file = isinstance(teacher, RecordedTeacher | Mixture)
    if from_a_file and method.mixes_images:
        message = "this method shows mixed images, and a file of logits knows the images as they are alone."
        raise MethodRefused(message, remedy="Turn mixup off, use another method, or a teacher that can be asked.")
    if from_a_file and method.strong_view:
        message = "this method shows a second, changed view, and a file of logits knows the images as they are alone."
        raise MethodRefused(message, remedy="Set views to 1, or use a teacher that can be asked.")
    points = dict(_capture(method, "teacher", network_of(teacher)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "method"))
        warnings = method.adapt(student, network_of(teacher))
        if synchronised_by is not None:  # before features are captured, since modules are exchanged
            student.body = synchronised_by.synchronise(student.body, labels.device)
        points |= _capture(method, "student", student)
        warnings += method.prepare(Setting(classes=_classes(student), labels=labels, points=points))
    if synchronised_by is not None:
        synchronised_by.synchronise(method, labels.device)
    method.to(labels.device)
    return warnings


def _capture(
    method: Method, whose: Literal["student", "teacher"], network: Network | None
) -> Mapping[Tap, Mapping[str, Shape]]:
    """Resolve the method's taps on one network, and capture exactly those points."""
    taps = [tap for tap in method.taps if tap.network == whose]
    if network is None:
        if taps:
            message = (
                f"the {whose} is a black box, a file or an ensemble: it gives logits alone, and this method reads "
                "features."
            )
            raise MethodRefused(message, remedy="Use a method on logits, such as kd or dkd, or a single network.")
        return {}
    named = {tap: tap.points or network.points.of(tap.kind) for tap in taps}
    for tap, points in named.items():
        if not points:
            message = f"the {whose} has no {tap.kind} that could be found from its modules."
            raise MethodRefused(message, remedy=f"Name them with {whose}_points.")
    every = tuple(dict.fromkeys(point for points in named.values() for point in points))
    shapes = network.capture_points(every, whose=whose)
    return {tap: {point: shapes[point] for point in points} for tap, points in named.items()}


def _classes(network: Network) -> int:
    """Counted on the meta device."""
    shadow = copy.deepcopy(network.body).to("meta").eval()
    with torch.no_grad():
        return int(shadow(torch.empty(2, *network.preprocessing.shape, device="meta")).shape[1])
