"""One training: what it needs, and everything in it that changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from worker.engine.compiled import Compiled
from worker.engine.data import ImageSet
from worker.engine.errors import Diverged, NonFiniteLoss
from worker.engine.method import Batch, Method, Outputs
from worker.engine.mixture import Mixture
from worker.engine.network import Network
from worker.engine.optim import Schedule, build_optimizer
from worker.engine.precision import Precision
from worker.engine.prepare import prepare
from worker.engine.recorded import RecordedTeacher
from worker.engine.teacher import TeacherSource
from worker.engine.team import Team
from worker.engine.views import Views

_BEYOND = 1000.0
"""Times the first loss: no schedule, warm-up of a method or change of weights comes near it."""


@dataclass(frozen=True)
class Recipe:
    """The budget and how it is spent."""

    epochs: int
    batch_size: int
    optimizer: Mapping[str, Any]
    schedule: Schedule
    augmentation: str
    precision: Precision
    seed: int
    log_every: int = 20
    """Steps between two reads of the metrics from the device."""
    sync_batchnorm: bool = False
    """Whether the batch norm of a team counts over all its ranks."""
    compile: bool = False
    """Whether the student's passes are compiled."""


class Run:
    """A training that can be saved between any two steps. Iterate it with ``distill``.

    Making it makes the method ready: MethodRefused says why a method cannot work with these networks or this data.
    """

    def __init__(
        self,
        *,
        student: Network,
        method: Method,
        teacher: TeacherSource | None,
        train: ImageSet,
        validation: ImageSet | None,
        recipe: Recipe,
        team: Team | None = None,
    ) -> None:
        self.student = student
        self.method = method
        self.alive: Callable[[], None] | None = None
        """Called now and then while an event takes long to come."""
        self.teacher = teacher
        self.train = train
        self.views = Views(train, recipe.augmentation)
        self.validation = validation
        self.recipe = recipe
        self.team = team or Team()
        self.warnings = prepare(
            method,
            student=student,
            teacher=teacher,
            labels=train.labels,
            seed=recipe.seed,
            synchronised_by=self.team if recipe.sync_batchnorm else None,
        )
        if isinstance(teacher, RecordedTeacher | Mixture) and recipe.augmentation != "none":
            self.warnings.append(
                f"the file of logits was computed on images as they are, and the student sees {recipe.augmentation} of "
                "them: the teacher is not asked about the same view"
            )
        self.device = train.labels.device
        self.forward = Compiled(student, self.device) if recipe.compile else student
        """What a step calls; the student's weights and statistics are the same."""
        self.parameters = [*student.parameters(), *method.parameters()]
        self.optimizer = build_optimizer(self.parameters, recipe.optimizer)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision.scales_gradients)
        self.steps = len(train) // recipe.batch_size + (len(train) % recipe.batch_size > 1)
        """Of an epoch. A last batch of one sample is left out: batch norm cannot train on it."""
        self.epoch = 1
        self.step = 0
        """Steps done in this epoch."""
        self.terms: tuple[str, ...] = ()
        self.sums = torch.zeros(0, dtype=torch.float64, device=self.device)
        """Of this epoch, on the device: each term and the loss times images, the correct answers, the images."""
        self._one, self._counts = torch.ones((), device=self.device), dict[int, Tensor]()
        self.read: list[float] = []
        """The sums as last read."""
        self.history: list[dict[str, float]] = []
        self.first_loss: float | None = None
        """Before the first step."""
        self.best_epoch: int | None = None
        self.best_top1 = -1.0
        self.best_state: dict[str, Tensor] = {}
        self.canaries: list[str] = []
        self.table_found: str | None = None
        """What the guard of the teacher's table found; see ``canaries.check_rows``."""
        self.first_method = {name: value.detach().clone() for name, value in method.named_parameters()}

    @property
    def global_step(self) -> int:
        """Steps done since the start."""
        return (self.epoch - 1) * self.steps + self.step

    def outputs(self, images: Tensor, batch: Batch, strong: Tensor | None) -> tuple[Outputs, Outputs | None]:
        """What student and teacher give for the images of a batch and, where there is one, for its strong view."""
        if isinstance(self.forward, Compiled):
            self.forward.begin_step()
        student, teacher = self._outputs(images, batch)
        if strong is None:
            return student, teacher
        ours, theirs = self._outputs(strong, replace(batch, rows=None))
        return replace(student, strong=ours), teacher and replace(teacher, strong=theirs)

    def _outputs(self, images: Tensor, batch: Batch) -> tuple[Outputs, Outputs | None]:
        with self.recipe.precision.autocast(self.device):
            student = self.forward(images)
        return student, None if self.teacher is None else self.teacher.outputs(images, batch)

    def figures(self, terms: Mapping[str, Tensor], loss: Tensor, correct: Tensor, images: int) -> Tensor:
        """One step's share of the sums, without reading it."""
        if not self.terms:
            self.terms = tuple(terms)
        if not len(self.sums):
            self.sums = torch.zeros(len(terms) + 3, dtype=torch.float64, device=self.device)
            self.read = [0.0] * len(self.sums)
        if images not in self._counts:  # of an epoch's batches and of its last one
            counts = [images] * (len(terms) + 1) + [1, images]
            self._counts[images] = torch.tensor(counts, dtype=torch.float32, device=self.device)
        return torch.stack([*terms.values(), loss, correct, self._one]).detach() * self._counts[images]

    def window(self) -> tuple[dict[str, float], float]:
        """The means since the last call, and over how many images. Reads from the device: not for every step."""
        sums = self.checked_sums()
        since = [now - before for now, before in zip(sums, self.read, strict=True)]
        self.read = sums
        return self._means(since), since[-1]

    def epoch_means(self) -> dict[str, float]:
        """The means of the epoch so far. Raises Diverged when the loss is a thousand times what it was at first."""
        means = self._means(self.checked_sums())
        if self.first_loss is not None and means["train/loss"] > _BEYOND * max(self.first_loss, 1.0):
            message = (
                f"the loss was {self.first_loss:.3g} at first and is {means['train/loss']:.3g} in epoch {self.epoch}."
            )
            raise Diverged(message, remedy="Lower the learning rate, or the method's weights.")
        return means

    def checked_sums(self) -> list[float]:
        """The sums on the host. A loss that was not finite shows in them for the rest of the epoch: NonFiniteLoss."""
        sums: list[float] = self.sums.tolist()
        if not bool(torch.isfinite(self.sums).all()):
            bad = [name for name, value in zip(self.terms, sums, strict=False) if value - value != 0]
            message = (
                f"the loss stopped being finite in epoch {self.epoch} by step {self.step} (terms: {', '.join(bad)})."
            )
            raise NonFiniteLoss(message, remedy="Lower the learning rate, or use precision fp32.")
        return sums

    def start_epoch(self) -> None:
        """Move on to the next epoch."""
        self.epoch, self.step = self.epoch + 1, 0
        self.sums.zero_()
        self.read = [0.0] * len(self.sums)

    def _means(self, sums: list[float]) -> dict[str, float]:
        *weighed, correct, images = sums
        names = [*(f"train/{name}" for name in self.terms), "train/loss"]
        means = {name: value / max(images, 1) for name, value in zip(names, weighed, strict=True)}
        return {**means, "train/top1": correct / max(images, 1)}

    def result_state(self) -> dict[str, Tensor]:
        """The weights to serve: of the best epoch on the validation split, else of the last epoch."""
        return self.best_state if self.validation is not None else self.student.body.state_dict()

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes, and never the teacher. Raises NonFiniteLoss rather than keep a broken state."""
        self.checked_sums()
        return {
            "student": self.student.body.state_dict(),
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "position": {"epoch": self.epoch, "step": self.step},
            "sums": {"terms": list(self.terms), "device": self.sums, "read": self.read},
            "best": {"epoch": self.best_epoch, "top1": self.best_top1, "state": self.best_state},
            "first_loss": self.first_loss,
            "history": self.history,
            "canaries": self.canaries,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``."""
        self.student.body.load_state_dict(state["student"])
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step = state["position"]["epoch"], state["position"]["step"]
        self.terms = tuple(state["sums"]["terms"])
        self.sums = state["sums"]["device"].to(self.device)
        self.read = list(state["sums"]["read"])
        best = state["best"]
        self.best_epoch, self.best_top1, self.best_state = best["epoch"], best["top1"], dict(best["state"])
        self.first_loss = state["first_loss"]
        self.history = list(state["history"])
        self.canaries = list(state["canaries"])
