"""How far a job is over all its phases, weighed by what each costs."""

from __future__ import annotations

import time
from math import ceil
from typing import Any

from stillhouse.spec import JobSpec
from stillhouse.spec.catalog import Shape
from stillhouse.spec.footprints import footprint
from stillhouse.spec.networks import Network
from worker.engine.data import Dataset
from worker.engine.events import Progress
from worker.phases import IMITATING, Phase, budget_of, phases

_BACK_AND_FORTH = 3
"""Passes that a network's training counts for: forward, and about twice as much backward."""
STEP = 2e8
"""FLOPs that a core of a CPU would have done in the 2 to 3 ms that any step takes, however small its network."""


class Tracker:
    """Fraction and remaining time. A phase weighs what its images cost in all epochs, and its steps beside that.

    Where the catalog does not know what a network costs, every image weighs the same. The remaining time goes by how
    long the work of each kind of phase has taken so far in this process.
    """

    def __init__(self, spec: JobSpec, dataset: Dataset) -> None:
        channels, height, width = dataset.train.images.shape[1:]
        costs = _Costs(spec, (channels, height, width), len(dataset.classes))
        planned = phases(spec)
        known = {phase.name: costs.of_image(phase) for phase in planned}
        self._work: dict[str, float] = {}
        for phase in planned:
            budget, images = budget_of(spec, phase), len(dataset.train)
            epoch = float(images)
            if None not in known.values():
                epoch = images * (known[phase.name] or 1) + ceil(images / budget.batch_size) * STEP
            self._work[phase.name] = budget.epochs * epoch
        self._kinds = {phase.name: phase.kind for phase in planned}
        self._done = dict.fromkeys(self._work, 0.0)
        self._took: dict[str, tuple[float, float]] = {}
        """Of each phase that was seen twice: seconds, and the work that was done in them."""
        self._seen: set[str] = set()
        self._last = 0.0

    def finish(self, phase: str) -> None:
        """A phase is over, now or in an earlier attempt."""
        self._done[phase] = self._work[phase]

    def advance(self, phase: str, event: Progress) -> dict[str, Any]:
        """What a client is shown of this moment."""
        within = (event.epoch - 1 + event.step / event.steps) / event.epochs
        done, moment = self._work[phase] * min(within, 1.0), time.monotonic()
        if phase in self._seen:  # what is seen first may have been done by an earlier attempt
            seconds, work = self._took.get(phase, (0.0, 0.0))
            self._took[phase] = seconds + moment - self._last, work + done - self._done[phase]
        self._seen.add(phase)
        self._done[phase], self._last = done, moment
        return {
            "fraction": sum(self._done.values()) / sum(self._work.values()),
            "epoch": event.epoch,
            "epochs": event.epochs,
            "step": event.step,
            "steps": event.steps,
            "images_per_second": event.images_per_second,
            "eta_seconds": self._remaining(phase),
            "metrics": dict(event.metrics),
        }

    def _remaining(self, now: str) -> float | None:
        """Seconds; each phase at its own pace or that of its kind, else at that of the phase that is trained now."""
        current = self._pace([now]) or self._pace(list(self._took))
        if current is None:
            return None
        total = 0.0
        for phase, work in self._work.items():
            alike = [other for other in self._took if self._kinds[other] == self._kinds[phase]]
            total += (work - self._done[phase]) * (self._pace([phase]) or self._pace(alike) or current)
        return total

    def _pace(self, of: list[str]) -> float | None:
        """Seconds for each unit of work; None where none was done."""
        took = [self._took[phase] for phase in of if phase in self._took]
        work = sum(done for _, done in took)
        return sum(seconds for seconds, _ in took) / work if work > 0 else None


class _Costs:
    """What an image costs, in FLOPs, by the figures of the catalog."""

    def __init__(self, spec: JobSpec, shape: Shape, classes: int) -> None:
        self._spec = spec
        self._shape = shape
        self._classes = classes

    def of_image(self, phase: Phase) -> int | None:
        """In a phase: to train its network, and to ask its teacher. None where the network's figures are not known.

        A teacher that is a file costs nothing, or nobody knows what.
        """
        trained = self._forward(self._spec.teachers[phase.index] if phase.kind == "teacher" else self._spec.student)
        if trained is None:
            return None
        if phase.kind not in IMITATING:
            return _BACK_AND_FORTH * trained
        if phase.taught_by is not None:
            return _BACK_AND_FORTH * trained + trained
        return _BACK_AND_FORTH * trained + sum(self._forward(teacher) or 0 for teacher in self._spec.teachers)

    def _forward(self, network: Network) -> int | None:
        found = footprint(network, shape=self._shape, classes=self._classes).footprint
        return None if found is None else found.flops
