"""``python -m benchmarks.engine.pictures``: a folder of JPEGs through the engine and through torchvision's pipeline.

torchvision's, from the description of its reference scripts for classification: ``ImageFolder`` with PIL,
``RandomResizedCrop(224)`` and ``RandomHorizontalFlip``, to a tensor, to float, normalised, in as many ``DataLoader``
workers as there are cores. The engine decodes each file once, when it is uploaded, to uint8 at one size in a file that
is mapped, and makes each epoch's views (``crop-flip``) of that. Both sides take turns in one process, each turn's
ratio is taken, and the median of them is printed; the first batch of an epoch is not timed on either side.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks.engine import baseline, data, ours
from benchmarks.engine.report import hardware, in_turns, row
from worker.engine.data import RawDataset, store
from worker.engine.data.ingest import Ingest
from worker.engine.methods import METHODS
from worker.engine.network import Network, Preprocessing, build_network
from worker.engine.run import Run
from worker.engine.teacher import LiveTeacher

_SIDE, _TAUGHT = 224, 256
_SHARES = (1, 2, 5, 10, 100)
"""Epochs over which the cost of decoding is shared out."""


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine.pictures", description=__doc__)
    parser.add_argument("--folder", type=Path, help="a folder of images in folders of their classes; else made ones")
    parser.add_argument("--images", type=int, default=600, help="made JPEGs, of sides from 256 to 500")
    parser.add_argument("--turns", type=int, default=3, help="the median of their ratios is printed")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--teacher", default="torchvision/resnet18")
    parser.add_argument("--student", default="torchvision/mobilenet_v3_small")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--input-alone", action="store_true", help="train nothing")
    options = parser.parse_args()
    torch.use_deterministic_algorithms(mode=True, warn_only=True)  # as a job's child does
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # torch's stubs lack it
    print(hardware())
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or data.photographs(Path(scratch) / "made", options.images)
        raw, decoding = _decoded(folder, Path(scratch))
        count = sum(len(split) for split in (raw.train, raw.validation, raw.test) if split is not None)
        each, side = decoding / count * 1000, raw.train.images.shape[-1]
        decoding *= len(raw.train) / count
        print(f"{len(raw.train)} images decoded once to {side}x{side}: {decoding:.1f} s, {each:.2f} ms an image")
        _input_alone(options, folder, raw, decoding)
        if not options.input_alone:
            _distillation(options, folder, raw)
    return 0


def _decoded(folder: Path, scratch: Path) -> tuple[RawDataset, float]:
    """The folder as a job has it, once it was uploaded; and the seconds that its validation took."""
    archive = scratch / "upload.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            file.write(path, path.relative_to(folder))
    began = time.perf_counter()
    ingest = Ingest(archive, scratch=scratch / "unpacked", image_size=_SIDE, report={}, alive=lambda: None)
    ingest.run(scratch / "stored", name="pictures")
    return store.load(scratch / "stored"), time.perf_counter() - began


def _input_alone(options: argparse.Namespace, folder: Path, raw: RawDataset, decoding: float) -> None:
    """Normalised float batches, one after the other, and nothing done with them."""
    run = _run(options, raw, _network(options.student, raw, seed=2), teacher=None)
    rates = in_turns({"ours": _batches(run), "torchvision": _loaded(_loader(folder, options.batch))}, options.turns)
    ratios = [one / other for one, other in zip(rates["ours"], rates["torchvision"], strict=True)]
    row("input alone", rates["ours"], ratios, "images/s")
    row("torchvision's", rates["torchvision"], [1.0], "images/s")
    epoch = {name: len(raw.train) / median(found) for name, found in rates.items()}
    shared = (epochs * epoch["torchvision"] / (decoding + epochs * epoch["ours"]) for epochs in _SHARES)
    said = ", ".join(f"{ratio:.2f} of {epochs}" for ratio, epochs in zip(shared, _SHARES, strict=True))
    print(f"with the decoding, by epochs of a training: {said}")


def _distillation(options: argparse.Namespace, folder: Path, raw: RawDataset) -> None:
    """Whole epochs: kd with a live teacher, the same networks, batch and loss on both sides."""
    teacher = ours.informed(
        _network(options.teacher, raw, seed=1),
        raw.train.take(torch.linspace(0, len(raw.train) - 1, min(_TAUGHT, len(raw.train))).long()),
    )
    print(f"{options.teacher} -> {options.student}, batch {options.batch}, {options.precision}, {options.turns} turns")
    theirs = [_plain(options.teacher, raw, like=teacher), _plain(options.student, raw)]
    run = _run(options, raw, _network(options.student, raw, seed=2), teacher=teacher)
    loops = {
        "ours": ours.epochs(run),
        "torchvision": baseline.epochs(theirs[0].body, theirs[1].body, _loader(folder, options.batch)),
    }
    rates = in_turns(loops, options.turns)
    ratios = [one / other for one, other in zip(rates["ours"], rates["torchvision"], strict=True)]
    row("distillation", rates["ours"], ratios, "images/s")
    row("torchvision's", rates["torchvision"], [1.0], "images/s")


def _run(options: argparse.Namespace, raw: RawDataset, student: Network, *, teacher: Network | None) -> Run:
    precision = ours.FP32 if options.precision == "fp32" else ours.BF16
    return ours.build_run(
        student,
        None if teacher is None else LiveTeacher(teacher, precision=precision),
        raw.train,
        method=METHODS["none" if teacher is None else "kd"](),
        recipe=ours.build_recipe(precision=precision, augmentation="crop-flip", batch=options.batch),
    )


def _batches(run: Run) -> Iterator[float]:
    """The engine's, for ever; after each epoch its images per second."""
    epoch = 0
    while True:
        epoch += 1
        parts = torch.split(run.views.of_epoch(seed=0, epoch=epoch), run.recipe.batch_size)
        yield _rate(run.student.prepare(run.views.show(rows)) for rows in parts)


def _loaded(loader: baseline.Batches) -> Iterator[float]:
    while True:
        yield _rate(views for views, _ in loader)


def _rate(batches: Iterator[torch.Tensor]) -> float:
    next(batches)
    began = time.perf_counter()
    done = sum(len(batch) for batch in batches)
    return done / (time.perf_counter() - began)


def _loader(folder: Path, batch: int) -> baseline.Batches:
    train = folder / "train" if (folder / "train").is_dir() else folder
    steps: list[Callable[[Any], Any]] = [
        transforms.RandomResizedCrop(_SIDE),
        transforms.RandomHorizontalFlip(),
        transforms.PILToTensor(),
        transforms.ConvertImageDtype(torch.float),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
    pictures = datasets.ImageFolder(str(train), transforms.Compose(steps))
    return DataLoader(pictures, batch_size=batch, shuffle=True, num_workers=len(os.sched_getaffinity(0)))


def _plain(name: str, raw: RawDataset, *, like: Network | None = None) -> Network:
    """As the scripts build it, in torch's default memory format."""
    network = _network(name, raw, seed=2)
    if like is not None:
        network.load_state_dict(like.state_dict())
    network.body.to(memory_format=torch.contiguous_format)
    return network


def _network(name: str, raw: RawDataset, *, seed: int) -> Network:
    shape = Preprocessing((3, _SIDE, _SIDE), raw.mean, raw.std)
    return build_network(architecture=name, classes=len(raw.classes), preprocessing=shape, seed=seed)


if __name__ == "__main__":
    sys.exit(main())
