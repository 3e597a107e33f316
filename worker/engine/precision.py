"""Which precision a training computes in. Losses and every reported figure are fp32 whatever this says."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

from worker.engine.errors import PrecisionUnavailable

Name = Literal["fp32", "bf16", "fp16"]
_CLEARLY = 1.25


@dataclass(frozen=True)
class Precision:
    """How the networks' forward passes are computed."""

    name: Name
    scales_gradients: bool
    """Whether small gradients must be scaled up, as in fp16."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the forward passes."""
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.name]

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """The context for a forward pass."""
        if self.name == "fp32":
            return nullcontext()
        return torch.autocast(device.type, dtype=self.dtype)


def native_bf16() -> bool:
    """Whether this CPU multiplies bf16 itself (AVX512-BF16 or AMX) rather than by way of fp32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())  # noqa: SLF001  # no public name


def bf16_is_faster(step: Callable[[], object]) -> bool:
    """Whether ``step`` takes clearly less of this CPU's time in bf16 than in fp32: a convolution may take half of it,
    one by channels twice of it.

    Measured in CPU time and by the best of several, so that other work on the machine does not decide it.
    """

    def seconds(dtype: torch.dtype) -> float:
        times = []
        for _ in range(4):
            began = time.process_time()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
                step()
            times.append(time.process_time() - began)
        return min(times)

    return seconds(torch.float32) > _CLEARLY * seconds(torch.bfloat16)


def resolve(name: str, device: torch.device, *, step: Callable[[], object] | None = None) -> Precision:
    """``auto`` is bf16 on GPUs that have it and on CPUs that have it where ``step`` is faster with it, else fp32.

    Raises PrecisionUnavailable.
    """
    if name == "auto" and device.type == "cpu":
        name = "bf16" if step is not None and native_bf16() and bf16_is_faster(step) else "fp32"
    elif name == "auto":
        name = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if name == "fp16" and device.type == "cpu":
        remedy = "Use training.precision auto, fp32 or bf16."
        raise PrecisionUnavailable("fp16 needs a GPU, and this worker trains on its CPU.", remedy=remedy)
    if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise PrecisionUnavailable("this GPU has no bf16.", remedy="Use training.precision auto, fp32 or fp16.")
    match name:
        case "fp32" | "bf16" | "fp16":
            return Precision(name, scales_gradients=name == "fp16")
    raise PrecisionUnavailable(f"no precision is called {name!r}.", remedy="Use auto, fp32, bf16 or fp16.")
