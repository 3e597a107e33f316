"""``python -m benchmarks.growth``: what a training costs as images and epochs grow, and whether its memory does.

The same student and teacher on made images: the time of an image over the number of images and over the epochs, the
process's memory after each epoch, and what the control costs beside the student. It sees the same batches and needs no
teacher; that it makes its views anew is the cost of the last column, and spares keeping two trainings in step.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from worker.engine.data import ImageSet
from worker.engine.distill import distill
from worker.engine.events import EpochFinished
from worker.engine.methods import METHODS
from worker.engine.network import Network, Preprocessing, build_network
from worker.engine.optim import Constant
from worker.engine.precision import resolve
from worker.engine.run import Recipe, Run
from worker.engine.teacher import LiveTeacher

_CLASSES, _SHAPE = 10, (3, 16, 16)
_SGD = {"name": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False}


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[1_000, 2_000, 4_000, 8_000])
    parser.add_argument(
        "--epochs", type=int, default=24, help="of the run whose memory is watched, on the fewest images"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    teacher = _taught(device)
    for _ in distill(_run(min(options.images), 1, device, teacher)):
        pass  # warms allocator, caches and kernels
    console = Console()
    console.print(_over_images(options.images, device, teacher))
    console.print(_over_epochs(min(options.images), options.epochs, device, teacher))
    return 0


def _over_images(counts: Sequence[int], device: torch.device, teacher: Network) -> Table:
    table = Table("images", "student", "control", "views alone", title="µs an image, in a second epoch")
    for images in counts:
        student, control = (_second_epoch(_run(images, 2, device, taught_by)) for taught_by in (teacher, None))
        costs = (student, control, _views(_run(images, 2, device, None)))
        table.add_row(f"{images:,}", *(f"{seconds / images * 1e6:.1f}" for seconds in costs))
    return table


def _over_epochs(images: int, epochs: int, device: torch.device, teacher: Network) -> Table:
    table = Table("epochs", "µs an image, in the last of them", "memory, MiB", title=f"{images:,} images")
    began = time.perf_counter()
    for event in distill(_run(images, epochs, device, teacher)):
        if isinstance(event, EpochFinished):
            moment = time.perf_counter()
            if event.epoch in {2**power for power in range(20)} | {epochs}:
                table.add_row(str(event.epoch), f"{(moment - began) / images * 1e6:.1f}", f"{_resident():.1f}")
            began = time.perf_counter()
    return table


def _second_epoch(run: Run) -> float:
    """Its seconds: what is checked before the first step and after the first epoch is not in it."""
    ends = [time.perf_counter() for event in distill(run) if isinstance(event, EpochFinished)]
    return ends[1] - ends[0]


def _views(run: Run) -> float:
    """Seconds to make an epoch's views: all that a control that shared its student's batches would save."""
    began = time.perf_counter()
    for rows in torch.split(run.views.of_epoch(seed=0, epoch=2), run.recipe.batch_size):
        run.views.show(rows)
    if run.device.type == "cuda":
        torch.cuda.synchronize(run.device)
    return time.perf_counter() - began


def _resident() -> float:
    """MiB of this process in memory."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


def _run(images: int, epochs: int, device: torch.device, teacher: Network | None, *, student: str = "resnet8") -> Run:
    precision = resolve("auto", device)
    recipe = Recipe(
        epochs=epochs,
        batch_size=64,
        optimizer=_SGD,
        schedule=Constant(),
        augmentation="crop-flip",
        precision=precision,
        seed=0,
    )
    return Run(
        student=_network(student).to(device),
        method=METHODS["none" if teacher is None else "kd"](),
        teacher=None if teacher is None else LiveTeacher(teacher, precision=precision),
        train=_images(images).to(device),
        validation=None,
        recipe=recipe,
    )


def _taught(device: torch.device) -> Network:
    """A teacher that knows the made images, since one at chance is refused."""
    run = _run(1_000, 3, device, None, student="resnet14")
    for _ in distill(run):
        pass
    return run.student


def _images(count: int) -> ImageSet:
    """Noise around a colour of its class."""
    generator = torch.Generator().manual_seed(count)
    labels = torch.randint(_CLASSES, (count,), generator=generator)
    colours = torch.randint(256, (_CLASSES, 3, 1, 1), generator=torch.Generator().manual_seed(0))
    noise = torch.randint(-60, 61, (count, *_SHAPE), generator=generator)
    return ImageSet((colours[labels] + noise).clamp(0, 255).to(torch.uint8), labels)


def _network(architecture: str) -> Network:
    return build_network(
        architecture=architecture,
        classes=_CLASSES,
        preprocessing=Preprocessing(_SHAPE, (0.5,) * 3, (0.25,) * 3),
        seed=1,
    )


if __name__ == "__main__":
    raise SystemExit(main())
