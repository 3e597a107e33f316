"""How far a job is over all its phases, weighed by what each costs."""

from __future__ import annotations

import time
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


class Tracker:
    """Fraction and remaining time. A phase weighs its epochs times the images of its training split times their cost.

    Where the catalog does not know what a network costs, every image weighs the same.
    """

    def __init__(self, spec: JobSpec, dataset: Dataset) -> None:
        channels, height, width = dataset.train.images.shape[1:]
        costs = _Costs(spec, (channels, height, width), len(dataset.classes))
        planned = phases(spec)
        known = {phase.name: costs.of_image(phase) for phase in planned}
        self._work: dict[str, float] = {}
        for phase in planned:
            cost = 1 if None in known.values() else known[phase.name] or 1
            self._work[phase.name] = float(len(dataset.train) * budget_of(spec, phase).epochs * cost)
        self._done = dict.fromkeys(self._work, 0.0)
        self._began: tuple[float, float] | None = None

    def finish(self, phase: str) -> None:
        """A phase is over, now or in an earlier attempt."""
        self._done[phase] = self._work[phase]

    def advance(self, phase: str, event: Progress) -> dict[str, Any]:
        """What a client is shown of this moment."""
        within = (event.epoch - 1 + event.step / event.steps) / event.epochs
        self._done[phase] = self._work[phase] * min(within, 1.0)
        total, done = sum(self._work.values()), sum(self._done.values())
        moment = time.monotonic()
        began, before = self._began or (moment, done)
        self._began = (began, before)
        elapsed, gained = moment - began, done - before
        return {
            "fraction": done / total,
            "epoch": event.epoch,
            "epochs": event.epochs,
            "step": event.step,
            "steps": event.steps,
            "images_per_second": event.images_per_second,
            "eta_seconds": elapsed * (total - done) / gained if gained > 0 else None,
            "metrics": dict(event.metrics),
        }


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
