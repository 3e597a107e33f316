"""Which precision a training computes in. Losses and every reported figure are fp32 whatever this says."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

from worker.engine.errors import PrecisionUnavailable

Name = Literal["fp32", "bf16", "fp16"]


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


def resolve(name: str, device: torch.device, *, suits_bf16: Callable[[], bool] = lambda: False) -> Precision:
    """``auto`` is bf16 on GPUs that have it and, of a network that ``suits_bf16``, on CPUs that have it; else fp32.

    Raises PrecisionUnavailable.
    """
    if name == "auto" and device.type == "cpu":
        name = "bf16" if native_bf16() and suits_bf16() else "fp32"
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
