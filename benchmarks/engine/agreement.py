"""``python -m benchmarks.engine.agreement``: whether the fast way of training ends where the plain one does.

The same student from the same weights with the same teacher, once by the engine as a job trains here (a view table, the
precision that ``auto`` chooses, a folded teacher, channels last) and once by the plain loop of
``benchmarks/engine/baseline.py`` (PIL, fp32, a live teacher in each step). The two draw other batches, so they end with
other networks, as two seeds do: what counts is whether their means differ by more than the seeds leave open.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import mean, stdev

import torch
from scipy.stats import t as student_t

from benchmarks.engine import baseline, data, ours
from benchmarks.engine.report import hardware
from worker.engine.data import ImageSet
from worker.engine.data.digits import load
from worker.engine.distill import distill
from worker.engine.evaluate import evaluate, suits_bf16
from worker.engine.methods import METHODS
from worker.engine.network import Network, Preprocessing, build_network
from worker.engine.precision import resolve
from worker.engine.teacher import with_table


@dataclass(frozen=True)
class Task:
    """What is learnt."""

    train: ImageSet
    test: ImageSet
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def augmentation(self) -> str:
        """Digits have no mirror images."""
        return "crop" if self.train.images.shape[1] == 1 else "crop-flip"

    def network(self, name: str, *, seed: int) -> Network:
        """Untrained."""
        channels, height, width = self.train.images.shape[1:]
        shape = Preprocessing((channels, height, width), self.mean, self.std)
        return build_network(architecture=name, classes=self.classes, preprocessing=shape, seed=seed)


def main() -> int:
    """Print each seed's accuracies and what follows from them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine.agreement", description=__doc__)
    parser.add_argument("--cifar100", type=Path, metavar="DIR", help="torchvision's files; else the UCI digits")
    parser.add_argument("--images", type=int, default=10_000, help="of CIFAR-100; a sixth of them is the test split")
    parser.add_argument("--teacher", default="resnet14")
    parser.add_argument("--student", default="resnet8")
    parser.add_argument("--teacher-epochs", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of the fast way")
    options = parser.parse_args()
    print(hardware())
    task = _task(options)
    teacher = _taught(task, options)
    known = evaluate(teacher, task.test).top1
    print(
        f"{options.teacher} ({known:.2%}) -> {options.student}, kd, {options.epochs} epochs, "
        f"{len(task.train)} images to train on, {len(task.test)} to test on"
    )
    with tempfile.TemporaryDirectory() as folder:
        pairs = [_seed(task, teacher, options, seed, Path(folder)) for seed in range(options.seeds)]
    _conclude([fast for fast, _ in pairs], [plain for _, plain in pairs])
    return 0


def _task(options: argparse.Namespace) -> Task:
    if options.cifar100 is None:
        raw = load(None, Path())
        whole, classes, moments = raw.train, len(raw.classes), (raw.mean, raw.std)
    else:
        whole, classes, moments = data.cifar100(options.cifar100, options.images), data.CLASSES, (data.MEAN, data.STD)
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    apart = len(whole) // 6
    return Task(whole.take(order[apart:]), whole.take(order[:apart]), classes, *moments)


def _taught(task: Task, options: argparse.Namespace) -> Network:
    run = ours.build_run(
        task.network(options.teacher, seed=100),
        None,
        task.train,
        method=METHODS["none"](),
        recipe=ours.build_recipe(
            precision=ours.FP32,
            augmentation=task.augmentation,
            batch=64,
            epochs=options.teacher_epochs,
            milestones=_milestones(options.teacher_epochs),
        ),
    )
    for _ in distill(run):
        pass
    return run.student


def _seed(task: Task, teacher: Network, options: argparse.Namespace, seed: int, folder: Path) -> tuple[float, float]:
    """Accuracies on the test split, in fp32: of the fast and of the plain way."""
    milestones = _milestones(options.epochs)
    student = task.network(options.student, seed=seed)
    precision = resolve(options.precision, torch.device("cpu"), suits_bf16=lambda: suits_bf16(student, batch=64))
    plain = task.network(options.student, seed=seed)
    source = with_table(
        teacher,
        task.train,
        folder / "table",
        augmentation=task.augmentation,
        classes=task.classes,
        precision=precision,
    )
    run = ours.build_run(
        student,
        source,
        task.train,
        method=METHODS["kd"](),
        recipe=ours.build_recipe(
            precision=precision,
            augmentation=task.augmentation,
            batch=64,
            epochs=options.epochs,
            milestones=milestones,
            seed=seed,
        ),
    )
    began = time.perf_counter()
    for _ in distill(run):
        pass
    between = time.perf_counter()
    torch.manual_seed(seed)
    plain.body.to(memory_format=torch.contiguous_format)
    loader = baseline.loader(task.train, batch=64, mean=task.mean, std=task.std)
    for _ in islice(baseline.epochs(teacher.body, plain.body, loader, milestones=milestones), options.epochs):
        pass
    took = between - began, time.perf_counter() - between
    found = evaluate(student, task.test).top1, evaluate(plain, task.test).top1
    print(
        f"seed {seed}: fast ({precision.name}) {found[0]:.2%} in {took[0]:.1f} s, plain (fp32) {found[1]:.2%} in "
        f"{took[1]:.1f} s",
        flush=True,
    )
    return found


def _milestones(epochs: int) -> tuple[int, ...]:
    return (epochs * 2 // 3, epochs * 5 // 6)


def _conclude(fast: list[float], plain: list[float]) -> None:
    """Student's test of two means, at 95 %."""
    count = len(fast)
    error = ((stdev(fast) ** 2 + stdev(plain) ** 2) / count) ** 0.5
    bound = float(student_t.ppf(0.975, 2 * count - 2)) * error
    difference = mean(fast) - mean(plain)
    for name, found in (("fast", fast), ("plain", plain)):
        print(f"{name}: {mean(found):.2%} ± {stdev(found) * 100:.2f} points")
    verdict = "within" if abs(difference) <= bound else "beyond"
    print(
        f"difference {difference * 100:+.2f} points, {verdict} what {count} seeds leave open ({bound * 100:.2f} points)"
    )


if __name__ == "__main__":
    sys.exit(main())
