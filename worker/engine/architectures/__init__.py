"""Every named architecture. To add one: a file here, a line here, then ``make catalog``.

Bare names are the families of the distillation literature; ``torchvision/NAME`` and ``timm/NAME`` are those libraries'.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from worker.engine.architecture import Architecture, Published
from worker.engine.architectures import from_timm, from_torchvision
from worker.engine.architectures.lenet5 import LeNet5
from worker.engine.architectures.mobilenetv2 import MobileNetV2
from worker.engine.architectures.resnet import ResNet
from worker.engine.architectures.shufflenetv1 import ShuffleNetV1
from worker.engine.architectures.shufflenetv2 import ShuffleNetV2
from worker.engine.architectures.vgg import VGG
from worker.engine.architectures.wrn import WideResNet


def _resnet(
    depth: int, widths: tuple[int, int, int, int], classes: int, channels: int, _size: tuple[int, int]
) -> nn.Module:
    return ResNet(depth, widths, classes=classes, channels=channels)


def _wrn(depth: int, widen: int, classes: int, channels: int, _size: tuple[int, int]) -> nn.Module:
    return WideResNet(depth, widen, classes=classes, channels=channels)


def _vgg(depths: tuple[int, int, int, int, int], classes: int, channels: int, _size: tuple[int, int]) -> nn.Module:
    return VGG(depths, classes=classes, channels=channels)


def _lenet5(classes: int, channels: int, size: tuple[int, int]) -> nn.Module:
    return LeNet5(classes=classes, channels=channels, size=size)


def _plain(
    network: type[MobileNetV2 | ShuffleNetV1 | ShuffleNetV2], classes: int, channels: int, _size: tuple[int, int]
) -> nn.Module:
    return network(classes=classes, channels=channels)


_NARROW, _WIDE = (16, 16, 32, 64), (32, 64, 128, 256)
_RESNETS = {f"resnet{depth}": (depth, _NARROW) for depth in (8, 14, 20, 32, 44, 56, 110)}
_RESNETS |= {"resnet8x4": (8, _WIDE), "resnet32x4": (32, _WIDE)}
_WRNS = {f"wrn_{depth}_{widen}": (depth, widen) for depth in (16, 40) for widen in (1, 2)}
_VGGS = {
    "vgg8": (1, 1, 1, 1, 1),
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}

_ALL = [
    Architecture("lenet5", "lenet", _lenet5, 8, "LeCun, Bottou, Bengio, Haffner (1998)"),
    *(
        Architecture(name, "resnet", partial(_resnet, *given), 4, "He, Zhang, Ren, Sun (2016), section 4.2")
        for name, given in _RESNETS.items()
    ),
    *(
        Architecture(name, "wrn", partial(_wrn, *given), 4, "Zagoruyko, Komodakis (2016), table 1")
        for name, given in _WRNS.items()
    ),
    *(
        Architecture(name, "vgg", partial(_vgg, depths), 8, "Simonyan, Zisserman (2015), with batch norm")
        for name, depths in _VGGS.items()
    ),
    Architecture("mobilenetv2", "mobilenetv2", partial(_plain, MobileNetV2), 4, "Sandler and others (2018)"),
    Architecture("shufflenetv1", "shufflenet", partial(_plain, ShuffleNetV1), 4, "Zhang, Zhou, Lin, Sun (2018)"),
    Architecture("shufflenetv2", "shufflenet", partial(_plain, ShuffleNetV2), 4, "Ma, Zhang, Zheng, Sun (2018)"),
]
ARCHITECTURES: dict[str, Architecture] = {architecture.name: architecture for architecture in _ALL}
"""The bare names."""

LIBRARIES = {"torchvision": from_torchvision, "timm": from_timm}
"""By prefix: each knows its ``names()`` and can ``find`` one."""


def find(name: str) -> Architecture | None:
    """The architecture called ``name``, if there is one. Imports a library only when the name is of it."""
    prefix, slash, inner = name.partition("/")
    if slash and prefix in LIBRARIES:
        found: Architecture | None = LIBRARIES[prefix].find(inner)
        return found
    return ARCHITECTURES.get(name)


def published(name: str) -> Published | None:
    """The weights that a library publishes for ``name``, which may end in the tag of one of several, if it does."""
    prefix, _, inner = name.partition("/")
    if prefix not in LIBRARIES:
        return None
    found: Published | None = LIBRARIES[prefix].published(inner)
    return found
