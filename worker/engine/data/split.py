"""Drawing test and validation from the training split, class by class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from worker.engine.data.images import Dataset, Origin, RawDataset
from worker.engine.errors import EmptySplit
from worker.engine.random import derive, shuffled

TEST_FRACTION = 0.1
_TEST_SEED = 0
"""One for all jobs: a job may start from another's student, which must not have seen what it is tested on."""


def split_dataset(raw: RawDataset, *, validation: float, seed: int) -> Dataset:
    """The splits of a job. A missing test split is a tenth of train, the same for every ``seed``; ``validation`` is a
    fraction of what remains, drawn by the seed.

    A set that brings a validation split is validated on that one, unless ``validation`` is 0.

    Raises EmptySplit for a class without a training image, and when one would be left without any in a drawn split.
    """
    counts = torch.bincount(raw.train.labels, minlength=len(raw.classes)).tolist()
    empty = [name for name, count in zip(raw.classes, counts, strict=True) if not count]
    if empty:
        message = f"{len(empty)} of the {len(raw.classes)} classes have no training image: {', '.join(empty[:10])}."
        raise EmptySplit(message, remedy="Give every class training images, or leave it out of the data set.")
    places, drawn_test = torch.arange(len(raw.train)), None
    test, held_out = raw.test, None
    if test is None:
        places, drawn_test = _draw(raw.train.labels, TEST_FRACTION, raw.classes, split="test", seed=_TEST_SEED)
        test = raw.train.take(drawn_test)
    if validation > 0 and raw.validation is not None:
        held_out = raw.validation
    elif validation > 0:
        stays, drawn = _draw(raw.train.labels[places], validation, raw.classes, split="validation", seed=seed)
        held_out, places = raw.train.take(places[drawn]), places[stays]
    return Dataset(
        name=raw.name,
        classes=raw.classes,
        mean=raw.mean,
        std=raw.std,
        train=raw.train if len(places) == len(raw.train) else raw.train.take(places),
        validation=held_out,
        test=test,
        origin=Origin(len(raw.train), places, drawn_test, None if raw.test is None else len(raw.test), raw.names),
        stored_sha256=raw.sha256,
    )


def _draw(labels: Tensor, fraction: float, classes: Sequence[str], *, split: str, seed: int) -> tuple[Tensor, Tensor]:
    """The places of what stays and of what is drawn, each in the order of the original."""
    drawn = torch.zeros(len(labels), dtype=torch.bool)
    for index, name in enumerate(classes):
        members = (labels == index).nonzero().flatten()
        count = round(len(members) * fraction)
        if not 0 < count < len(members):
            message = f"a {split} fraction of {fraction} takes {count} of the {len(members)} images of class {name!r}."
            raise EmptySplit(message, remedy="Choose a fraction that leaves images of every class on both sides.")
        drawn[shuffled(members, seed=derive(seed, "split", split), epoch=0)[:count]] = True
    return (~drawn).nonzero().flatten(), drawn.nonzero().flatten()
