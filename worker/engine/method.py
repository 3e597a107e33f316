"""What a method is: a module whose forward returns the named terms of the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from torch import Tensor, nn

from worker.engine.errors import MethodRefused
from worker.engine.losses import cross_entropy, wide
from worker.engine.points import FeaturePoints, Kind, Shape


@dataclass(frozen=True)
class Outputs:
    """What a network gives for a batch."""

    logits: Tensor
    """[B, classes], raw scores."""
    features: Mapping[str, Tensor] = field(default_factory=dict)
    """By feature point: maps [B, C, H, W] or vectors [B, D]."""
    strong: Outputs | None = None
    """The same of another view of the batch, where the method asks for one."""


@dataclass(frozen=True)
class Batch:
    """Which samples a step trains on."""

    labels: Tensor
    """int64 [B]."""
    samples: Tensor
    """Their places in the training split: int64 [B], each once."""
    epoch: int
    """Counted from 1."""
    seed: int
    rows: Tensor | None = None
    """Which of ``Views`` teacher and student see: int64 [B] on the host; None where they see something else."""
    ahead: Tensor | None = None
    """The rows of the epoch's steps to come."""


@dataclass(frozen=True)
class Tap:
    """Feature points that a method reads of one of the networks."""

    network: Literal["student", "teacher"]
    kind: Kind
    """Which of the architecture's points, where none are named."""
    points: tuple[str, ...] = ()
    """Module paths that the person named."""


@dataclass(frozen=True)
class Setting:
    """What a method is made for: known before the first step, and all that its parameters' shapes depend on."""

    classes: int
    labels: Tensor
    """Of the training split: int64 [N]."""
    points: Mapping[Tap, Mapping[str, Shape]]
    """For each of the method's taps, the shapes of its points in order."""


class Host(Protocol):
    """A network as a method may change it; ``worker.engine.network.Network`` is one."""

    body: nn.Module
    additions: dict[str, Any]
    """What a method put into the body beyond its architecture: enough to do it again."""

    @property
    def points(self) -> FeaturePoints:
        """Where features are read by default."""

    @property
    def input_shape(self) -> Shape:
        """Channels, height and width of an image."""


class Method(nn.Module):
    """What the student imitates. Its own parameters, if any, are trained along.

    The terms are already weighted; their sum is the loss.
    """

    needs_teacher: bool = True
    mixes_images: bool = False
    """Whether ``view`` shows something else than the images of the batch."""
    strong_view: bool = False
    """Whether teacher and student see a second view of each image, changed strongly: ``Outputs.strong``."""
    relational: bool = False
    """Whether a term sets samples of a batch against each other, or the method remembers them: such a method is always
    shown the whole batch, wherever it was computed. Terms of others are means over samples, each by itself."""
    taps: tuple[Tap, ...] = ()
    weight_ce: float = 0.0

    def adapt(self, student: Host, teacher: Host | None) -> list[str]:
        """Change what the student is, before anything else is made. Returns warnings; raises MethodRefused."""
        return []

    def prepare(self, setting: Setting) -> list[str]:
        """Make the parameters, from torch's generator. Returns warnings; raises MethodRefused with the reason."""
        return []

    def view(self, images: Tensor, batch: Batch) -> Tensor:
        """What teacher and student both see of float images [B, C, H, W]: a function of (seed, epoch, samples)."""
        return images

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """Scalar terms by name."""
        raise NotImplementedError

    def supervised(self, student: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The cross-entropy with the labels, where it has a weight."""
        if self.weight_ce == 0:
            return {}
        return {"ce": self.weight_ce * cross_entropy(student.logits, batch.labels)}


class FeatureMethod(Method):
    """Compares feature points of student and teacher in pairs: as many as are named, else the last that both have."""

    kind: ClassVar[Kind]
    teacher_kind: ClassVar[Kind | None] = None
    """Where the teacher's differs."""
    needs_maps: ClassVar[bool] = True

    def __init__(self, *, student_points: Sequence[str] | None, teacher_points: Sequence[str] | None) -> None:
        super().__init__()
        self.taps = (
            Tap("student", self.kind, tuple(student_points or ())),
            Tap("teacher", self.teacher_kind or self.kind, tuple(teacher_points or ())),
        )
        self.pairs: list[tuple[str, str]] = []

    def prepare(self, setting: Setting) -> list[str]:
        """Pair the points and make what lies between them."""
        ours, theirs = (setting.points[tap] for tap in self.taps[:2])
        for name, shape in [*ours.items(), *theirs.items()]:
            if self.needs_maps and len(shape) != 3:
                message = f"the feature point {name!r} gives {_say(shape)}, and this method compares maps."
                raise MethodRefused(message, remedy="Name a convolutional layer's module, or choose rkd, pkt or crd.")
        if any(tap.points for tap in self.taps[:2]) and len(ours) != len(theirs):
            message = f"{len(ours)} points of the student cannot be paired with {len(theirs)} of the teacher."
            remedy = "Name as many of the one as of the other, with student_points and teacher_points."
            raise MethodRefused(message, remedy=remedy)
        count = min(len(ours), len(theirs))
        self.pairs = list(zip(list(ours)[-count:], list(theirs)[-count:], strict=True))
        for index, (name, other) in enumerate(self.pairs):
            if len(ours[name]) != len(theirs[other]):
                message = f"{name!r} gives {_say(ours[name])} and {other!r} {_say(theirs[other])}: no pair."
                raise MethodRefused(message, remedy="Name points of the same kind with student_points, teacher_points.")
            self.connect(index, ours[name], theirs[other])
        return []

    def connect(self, index: int, ours: Shape, theirs: Shape) -> None:
        """Make the parameters between the points of pair ``index``, if the method has any."""

    def features(self, student: Outputs, teacher: Outputs | None) -> list[tuple[Tensor, Tensor]]:
        """Each pair of points, in fp32, the teacher's without gradient."""
        assert teacher is not None
        return [(wide(student.features[ours]), wide(teacher.features[theirs].detach())) for ours, theirs in self.pairs]


def _say(shape: Shape) -> str:
    return f"a vector of {shape[0]}" if len(shape) == 1 else f"values of shape {'x'.join(map(str, shape))}"


def several(batch: Batch, name: str) -> None:
    """Refuse a batch of one sample, for a method that relates samples to each other."""
    if len(batch.labels) < 2:
        message = f"{name} relates the samples of a batch to each other, and there is only one."
        raise MethodRefused(message, remedy="Use batches of two or more.")


def check_standardised(setting: Setting) -> list[str]:
    """Whether logit standardisation leaves anything to learn from. Returns warnings; raises MethodRefused."""
    if setting.classes == 2:
        raise MethodRefused(
            "two standardised logits are always +0.71 and -0.71, whatever the teacher thinks: nothing to learn from.",
            remedy="Turn standardise off.",
        )
    if setting.classes <= 20:
        warning = (
            f"with {setting.classes} classes standardised targets are soft whatever the teacher thinks; "
            "a temperature near 1, or standardise off, may teach more"
        )
        return [warning]
    return []
