"""``python -m benchmarks.streaming``: a data set of several times the memory that the training may have.

A set of random images is stored, then split, trained on for some epochs and evaluated in a process whose memory is
limited by a cgroup of its own, so that the kernel enforces it. The figures are the private memory (RssAnon), which no
kernel can take back from a process, at most in each epoch; and what the cgroup was charged at most, files included.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillhouse.spec import JobSpec
from tests.harness import TREE
from worker.assembly import build_run
from worker.cgroup import Unavailable, limited
from worker.engine.data.split import split_dataset
from worker.engine.data.store import TENSORS, Writer, load
from worker.engine.distill import distill
from worker.engine.evaluate import evaluate
from worker.engine.events import EpochFinished
from worker.engine.precision import Precision
from worker.phases import phases

SIDE, CLASSES, PIECE = 64, 10, 1024
SPEC: dict[str, Any] = {
    "dataset": {"id": "digits"},
    "student": {
        "layers": [
            {"name": "maxpool"},
            {"name": "maxpool"},
            {"name": "conv", "channels": 8},
            {"name": "relu"},
            {"name": "globalpool"},
            {"name": "linear"},
        ]
    },
    "method": {"name": "none"},
    "training": {"batch_size": 128},
}


@dataclass
class Stage:
    """A part of the training: its name, its wall seconds, and the private memory at every tenth of a second."""

    name: str
    seconds: float = 0
    private: list[int] = field(default_factory=list)


def main() -> int:
    """Print a line for each stage, and one for the whole."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming", description=__doc__)
    parser.add_argument("--limit-mib", type=int, default=576, help="memory that the training may have")
    parser.add_argument("--times", type=float, default=4, help="size of the set, in limits")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train is not None:
        _train(options.train, options.epochs)
        return 0
    limit = options.limit_mib * 2**20
    with tempfile.TemporaryDirectory() as folder:
        count = _write(Path(folder) / "dataset", int(options.times * limit))
        size = f"{count:,} images, {count * 3 * SIDE * SIDE / 2**20:.0f} MiB, under {options.limit_mib} MiB"
        try:
            with limited(limit) as group:
                stages = _watch(Path(folder), options.epochs, enter=str(group.folder / "cgroup.procs"))
                peak = group.peak()
        except Unavailable as error:
            print(f"no limit can be kept here, so nothing is measured: {error}", file=sys.stderr)
            return 1
    for stage in stages:
        print(f"{stage.name:12} {stage.seconds:6.1f} s  private memory {max(stage.private) / 2**20:4.0f} MiB at most")
    charged = f"{peak / 2**20:.0f} MiB charged at most" if peak is not None else "the kernel keeps no peak"
    print(f"{size}: {sum(stage.seconds for stage in stages):.0f} s in all; {charged}")
    return 0


def _write(folder: Path, size: int) -> int:
    rng = np.random.default_rng(0)
    count = size // (3 * SIDE * SIDE)
    with Writer(folder, (3, SIDE, SIDE)) as writer:
        for start in range(0, count, PIECE):
            images = rng.integers(0, 256, (min(PIECE, count - start), 3, SIDE, SIDE), dtype=np.uint8)
            labels = [(start + index) % CLASSES for index in range(len(images))]
            images[:, 0, :8] = (np.array(labels, dtype=np.uint8) * 25)[:, None, None]
            writer.add("train", images, labels)
        writer.close(name="large", classes=tuple(map(str, range(CLASSES))))
    with (folder / TENSORS).open("rb") as file:  # out of the page cache, where it would be charged to this process
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return count


def _watch(folder: Path, epochs: int, *, enter: str) -> list[Stage]:
    """Start the training within the cgroup, and look at its memory until it has ended."""
    mine = [sys.executable, "-m", "benchmarks.streaming", "--train", str(folder / "dataset"), "--epochs", str(epochs)]
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(TREE), "PYTHONUNBUFFERED": "1"}
    command = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', enter, *mine]
    child = subprocess.Popen(command, cwd=TREE, env=environment, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    os.set_blocking(child.stdout.fileno(), False)
    stages, began = [Stage("start")], time.monotonic()
    while child.poll() is None:
        lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
        stages[-1].private += [int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")]
        if name := child.stdout.readline().strip():
            moment = time.monotonic()
            stages[-1].seconds, began = moment - began, moment
            stages.append(Stage(name))
        time.sleep(0.1)
    stages[-1].seconds = time.monotonic() - began
    if child.returncode != 0:
        last = f"{stages[-1].name}, at {stages[-1].private[-1] / 2**20:.0f} MiB of private memory"
        raise SystemExit(f"the training ended with {child.returncode} in {last} (-9: the kernel's, for want of memory)")
    return [stage for stage in stages if stage.private]


def _train(folder: Path, epochs: int) -> None:
    """In the limited process: say each stage as it begins."""
    spec = JobSpec.model_validate({**SPEC, "training": {**SPEC["training"], "epochs": epochs}})
    print("splitting")
    dataset = split_dataset(load(folder), validation=spec.dataset.validation, seed=spec.training.seed)
    (phase,) = phases(spec)
    precision = Precision("fp32", scales_gradients=False)
    run = build_run(spec, phase, dataset, teacher=None, device=torch.device("cpu"), precision=precision)
    print("epoch 1")
    for event in distill(run):
        if isinstance(event, EpochFinished) and event.epoch < epochs:
            print(f"epoch {event.epoch + 1}")
    print("evaluating")
    evaluate(run.student, dataset.test)


if __name__ == "__main__":
    sys.exit(main())
