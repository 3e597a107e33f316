"""Compiled steps: torch makes kernels for a network's forward and backward pass (``torch.compile``).

What is fused rounds in other places, so a compiled training ends with other bits than an eager one, and with the same
bits each time: nothing is chosen by timing it, and random numbers are drawn as eager steps draw them. Shapes are
static: an epoch's last, smaller batch is compiled by itself, so a training compiles twice, and the next one of the
same network not at all.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worker.engine.errors import ArchitectureError, EngineError, HardwareUnsuited
from worker.engine.method import Outputs
from worker.engine.network import Network

_EXACT = ("deterministic", "fallback_random")
"""What torch calls it to choose nothing by timing, and to draw random numbers as eager steps do. 2.11 may lack one."""
_KINDS = 1024
"""Forms of one function that are kept, such as batches of two sizes; one more is an error and not a slow step."""
_REMEDY = "Install g++ and Python's headers where the worker runs, or leave training.compile out."


def make_ready() -> None:
    """Have this process compile in the folder it is in, one file after the other. Raises HardwareUnsuited."""
    if shutil.which("g++") is None:
        raise HardwareUnsuited("training.compile needs a C++ compiler, and this worker finds no g++.", remedy=_REMEDY)
    here = Path.cwd()
    if not os.access(here, os.X_OK):  # compilers are given whole paths, and all else here lives without
        raise HardwareUnsuited(
            f"training.compile needs the way to {here}, which is closed to the user that a child runs as.",
            remedy="Run the worker as a user of its own instead of root, or leave training.compile out.",
        )
    import torch._inductor.config  # noqa: PLC0415  # a second of start-up, for those who compile

    tempfile.tempdir = os.environ["TMPDIR"] = str(here)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(here / "compiled")
    os.environ["TRITON_CACHE_DIR"] = str(here / "compiled" / "triton")
    torch._inductor.config.compile_threads = 1  # noqa: SLF001  # no process of compilers beside this one


class Compiled:
    """What calling ``network`` gives, by kernels that are made at the first call for each size of a batch.

    ``network`` itself is as before: it is evaluated, copied and saved without them. On a GPU the kernels of a pass are
    one launch (a CUDA graph).
    """

    def __init__(self, network: Network, device: torch.device) -> None:
        import torch._dynamo  # noqa: PLC0415  # as above

        limits = torch._dynamo.config  # noqa: SLF001  # no public name
        limits.recompile_limit = limits.accumulated_recompile_limit = _KINDS
        limits.fail_on_recompile_limit_hit = True
        limits.skip_nnmodule_hook_guards = False  # else a method's features are those that another one read
        torch._functorch.config.force_non_lazy_backward_lowering = True  # noqa: SLF001
        known = torch._inductor.list_options()  # noqa: SLF001
        options: dict[str, Any] = {name: True for name in _EXACT if name in known}
        options["triton.cudagraphs"] = device.type == "cuda"
        self._network = network
        self._body = torch.compile(network.body, fullgraph=True, dynamic=False, options=options)
        self._graphs = device.type == "cuda"
        self.seconds: dict[int, float] = {}
        """Of the first call for a batch of each size, by their number of images."""

    def begin_step(self) -> None:
        """What the last step's graphs gave is no longer needed; a step may call several times."""
        if self._graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]

    def __call__(self, images: Tensor) -> Outputs:
        """Raises ArchitectureError for a network that torch cannot compile as a whole, and HardwareUnsuited."""
        if len(images) in self.seconds:
            return self._network.through(self._body, images)
        began = time.perf_counter()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # a stop must not end the compiler
        try:
            return self._network.through(self._body, images)
        except torch._dynamo.exc.TorchDynamoException as error:  # noqa: SLF001
            raise _refusal(error) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            self.seconds[len(images)] = time.perf_counter() - began


def _refusal(error: Exception) -> EngineError:
    """What torch said, without the pages around it."""
    cause = getattr(error, "inner_exception", error)
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    if type(cause).__name__ == "CppCompileError":
        said = next((line for line in lines if "error:" in line), lines[-1])
        return HardwareUnsuited(f"training.compile needs a C++ compiler that works; g++ said: {said}", remedy=_REMEDY)
    return ArchitectureError(f"the network cannot be compiled: {lines[0]}", remedy="Leave training.compile out.")
