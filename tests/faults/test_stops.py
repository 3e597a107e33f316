"""Stops that are not kills: a drain, a pause, a cancel, a worker that was thought dead, a job that kills its child."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.disturbance import SPEC, Reference, undisturbed
from tests.faults.invariants import check
from tests.harness import Service, alive, eventually, kill, service


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("stops") / "data") as started:
        yield started


@pytest.fixture(scope="module")
def expected(running: Service) -> Reference:
    return undisturbed(running)


def training(running: Service, spec: dict[str, object] = SPEC) -> str:
    """A job that has stored a checkpoint and trains on."""
    job_id = running.submit(spec)
    eventually(lambda: running.get(f"/v1/jobs/{job_id}/checkpoints")["data"], what="a checkpoint")
    return job_id


@pytest.mark.slow
def test_a_service_that_is_stopped_in_mid_training_goes_on_where_it_was(running: Service, expected: Reference) -> None:
    job_id = training(running)
    running.stop()
    running.start()
    assert running.wait(job_id)["status"] == "succeeded"
    first, second = running.get(f"/v1/jobs/{job_id}/attempts")["data"]
    assert (first["reason"], first["exit"]) == ("drained", 75)
    assert second["resumed_from"] is not None
    assert expected.differences(running, job_id, scratch=running.data_dir / "scratch") == []


def test_a_paused_job_ends_with_the_same_bytes_once_resumed(running: Service, expected: Reference) -> None:
    job_id = training(running)
    assert running.http.post(f"/v1/jobs/{job_id}/pause").status_code == 202
    eventually(lambda: running.job(job_id)["status"] == "paused", what="the job to pause")
    assert running.child(job_id) is None
    assert running.http.post(f"/v1/jobs/{job_id}/resume").status_code == 202
    assert running.wait(job_id)["status"] == "succeeded"
    assert expected.differences(running, job_id, scratch=running.data_dir / "scratch") == []


def test_a_cancelled_job_frees_its_worker_and_publishes_nothing(running: Service) -> None:
    job_id = training(running)
    child = running.child(job_id)
    assert running.http.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
    assert running.wait(job_id)["status_reason"] == "user_cancelled"
    assert child is not None
    assert not alive(child)
    assert check(running, job_id) == []


@pytest.mark.slow
def test_a_worker_that_was_thought_dead_writes_nothing_more(running: Service, expected: Reference) -> None:
    """SIGSTOP for longer than the lease, then SIGCONT: the zombie is refused, the job goes on from its checkpoint."""
    job_id = training(running)
    worker = running.pids()["worker"]
    os.kill(worker, signal.SIGSTOP)
    eventually(lambda: running.job(job_id)["status"] == "queued", what="the lease to run out")
    zombies = running.child(job_id)
    os.kill(worker, signal.SIGCONT)
    assert zombies is None
    assert running.wait(job_id)["status"] == "succeeded"
    first, second = running.get(f"/v1/jobs/{job_id}/attempts")["data"]
    assert first["reason"] == "worker_lost"
    assert second["n"] == 2
    assert expected.differences(running, job_id, scratch=running.data_dir / "scratch") == []


def test_a_job_that_runs_for_too_long_is_ended(running: Service) -> None:
    job_id = running.submit(
        {**SPEC, "training": {**SPEC["training"], "epochs": 100_000}, "resources": {"max_runtime": "5s"}}
    )
    job = running.wait(job_id)
    assert (job["status"], job["status_reason"]) == ("failed", "max_runtime")
    assert check(running, job_id) == []


@pytest.mark.slow
def test_a_job_that_loses_three_children_without_a_checkpoint_is_poison(tmp_path: Path) -> None:
    with service(tmp_path / "data", STILLHOUSE_CHECKPOINT_SECONDS="3600") as running:
        job_id = running.submit({**SPEC, "training": {**SPEC["training"], "epochs": 100_000}})
        killed: set[int] = set()
        while not running.job(job_id)["terminal"]:
            child = running.child(job_id)
            if child is not None and child not in killed and kill(child):
                killed.add(child)
            time.sleep(0.1)
        job = running.job(job_id)
        assert (job["status"], job["status_reason"], job["attempt"]) == ("failed", "poison", 3)
        assert "SIGKILL" in job["status_detail"]
        after = running.submit({**SPEC, "teacher": None, "method": {"name": "none"}, "training": {"epochs": 1}})
        assert running.wait(after)["status"] == "succeeded"


def test_a_download_that_hangs_can_be_cancelled(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        proxy = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with service(tmp_path / "data", HTTPS_PROXY=proxy, HTTP_PROXY=proxy) as running:
            job_id = running.submit({**SPEC, "dataset": {"id": "mnist"}})
            eventually(lambda: running.child(job_id), what="the fetching child to run")
            assert running.http.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
            assert running.wait(job_id)["status_reason"] == "user_cancelled"
            assert check(running, job_id) == []
