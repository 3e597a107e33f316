"""A job on two devices: the student of one job, whatever happens to any of its processes, and none is left behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load

from tests.faults.disturbance import SPEC
from tests.faults.invariants import check
from tests.harness import Service, alive, eventually, kill, service

LAYERS = [
    *({"name": "conv", "channels": 8, "stride": 2}, {"name": "relu"}, {"name": "globalpool"}, {"name": "linear"}),
]
TRAINING = {**SPEC["training"], "epochs": 25, "batch_size": 64, "optimizer": {"name": "adam"}}
ALONE: dict[str, Any] = {
    **SPEC,
    "name": "ranks",
    "teacher": {"layers": [{"name": "flatten"}, {"name": "linear"}], "train": {"epochs": 4}},
    "student": {"layers": LAYERS},
    "method": {"name": "dist"},
    "training": TRAINING,
}
TOGETHER: dict[str, Any] = {**ALONE, "resources": {"gpus": 2}}
WHAT_HOLDS = ("Uid:", "Gid:", "Groups:", "CapEff:", "CapBnd:", "NoNewPrivs:")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("ranks") / "data", STILLHOUSE_DEVICES="cpu:2") as started:
        yield started


@pytest.fixture(scope="module")
def expected(running: Service) -> bytes:
    """The student's bytes when nothing happens."""
    job_id = running.submit(TOGETHER)
    assert running.wait(job_id)["status"] == "succeeded", running.job(job_id)
    assert check(running, job_id) == []
    return running.artifact(job_id, "student.safetensors")


def ranks_of(child: int) -> list[int]:
    """The further ranks that a training child has started."""
    try:
        started = [(task / "children").read_text() for task in Path(f"/proc/{child}/task").iterdir()]
    except FileNotFoundError:
        return []
    return [int(pid) for line in started for pid in line.split()]


def confinement(pid: int) -> tuple[Path, list[str]]:
    """The network a process is in, and what the kernel knows of its rights."""
    status = Path(f"/proc/{pid}/status").read_text()
    held = [line for line in status.splitlines() if line.startswith(WHAT_HOLDS)]
    return Path(f"/proc/{pid}/ns/net").readlink(), held


def training(running: Service, spec: dict[str, Any] = TOGETHER) -> tuple[str, int, int]:
    """A job that has stored a checkpoint, with the processes of its first and its other rank."""
    job_id = running.submit(spec)
    eventually(lambda: running.get(f"/v1/jobs/{job_id}/checkpoints")["data"], what="a checkpoint")
    child = running.child(job_id)
    assert child is not None
    (other,) = ranks_of(child)
    return job_id, child, other


def test_a_job_on_two_devices_is_the_job_on_one(running: Service, expected: bytes) -> None:
    """No batch norm and no dropout, so the students are the same to what rounding makes of it in so many steps."""
    alone = running.submit(ALONE)
    assert running.wait(alone)["status"] == "succeeded"
    one, other = load(expected), load(running.artifact(alone, "student.safetensors"))
    assert {name: value.shape for name, value in one.items()} == {name: value.shape for name, value in other.items()}
    assert max(float((one[name] - value).abs().max()) for name, value in other.items()) < 1e-2
    environment = json.loads(running.artifact(alone, "environment.json"))
    assert environment["ranks"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["the first rank", "the other rank", "the worker"])
def test_a_job_on_two_devices_ends_with_the_same_bytes_after_a_kill(
    running: Service, expected: bytes, victim: str
) -> None:
    job_id, child, other = training(running)
    killed = {"the first rank": child, "the other rank": other, "the worker": running.pids()["worker"]}[victim]
    assert kill(killed)
    eventually(lambda: not alive(child) and not alive(other), seconds=10, what="both ranks to be gone")
    assert running.wait(job_id)["status"] == "succeeded", running.job(job_id)
    attempts = running.get(f"/v1/jobs/{job_id}/attempts")["data"]
    assert len(attempts) == 2
    assert attempts[0]["reason"] == "worker_lost"
    assert attempts[1]["resumed_from"] is not None
    assert running.artifact(job_id, "student.safetensors") == expected
    assert json.loads(running.artifact(job_id, "environment.json"))["ranks"] == 2
    assert check(running, job_id) == []


@pytest.mark.slow
def test_a_job_on_two_devices_stops_at_a_checkpoint_when_it_is_asked_to(running: Service, expected: bytes) -> None:
    job_id, child, other = training(running)
    assert confinement(child) == confinement(other)
    assert b"STILLHOUSE" not in Path(f"/proc/{other}/environ").read_bytes()
    assert running.http.post(f"/v1/jobs/{job_id}/pause").status_code == 202
    eventually(lambda: running.job(job_id)["status"] == "paused", what="the job to pause")
    assert not alive(child)
    assert not alive(other)
    assert running.http.post(f"/v1/jobs/{job_id}/resume").status_code == 202
    assert running.wait(job_id)["status"] == "succeeded"
    first, _ = running.get(f"/v1/jobs/{job_id}/attempts")["data"]
    assert first["exit"] == 75
    assert running.artifact(job_id, "student.safetensors") == expected
    assert check(running, job_id) == []


def test_synchronised_batch_norm_is_refused_on_a_cpu(running: Service) -> None:
    job_id = running.submit({**TOGETHER, "training": {**TRAINING, "sync_batchnorm": True}})
    job = running.wait(job_id)
    assert (job["status"], job["status_reason"]) == ("failed", "unsupported_hardware")
    assert "made for GPUs" in job["status_detail"]
