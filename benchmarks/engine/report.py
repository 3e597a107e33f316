"""How the benchmarks of the engine take turns and say what they found."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch

from worker.engine.precision import native_bf16
from worker.sandbox import ALLOCATOR


def as_a_child_is() -> None:
    """Begin this program anew with the memory settings that a job's child is started with, but for those given."""
    if not os.environ.keys() >= ALLOCATOR.keys():
        arguments = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, arguments, {**ALLOCATOR, **os.environ})  # noqa: S606  # a shell has no part in it


def apart(loop: Callable[..., Iterator[float]], *given: Any) -> Generator[float, None, None]:
    """What ``loop(*given)`` yields, from a process of its own that has the machine's memory settings."""
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_serve, args=(theirs, loop, given))
    kept = {name: os.environ.pop(name) for name in ALLOCATOR if name in os.environ}
    process.start()
    os.environ |= kept
    try:
        while True:
            ours.send(None)
            yield ours.recv()
    finally:
        process.kill()
        process.join()


def _serve(line: Connection, loop: Callable[..., Iterator[float]], given: tuple[Any, ...]) -> None:
    rates = loop(*given)
    while True:  # an epoch begins when it is asked for, so that nothing runs beside the others'
        line.recv()
        line.send(next(rates))


def in_turns(loops: dict[str, Iterator[float]], turns: int) -> dict[str, list[float]]:
    """What each loop says after an epoch, turn by turn; a first turn of all warms up and is not counted."""
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(turns + 1):
        for name, loop in loops.items():
            rate = next(loop)
            if turn:
                rates[name].append(rate)
        if turn:
            print(", ".join(f"{name} {found[-1]:.0f}" for name, found in rates.items()), file=sys.stderr)
    return rates


def row(name: str, rates: list[float], ratios: list[float], unit: str) -> None:
    """One line: the median rate, and the median ratio with the least and the greatest."""
    spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
    print(f"{name:28} {median(rates):8.0f} {unit}   {median(ratios):5.2f} times{spread}")


def hardware() -> str:
    """What all of it was measured on."""
    with Path("/proc/cpuinfo").open() as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())
    native = "native bf16" if native_bf16() else "no native bf16"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {model}, {len(os.sched_getaffinity(0))} cores, "
        f"{torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}, {native}, torch {torch.__version__}"
    )
