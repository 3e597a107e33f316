"""How far a job is over all its phases, weighed by what each costs."""

from __future__ import annotations

import time
from typing import Any

from stillhouse.spec import JobSpec
from worker.engine.data import Dataset
from worker.engine.events import Progress
from worker.phases import budget_of, phases


class Tracker:
    """Fraction and remaining time. A phase weighs its epochs times the images of its training split."""

    def __init__(self, spec: JobSpec, dataset: Dataset) -> None:
        images = len(dataset.train)
        self._work: dict[str, float] = {}
        for phase in phases(spec):
            self._work[phase.name] = float(images * budget_of(spec, phase).epochs)
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
