"""SimKD: Chen et al., "Knowledge Distillation with the Reused Teacher Classifier" (CVPR 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worker.engine.errors import MethodRefused
from worker.engine.losses import same_size
from worker.engine.method import Batch, FeatureMethod, Host, Outputs
from worker.engine.points import Capture, shapes_of


class ReusedClassifier(FeatureMethod):
    """The student's last maps, through a projector, imitate the teacher's, and the teacher's own classifier reads them.

    The projector and a frozen copy of the classifier become part of the student: what is evaluated and served is the
    larger network. It works where both networks average their last maps and hand them to one linear layer.
    """

    kind = "last"

    def __init__(
        self,
        *,
        weight_ce: float = 0.0,
        weight_feature: float = 1.0,
        reduction: int = 2,
        student_points: Sequence[str] | None = None,
        teacher_points: Sequence[str] | None = None,
    ) -> None:
        super().__init__(student_points=student_points, teacher_points=teacher_points)
        self.weight_ce = weight_ce
        self.weight_feature = weight_feature
        self.reduction = reduction

    def adapt(self, student: Host, teacher: Host | None) -> list[str]:
        assert teacher is not None
        if student.additions:
            message = "the student's weights are those of a simkd student, which has a teacher's classifier already."
            raise MethodRefused(message, remedy="Start the student from other weights or none, or choose kd.")
        ours, theirs = (
            _Head(network, tap.points or network.points.of("last"), whose=tap.network)
            for network, tap in zip((student, teacher), self.taps, strict=True)
        )
        if ours.classes != theirs.classes:
            message = f"the teacher tells {theirs.classes} classes apart, the student's data has {ours.classes}."
            raise MethodRefused(message, remedy="Use a teacher of the same classes.")
        before = sum(parameter.numel() for parameter in student.body.parameters())
        student.additions = {
            "after": ours.point,
            "classifier": ours.classifier,
            "channels": [ours.channels, max(theirs.channels // self.reduction, 1), theirs.channels],
        }
        reshape(student.body, classes=theirs.classes, **student.additions)
        own: nn.Linear = student.body.get_submodule(ours.classifier)  # type: ignore[assignment]
        own.load_state_dict(teacher.body.get_submodule(theirs.classifier).state_dict())
        own.requires_grad_(requires_grad=False)
        after = sum(parameter.numel() for parameter in student.body.parameters())
        return [f"simkd serves a larger student: {after:,} parameters with projector and classifier, not {before:,}"]

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        distances = [F.mse_loss(*same_size(*pair)) for pair in self.features(student, teacher)]
        return {"feature": self.weight_feature * torch.stack(distances).sum(), **self.supervised(student, batch)}


def reshape(body: nn.Module, *, after: str, classifier: str, channels: Sequence[int], classes: int) -> None:
    """Put a projector after the module ``after``, and a classifier of its width in the place of ``classifier``.

    ``student.json`` keeps these under ``additions``, so that the served student can be built again.
    """
    inner, middle, outer = channels
    projector = nn.Sequential(
        *(nn.Conv2d(inner, middle, 1, bias=False), nn.BatchNorm2d(middle), nn.ReLU()),
        *(nn.Conv2d(middle, middle, 3, padding=1, bias=False), nn.BatchNorm2d(middle), nn.ReLU()),
        *(nn.Conv2d(middle, outer, 1, bias=False), nn.BatchNorm2d(outer), nn.ReLU()),
    )
    body.set_submodule(after, nn.Sequential(body.get_submodule(after), projector))
    body.set_submodule(classifier, nn.Linear(outer, classes))
    device = next(body.parameters()).device
    body.to(device)


class _Head:
    """The end of a network: its last maps, averaged, and one linear layer. Raises MethodRefused where it is another."""

    def __init__(self, network: Host, points: Sequence[str], *, whose: str) -> None:
        embedding = network.points.embedding
        if len(points) != 1 or embedding is None or points[0].endswith(":input"):
            self._refuse(whose)
        self.point, self.classifier = points[0], embedding.removesuffix(":input")
        shapes_of(network.body, points, network.input_shape, whose=whose)
        linear = network.body.get_submodule(self.classifier)
        before = f"{self.classifier}:input"
        capture, was_training = Capture(network.body, (self.point, before)), network.body.training
        network.body.eval()
        with capture.record() as values, torch.no_grad():
            network.body(torch.rand(2, *network.input_shape, device=next(network.body.parameters()).device))
        capture.remove()
        network.body.train(was_training)
        maps, vectors = values[self.point], values[before]
        averaged = (
            maps.ndim == 4
            and maps.shape[:2] == vectors.shape
            and torch.allclose(maps.mean(dim=(2, 3)), vectors, rtol=1e-3, atol=1e-5)
        )
        if not isinstance(linear, nn.Linear) or linear.bias is None or not averaged:
            self._refuse(whose)
        self.channels, self.classes = maps.shape[1], int(linear.out_features)

    def _refuse(self, whose: str) -> NoReturn:
        raise MethodRefused(
            f"the {whose} does not average its last maps and hand them to one linear layer, so no classifier "
            "can be reused.",
            remedy="Name the module that gives those maps with student_points or teacher_points, or choose kd.",
        )
