"""Every fail-point once: a job whose worker or child dies exactly there ends with the same bytes."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.disturbance import SHORT, Reference, undisturbed
from tests.fleet import Fleet, end, fleet
from tests.harness import Remote
from worker.engine.failpoint import IN_CHILD, IN_WORKER, VARIABLE

POINTS = IN_WORKER + IN_CHILD
AT_ONCE = 3
SPEC: dict[str, Any] = {**SHORT, "name": "failpoint", "training": {**SHORT["training"], "epochs": 2}}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("failpoints")) as started:
        started.api()
        yield started


@pytest.fixture(scope="module")
def expected(running: Fleet) -> Reference:
    running.worker()
    return undisturbed(running.apis[0], SPEC)


def queue_of(point: str) -> str:
    return point.replace(".", "-")


def send(running: Fleet, point: str) -> tuple[str, subprocess.Popen[bytes]]:
    """A job of a queue of its own, and the worker that will die there, or whose child will."""
    job_id = running.apis[0].submit({**SPEC, "resources": {"queue": queue_of(point)}})
    armed = {VARIABLE: f"{point}:1:kill", "STILLHOUSE_QUEUES": queue_of(point)}
    return job_id, running.worker(**armed)


def child_was_killed(api: Remote, job_id: str) -> bool:
    attempts = api.get(f"/v1/jobs/{job_id}/attempts")["data"]
    return bool(attempts) and attempts[0]["exit"] == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, len(POINTS), AT_ONCE))
def test_a_death_at_any_fail_point_changes_no_byte(running: Fleet, expected: Reference, first: int) -> None:
    api = running.apis[0]
    batch = {point: send(running, point) for point in POINTS[first : first + AT_ONCE]}
    for point, (_, worker) in batch.items():
        if point in IN_WORKER:
            assert worker.wait(timeout=120) == -signal.SIGKILL, f"{point} was not reached"
            running.worker(STILLHOUSE_QUEUES=queue_of(point))
    for point, (job_id, _) in batch.items():
        api.wait(job_id)
        assert point in IN_WORKER or child_was_killed(api, job_id), f"{point} was not reached"
    for worker in running.workers:
        end(worker)  # so that what the next test measures itself against is not busy looking
    for point, (job_id, _) in batch.items():
        assert expected.differences(api, job_id, scratch=running.data_dir / "scratch") == [], point
