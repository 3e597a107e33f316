"""Whether a network knows some images, and whether it would know them far better under another preprocessing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.engine.data import ImageSet
from worker.engine.evaluate import evaluate
from worker.engine.network import Network, Preprocessing
from worker.engine.random import permutation

LOOKED_AT = 512
"""Images of which a look at a network takes notice."""
_CLEARLY_BETTER = 0.1
"""In accuracy: by more than this, and with half the errors."""
_STATISTICS = "Its mean and deviation are not those it was trained with; give the model the right ones."
_BLUE_FIRST = (
    "It was trained on channels in the order blue, green, red, and it is shown red, green, blue: exchange the first "
    "and the last input channel in its first layer's weights."
)

Statistics = tuple[float, ...]


@dataclass(frozen=True)
class Better:
    """A preprocessing under which a network halves its errors."""

    seen: str
    """How many it gets right then, and how that is: to end a sentence with."""
    remedy: str


@dataclass(frozen=True)
class Look:
    """What a network makes of some images, held against one that names classes without looking."""

    accuracy: float
    """The share it is right on."""
    recall: float
    """The mean of that share over the classes that the images are of: a rare class counts as a frequent one does."""
    chance: float
    """The recall of a network that always names the same class, or any at random."""
    needed: float
    """A recall that stands clear of chance: by three deviations of one that names each class as often as this network
    does, and at most half way to a network that is always right."""
    classes: int

    @property
    def knows(self) -> bool:
        """Whether it stands clear; images of one class alone do not tell, so that they are held against nobody."""
        return self.classes == 1 or self.recall > self.needed + 1e-9

    def sentence(self, images: int) -> str:
        """What was seen, to follow the network's name."""
        return (
            f"right on {self.accuracy:.1%} of {images} training images, and on {self.recall:.1%} in the mean over "
            f"their {self.classes} classes, where guessing gives {self.chance:.1%}"
        )


def judge(named: Tensor, labels: Tensor) -> Look:
    """Of images with ``labels`` (int64 [N]) the classes that were ``named``."""
    named, labels = named.cpu(), labels.cpu()
    counts = torch.bincount(labels)
    classes = counts.nonzero().flatten()
    counts, right = counts[classes], (named == labels).double()
    recall = torch.bincount(labels, weights=right)[classes] / counts
    said = (named[:, None] == classes).double().mean(dim=0)
    chance = 1 / len(classes)
    deviation = chance * math.sqrt(float((said * (1 - said) / counts).sum()))
    needed = min(chance + 3 * deviation, (1 + chance) / 2)
    return Look(float(right.mean()), float(recall.mean()), chance, needed, len(classes))


def drawn(count: int, total: int) -> Tensor:
    """At random ``count`` of ``total`` places or, of fewer, all: int64, ascending.

    Images often lie class by class, or in turns, so neither the first ones nor each n-th would do.
    """
    order = permutation(total, seed=0, epoch=0, device=torch.device("cpu"))
    return order[:count].sort().values


def better_preprocessing(network: Network, images: ImageSet, accuracy: float) -> Better | None:
    """The preprocessing it was trained with, where the network's is clearly another.

    ``accuracy`` is the share of ``images`` it is right on as it is.
    """
    given, device = network.preprocessing, network.mean.device
    best, how, remedy = accuracy, "", _STATISTICS
    for name, mean, std in _other_statistics(images.images, given.shape[0]):
        other = Network(network.body, Preprocessing(given.shape, mean, std)).to(device).eval()
        found = evaluate(other, images).top1
        best, how = (found, name) if found > best else (best, how)
    if images.images.shape[1] == given.shape[0] == 3:
        found = evaluate(network, ImageSet(images.images.flip(1), images.labels)).top1
        if found > best:
            best, how, remedy = found, "red and blue exchanged", _BLUE_FIRST
    clearly = best - accuracy > _CLEARLY_BETTER and 1 - best < (1 - accuracy) / 2
    return Better(f"{best:.1%} with {how}", remedy) if clearly else None


def _other_statistics(images: Tensor, channels: int) -> Iterator[tuple[str, Statistics, Statistics]]:
    """Name, mean and deviation of what a network is often trained with."""
    if images.shape[1] == channels:
        pixels = images.float().div(255).transpose(0, 1).flatten(1)
        mean, std = tuple(pixels.mean(dim=1).tolist()), tuple(pixels.std(dim=1).clamp_min(1e-3).tolist())
        shown = (", ".join(f"{value:.4f}" for value in values) for values in (mean, std))
        yield "the training images' own mean ({}) and deviation ({})".format(*shown), mean, std
    yield "values of 0 to 1 as they are (mean 0, deviation 1)", (0.0,) * channels, (1.0,) * channels
    yield "mean 0.5 and deviation 0.5", (0.5,) * channels, (0.5,) * channels
