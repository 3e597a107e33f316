"""``python -m benchmarks.engine``: images per second of the engine's loop over those of the research scripts' loop.

Everything is measured in one run in turns (one epoch of the baseline, one of each mode, and again), and the median of
the ratios within the turns is what counts: the speed of a shared machine drifts, a ratio does so less. The baseline
has a process of its own with torch's and the machine's settings as they are; the engine has those of a job's child.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median

import torch

from benchmarks.engine import baseline, data, least, ours
from benchmarks.engine.report import apart, as_a_child_is, hardware, in_turns, row
from worker.engine.canaries import check_rows
from worker.engine.data import ImageSet
from worker.engine.methods import METHODS
from worker.engine.network import Network, Preprocessing, build_network
from worker.engine.precision import Precision
from worker.engine.run import Run
from worker.engine.table import ViewTable
from worker.engine.teacher import LiveTeacher, with_table

CONTROLS = ("fp32-control", "bf16-control")
"""The student's steps without a teacher, as the control takes them."""
MODES = ("fp32", "bf16", "fp32-table", "bf16-table", *CONTROLS, "compiled", "compiled-table", "small")
USUAL = [mode for mode in MODES if not mode.startswith("compiled")]
_SHAPE = Preprocessing((3, 32, 32), data.MEAN, data.STD)


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--pairs", type=int, default=5, help="turns; the median of their ratios is printed")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--teacher", default="resnet56")
    parser.add_argument("--student", default="resnet20")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=USUAL)
    parser.add_argument("--cifar100", type=Path, metavar="DIR", help="torchvision's files; else made images")
    options = parser.parse_args()
    as_a_child_is()
    torch.use_deterministic_algorithms(mode=True, warn_only=True)  # as a job's child does
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # torch's stubs lack it
    print(hardware())
    chosen = [mode for mode in options.modes if mode != "small"]
    with tempfile.TemporaryDirectory() as folder:
        if chosen:
            _against_scripts(options, chosen, Path(folder))
    if "small" in options.modes:
        _against_the_least(options.pairs)
    return 0


def _against_scripts(options: argparse.Namespace, modes: list[str], folder: Path) -> None:
    images = data.cifar100(options.cifar100, options.images)
    kind = "CIFAR-100" if options.cifar100 else "made images"
    print(f"{options.teacher} -> {options.student}, batch {options.batch}, {len(images)} {kind}, {options.pairs} turns")
    teacher = ours.informed(_network(options.teacher, seed=1), images)
    scripts = apart(
        baseline.epochs,
        _network(options.teacher, seed=1, like=teacher, memory_format=torch.contiguous_format).body,
        _network(options.student, seed=2, memory_format=torch.contiguous_format).body,
        baseline.loader(images, batch=options.batch),
    )
    loops: dict[str, Iterator[float]] = {"scripts": scripts}
    for mode in modes:
        precision = ours.FP32 if mode.startswith("fp32") else ours.BF16
        source = _source(teacher, precision, folder / mode, images) if mode not in CONTROLS else None
        student = _network(options.student, seed=2)
        run = ours.build_run(
            student,
            source,
            images,
            method=METHODS["kd" if source is not None else "none"](),
            recipe=ours.build_recipe(
                precision=precision, augmentation="crop-flip", batch=options.batch, compiled=mode.startswith("compiled")
            ),
        )
        if source is not None and source.table is not None:
            _fill(run, source, source.table, epochs=options.pairs + 1)
        loops[mode] = ours.epochs(run)
    with closing(scripts):
        rates = in_turns(loops, options.pairs)
    for mode in modes:
        ratios = [one / other for one, other in zip(rates[mode], rates["scripts"], strict=True)]
        row(mode, rates[mode], ratios, "images/s")
    row("scripts", rates["scripts"], [1.0], "images/s")
    steps = (f"{name} {options.batch / median(found) * 1000:.1f} ms" for name, found in rates.items())
    print(f"a step of {options.batch}: {', '.join(steps)}")


def _source(teacher: Network, precision: Precision, table: Path, images: ImageSet) -> LiveTeacher:
    """With a table where the mode, which is the file's name, asks for one."""
    if not table.name.endswith("table"):
        return LiveTeacher(teacher, precision=precision)
    return with_table(teacher, images, table, augmentation="crop-flip", classes=data.CLASSES, precision=precision)


def _fill(run: Run, source: LiveTeacher, table: ViewTable, *, epochs: int) -> None:
    """Ask for every row of the epochs to come, as a job before would have, and say what that cost."""
    began, asked = time.perf_counter(), 0
    for epoch in range(1, epochs + 1):
        for rows in torch.split(run.views.of_epoch(seed=0, epoch=epoch), 256):
            source.look_up(rows)
            asked += len(rows)
    seconds = time.perf_counter() - began
    each = seconds / max(table.written, 1)
    print(
        f"{run.recipe.precision.name} table: {table.written} of {asked} rows computed in {seconds:.1f} s, "
        f"{each * 1000:.2f} ms a row; all {run.views.rows} would take {each * run.views.rows / 60:.0f} min"
    )
    check_rows(run)


def _against_the_least(turns: int) -> None:
    """Where the overhead of a step rules: steps per second over those of a loop that does nothing else."""
    for teacher, student, side, precision in (
        ("resnet20", "resnet8", 8, ours.FP32),
        ("lenet5", "lenet5", 28, ours.FP32),
    ):
        images = data.like_digits(1920, side)
        shape = Preprocessing((1, side, side), (0.5,), (0.3,))
        networks = [
            build_network(architecture=name, classes=10, preprocessing=shape, seed=1) for name in (teacher,) * 2
        ]
        students = [
            build_network(architecture=name, classes=10, preprocessing=shape, seed=2) for name in (student,) * 2
        ]
        for network in networks:
            ours.informed(network, images)
        run = ours.build_run(
            students[0],
            LiveTeacher(networks[0], precision=precision),
            images,
            method=METHODS["kd"](),
            recipe=ours.build_recipe(precision=precision, augmentation="none", batch=64),
        )
        prepared = networks[1].prepare(images.images.float().div(255)).contiguous(memory_format=torch.channels_last)
        bare = least.epochs(students[1].body, networks[1].body, prepared, images.labels, batch=64)
        rates = in_turns({"ours": ours.epochs(run), "least": bare}, 4 * turns)
        rates["ours"] = [rate / 64 for rate in rates["ours"]]
        ratios = [one / other for one, other in zip(rates["ours"], rates["least"], strict=True)]
        row(f"{teacher} -> {student}, {side}x{side}", rates["ours"], ratios, "steps/s")


def _network(
    name: str, *, seed: int, like: Network | None = None, memory_format: torch.memory_format = torch.channels_last
) -> Network:
    network = build_network(architecture=name, classes=data.CLASSES, preprocessing=_SHAPE, seed=seed)
    if like is not None:
        network.load_state_dict(like.state_dict())
    network.body.to(memory_format=memory_format)
    return network


if __name__ == "__main__":
    sys.exit(main())
