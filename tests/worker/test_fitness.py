"""A worker that is not fit takes no job, and says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.fitness import Fitness, installed

LISTED = """
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-11111111-2222-3333-4444-555555555555)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-66666666-7777-8888-9999-000000000000)
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A driver's tool that a test writes; its folder comes first on the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path / "nvidia-smi"


def says(driver: Path, text: str, *, status: int = 0) -> None:
    driver.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {status}\n")
    driver.chmod(0o755)


def complaint(folder: Path, *devices: str, least: int = 0) -> str | None:
    return Fitness(folder, least_free_bytes=least, devices=devices).complaint()


def test_a_cpu_needs_room_on_the_disk_alone(tmp_path: Path) -> None:
    assert complaint(tmp_path, "cpu") is None
    found = complaint(tmp_path, "cpu", least=2**60)
    assert found is not None
    assert f"in {tmp_path}, and STILLHOUSE_LEAST_FREE_BYTES asks for" in found
    assert "No such file" in str(complaint(tmp_path / "gone", "cpu"))


@pytest.mark.parametrize(
    "device", ["cuda:0", "cuda:1", "cuda:GPU-66666666", "cuda:GPU-11111111-2222-3333-4444-555555555555"]
)
def test_a_gpu_that_the_driver_lists_is_fit(tmp_path: Path, driver: Path, device: str) -> None:
    says(driver, LISTED)
    assert complaint(tmp_path, device) is None


def test_a_worker_has_every_gpu_that_the_driver_lists(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says(driver, LISTED)
    assert installed() == ("cuda:0", "cuda:1")
    says(driver, "Failed to initialize NVML", status=255)
    assert installed() == ("cuda:0",)  # and that one is unfit
    driver.unlink()
    monkeypatch.setenv("PATH", "/nowhere")
    assert installed() == ()


def test_a_gpu_that_is_gone_is_named(tmp_path: Path, driver: Path) -> None:
    says(driver, LISTED)
    assert "GPU 7 is not among those" in str(complaint(tmp_path, "cuda:0", "cuda:7"))
    assert "GPU GPU-99 is not among those" in str(complaint(tmp_path, "cuda:GPU-99"))


def test_a_driver_that_fails_is_quoted(tmp_path: Path, driver: Path) -> None:
    says(driver, "Unable to determine the device handle for GPU0000:01:00.0: Unknown Error", status=255)
    found = str(complaint(tmp_path, "cuda:0"))
    assert "status 255: Unable to determine the device handle" in found
    driver.unlink()
    assert "nvidia-smi does not answer" in str(complaint(tmp_path, "cuda:0"))


def test_what_was_seen_is_believed_for_a_few_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitness = Fitness(tmp_path, least_free_bytes=2**60, devices=("cpu",))
    seen = fitness.complaint()
    fitness._least_free_bytes = 0
    assert fitness.complaint() == seen is not None
    monkeypatch.setattr("worker.fitness._LOOK_EVERY_SECONDS", 0.0)
    assert fitness.complaint() is None
