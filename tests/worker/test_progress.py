"""How far a job is: phases weigh what they cost, so that the time that is left is not guessed far off."""

from __future__ import annotations

from typing import Any

import pytest

from stillhouse.spec import JobSpec
from stillhouse.spec.catalog import Footprint
from stillhouse.spec.footprints import Traced
from tests.worker.test_methods_in_jobs import FLAT, POOLED, digits, job  # noqa: F401  # a fixture
from worker import progress
from worker.engine.data import Dataset
from worker.engine.events import Progress
from worker.progress import Tracker

FLAT_FLOPS = 2 * 64 * 10
POOLED_FLOPS = 2 * (4 * 4 * 8 * 9 + 8 * 10)


def work(spec: JobSpec, dataset: Dataset) -> dict[str, float]:
    """Of each phase, for one image."""
    return {name: done / len(dataset.train) for name, done in Tracker(spec, dataset)._work.items()}


def test_a_phase_weighs_its_passes_and_its_teachers(digits: Dataset) -> None:  # noqa: F811
    assert work(job(), digits) == {
        "teacher-0": 4 * 3 * FLAT_FLOPS,
        "teacher-1": 8 * 3 * POOLED_FLOPS,
        "student-0": 4 * (3 * POOLED_FLOPS + FLAT_FLOPS + POOLED_FLOPS),
        "control-0": 4 * 3 * POOLED_FLOPS,
    }


def test_a_generation_is_taught_by_a_student(digits: Dataset) -> None:  # noqa: F811
    spec = job(teacher={"layers": FLAT}, training={"epochs": 3, "generations": 2}, control=False)
    found = work(spec, digits)
    assert found["generation-1-0"] == 3 * (3 * POOLED_FLOPS + FLAT_FLOPS)
    assert found["student-0"] == 3 * (3 * POOLED_FLOPS + POOLED_FLOPS)


def test_a_file_of_logits_costs_nothing_to_ask(digits: Dataset) -> None:  # noqa: F811
    found = work(job(teacher={"architecture": "logits", "weights": "mdl_1"}), digits)
    assert found == {"student-0": 4 * 3 * POOLED_FLOPS, "control-0": 4 * 3 * POOLED_FLOPS}


def test_where_a_cost_is_not_known_images_weigh_the_same(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    def unknown(network: Any, **_: object) -> Traced:
        told = network.layers == job().student.layers  # type: ignore[union-attr]
        return Traced(Footprint(parameters=None, flops=POOLED_FLOPS if told else None))

    monkeypatch.setattr(progress, "footprint", unknown)
    assert work(job(), digits) == {"teacher-0": 4, "teacher-1": 8, "student-0": 4, "control-0": 4}


def test_fraction_and_time_left_go_by_the_work(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    moment = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: moment)
    tracker = Tracker(job(), digits)
    whole = sum(tracker._work.values())

    def advanced(phase: str, epoch: int, epochs: int) -> dict[str, Any]:
        event = Progress(
            epoch=epoch, epochs=epochs, step=10, steps=10, global_step=10 * epoch, metrics={}, images_per_second=1.0
        )
        return tracker.advance(phase, event)

    tracker.finish("teacher-0")
    assert advanced("teacher-1", 2, 8)["eta_seconds"] is None
    moment = 10.0
    shown = advanced("teacher-1", 4, 8)
    done = tracker._work["teacher-0"] + tracker._work["teacher-1"] / 2
    assert shown["fraction"] == pytest.approx(done / whole)
    assert shown["eta_seconds"] == pytest.approx(10 * (whole - done) / (tracker._work["teacher-1"] / 4))
