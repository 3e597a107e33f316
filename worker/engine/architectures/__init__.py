"""Every named architecture. To add one: a file here, a line here, then ``make catalog``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from worker.engine.architectures.lenet5 import LeNet5
from worker.engine.architectures.resnet import ResNet
from worker.engine.points import FeaturePoints

Builder = Callable[[int, int, tuple[int, int]], nn.Module]
"""(classes, channels, (height, width)) to a network that gives logits."""


@dataclass(frozen=True)
class Architecture:
    """A network that a spec may name."""

    name: str
    family: str
    build: Builder
    minimum_size: int
    """Smallest side of an image it can take."""
    source: str
    points: FeaturePoints | None = None
    """Where methods read features by default. None derives them from the modules (``worker.engine.points.derive``):
    right wherever each stage, and the activation that ends it, is a module."""


def _resnet(
    depth: int, widths: tuple[int, int, int, int], classes: int, channels: int, _size: tuple[int, int]
) -> nn.Module:
    return ResNet(depth, widths, classes=classes, channels=channels)


def _lenet5(classes: int, channels: int, size: tuple[int, int]) -> nn.Module:
    return LeNet5(classes=classes, channels=channels, size=size)


_NARROW, _WIDE = (16, 16, 32, 64), (32, 64, 128, 256)
_HE = "He, Zhang, Ren, Sun (2016), section 4.2"
_RESNETS = {f"resnet{depth}": (depth, _NARROW) for depth in (8, 14, 20, 32, 44, 56, 110)}
_RESNETS |= {"resnet8x4": (8, _WIDE), "resnet32x4": (32, _WIDE)}

ARCHITECTURES: dict[str, Architecture] = {
    "lenet5": Architecture("lenet5", "lenet", _lenet5, 8, "LeCun, Bottou, Bengio, Haffner (1998)"),
    **{
        name: Architecture(name, "resnet", partial(_resnet, depth, widths), 4, _HE)
        for name, (depth, widths) in _RESNETS.items()
    },
}
