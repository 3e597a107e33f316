"""How far a job is: phases weigh what they cost, so that the time that is left is not guessed far off."""

from __future__ import annotations

from math import ceil
from typing import Any

import pytest

from stillhouse.spec import JobSpec
from stillhouse.spec.catalog import Footprint
from stillhouse.spec.footprints import Traced
from tests.worker.test_methods_in_jobs import FLAT, POOLED, digits, job  # noqa: F401  # a fixture
from worker import progress
from worker.engine.data import Dataset
from worker.engine.events import Progress
from worker.phases import budget_of, phases
from worker.progress import STEP, Tracker

FLAT_FLOPS = 2 * 64 * 10
POOLED_FLOPS = 2 * (4 * 4 * 8 * 9 + 8 * 10)


def work(spec: JobSpec, dataset: Dataset) -> dict[str, float]:
    """Of each phase, for one image, but for what every step costs."""
    images, found = len(dataset.train), Tracker(spec, dataset)._work
    steps = {phase.name: budget_of(spec, phase) for phase in phases(spec)}
    fixed = {name: budget.epochs * ceil(images / budget.batch_size) * STEP for name, budget in steps.items()}
    return {name: pytest.approx((done - fixed[name]) / images, rel=1e-6) for name, done in found.items()}


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
    found = {name: done / len(digits.train) for name, done in Tracker(job(), digits)._work.items()}
    assert found == {"teacher-0": 4, "teacher-1": 8, "student-0": 4, "control-0": 4}


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


def test_a_small_students_steps_count_and_the_time_left_goes_by_what_its_own_kind_took(
    digits: Dataset,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A teacher of many FLOPs, and a student whose steps take a third of the teacher's time."""
    moment = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: moment)
    spec = job(teacher={"architecture": "resnet20"}, training={"epochs": 4, "seeds": 2})
    tracker = Tracker(spec, digits)
    shares = {name: done / sum(tracker._work.values()) for name, done in tracker._work.items()}
    assert shares["control-0"] > 0.02

    def at(phase: str, step: int) -> dict[str, Any]:
        return tracker.advance(
            phase,
            Progress(epoch=1, epochs=1, step=step, steps=10, global_step=step, metrics={}, images_per_second=1.0),
        )

    shown: dict[str, Any] = {}
    for phase, seconds in (("teacher", 30), ("student-0", 10), ("control-0", 5), ("student-1", 10), ("control-1", 5)):
        for step in range(11):
            moment += seconds / 10 if step else 0
            shown = at(phase, step)
        tracker.finish(phase)
        if phase == "control-0":
            assert shown["eta_seconds"] == pytest.approx(15)
        if phase == "student-1":
            assert shown["eta_seconds"] == pytest.approx(5)
    assert (shown["fraction"], shown["eta_seconds"]) == (pytest.approx(1), pytest.approx(0))
