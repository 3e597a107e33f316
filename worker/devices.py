"""What a job trains on. The first attempt settles it, because it decides the bits; later ones keep to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch

from stillhouse.spec import JobSpec
from worker.engine import compiled
from worker.engine.precision import resolve

_FAULTS = (
    "ecc error",
    "unspecified launch failure",
    "hardware",
    "nvlink",
    "fallen off the bus",
    "unavailable",
    "no cuda",
)
"""In what CUDA says of a GPU that is broken, lost or held by somebody else; the rest are defects of programs."""


def gpu_fault(error: BaseException) -> bool:
    """Whether ``error`` is the GPU's own: another one, or the same after a reset, would not have raised it."""
    said = str(error).lower()
    return isinstance(error, RuntimeError) and "cuda" in said and any(fault in said for fault in _FAULTS)


def offered(devices: str) -> tuple[str, int]:
    """Kind and number of a worker's devices, by its setting ``devices``."""
    kind, _, count = devices.partition(":")
    if kind == "cpu":
        return "cpu", int(count or 1)
    return ("cuda", torch.cuda.device_count()) if torch.cuda.is_available() else ("cpu", 1)


def settle(
    spec: JobSpec,
    *,
    devices: str,
    earlier: Mapping[str, Any] | None,
    suits_bf16: Callable[[], bool],
    warn: Callable[[str], None],
) -> dict[str, Any]:
    """Device, precision, ranks and the threads of each: as the first attempt had them, where that can be had."""
    kind, count = offered(devices)
    asked = spec.resources.gpus
    if asked == 0:
        kind, count = "cpu", 1
    ranks = max(1, min(asked, count))
    cores = len(os.sched_getaffinity(0))
    precision = earlier["precision"] if earlier is not None else spec.training.precision
    mine: dict[str, Any] = {
        "device": kind,
        "precision": resolve(precision, torch.device(kind), suits_bf16=suits_bf16).name,
        "ranks": ranks,
        "threads": max(1, cores // ranks) if kind == "cpu" else cores,
        "compiled": spec.training.compile,
    }
    if earlier is None:
        if ranks < max(asked, 1):
            warn(f"resources.gpus asks for {asked} and this worker has {_say(kind, ranks)}: it trains on that alone")
        return mine
    settled = {"ranks": 1, "compiled": False, **earlier}
    if settled["device"] == kind and settled["ranks"] <= count:
        return settled
    began = _say(settled["device"], settled["ranks"])
    warn(f"this job began on {began} and goes on on {_say(kind, ranks)}; its bytes will differ")
    return mine


def hold(settled: Mapping[str, Any], rank: int) -> torch.device:
    """Set this process up as it was settled. Returns the device of ``rank``; raises HardwareUnsuited."""
    torch.set_num_threads(settled["threads"])
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    # it fills every new tensor with NaN besides, hundreds a step; nothing here reads what was not written
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # missing in stubs
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]  # else TF32 on newer GPUs
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    if settled["compiled"]:
        compiled.make_ready()
    if settled["device"] == "cpu":
        return torch.device("cpu")
    torch.cuda.set_device(rank)
    return torch.device("cuda", rank)


def _say(kind: str, ranks: int) -> str:
    if kind == "cuda":
        return "1 GPU" if ranks == 1 else f"{ranks} GPUs"
    return "its CPU" if ranks == 1 else f"{ranks} processes of its CPU"
