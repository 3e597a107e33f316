"""What an uploaded network is worth on a data set: its accuracy, and whether it is shown what it was trained on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from worker.engine import aptitude, weights
from worker.engine.data import Dataset, ImageSet, store
from worker.engine.data.split import split_dataset
from worker.engine.errors import EngineError
from worker.engine.evaluate import evaluate, images_at_once
from worker.engine.memory import first_line, out_of_memory
from worker.engine.network import Network
from worker.engine.random import permutation

_PIECE, _VALUES = 64, 2**22
"""Images between two signs of life; fewer where the network takes large ones."""
_RECOGNISED_BY = 64


def appraise(
    bundle: Path, stored: Path, *, asked: Mapping[str, Any], report: dict[str, Any], alive: Callable[[], None]
) -> None:
    """Add ``accuracy``, ``notes`` and ``warnings`` to ``report`` of the model that ``bundle`` holds.

    ``asked`` has the data set's name as it was asked for, the seconds this may take and, where the set could not be
    brought into ``stored``, why (``problem``). A network that cannot be measured is a network all the same.
    """
    warnings: list[str] = report.setdefault("warnings", [])
    notes: list[str] = report.setdefault("notes", [])
    name, problem = asked["dataset"], asked["problem"]
    if problem is None:
        try:
            report["accuracy"] = _accuracy(bundle, stored, asked=asked, notes=notes, warnings=warnings, alive=alive)
        except EngineError as error:
            problem = f"{error} {error.remedy}".strip()
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            problem = first_line(error)
    if problem is not None:
        warnings.append(f"the accuracy on {name} could not be measured: {problem}")


def _accuracy(
    bundle: Path,
    stored: Path,
    *,
    asked: Mapping[str, Any],
    notes: list[str],
    warnings: list[str],
    alive: Callable[[], None],
) -> dict[str, Any]:
    raw = store.load(stored)
    dataset = split_dataset(raw, validation=0, seed=0)
    if raw.test is None:
        notes.append(f"{asked['dataset']} has no test split: jobs are tested on a tenth of train, and so was this")
    network = _opened(bundle, dataset, notes, warnings)
    _look(network, dataset.train, warnings)
    measured = _measure(network, dataset.test, seconds=asked["seconds"], alive=alive)
    if measured["images"] < len(dataset.test):
        notes.append(
            f"accuracy is that on {measured['images']:,} of {len(dataset.test):,} test images, drawn at random: "
            f"more of them would have taken longer than {asked['seconds']:.0f} s"
        )
    return {"dataset": asked["dataset"], "split": "test", **measured}


def _opened(bundle: Path, dataset: Dataset, notes: list[str], warnings: list[str]) -> Network:
    """The network as a job would open it as a teacher."""
    given = weights.load(bundle, "model")
    if set(given.classes) != set(dataset.classes) and len(given.classes) == len(dataset.classes):
        warnings.append(
            f"the model's classes ({_first(given.classes)}) are called otherwise than the set's "
            f"({_first(dataset.classes)}); they were taken to be the same, in the same order"
        )
    if given.architecture != weights.ONNX:
        return weights.rebuild(given, classes=dataset.classes)[0].eval()
    samples = dataset.train.images[:_RECOGNISED_BY].float().div(255)
    network, kind = weights.open_black_box(bundle, "model", classes=dataset.classes, samples=samples)
    notes.append(f"what the ONNX file answers was taken for {kind}")
    return network


def _look(network: Network, train: ImageSet, warnings: list[str]) -> None:
    """Warn of what would end a job with this teacher as ``teacher_mismatch``."""
    images = train.take(aptitude.drawn(aptitude.LOOKED_AT, len(train)))
    found = evaluate(network, images)
    look = aptitude.judge(found.predictions, images.labels)
    better = aptitude.better_preprocessing(network, images, look.accuracy)
    if better is not None:
        seen = f"right on {look.accuracy:.1%} of {len(images)} training images, but on {better.seen}"
        warnings.append(f"{seen}. {better.remedy}")
    elif not look.knows:
        seen = look.sentence(len(images))
        warnings.append(f"{seen}. Check mean and deviation, the order of its classes and its input size.")


def _measure(network: Network, test: ImageSet, *, seconds: float, alive: Callable[[], None]) -> dict[str, Any]:
    """Over as much of the test split, in a random order, as the time allows; most often that is all of it."""
    piece = min(_PIECE, images_at_once(network, values=_VALUES))
    order = permutation(len(test), seed=0, epoch=0, device=torch.device("cpu"))
    until = time.monotonic() + seconds
    sums, images = dict.fromkeys(("top1", "top5", "loss"), 0.0), 0
    for some in torch.split(order, piece):
        found = evaluate(network, test.take(some))
        sums = {name: total + getattr(found, name) * len(some) for name, total in sums.items()}
        images += len(some)
        alive()
        if time.monotonic() > until:
            break
    return {**{name: total / images for name, total in sums.items()}, "images": images}


def _first(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
