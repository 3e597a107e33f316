"""A network from a list of layers; ``stillhouse.spec.layers`` has the same arithmetic without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from torch import Tensor, nn

from worker.engine.errors import ArchitectureError

Shape = tuple[int, ...]


class Residual(nn.Module):
    """The branch's output plus the input, through a projection where shapes differ."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut

    def forward(self, maps: Tensor) -> Tensor:
        total: Tensor = self.branch(maps) + self.shortcut(maps)
        return total


def build_layers(
    layers: Sequence[Mapping[str, Any]], *, classes: int, channels: int, size: tuple[int, int]
) -> nn.Sequential:
    """``layers`` as plain dicts with their defaults filled in. Raises ArchitectureError when they do not fit."""
    try:
        network, shape = _sequence(layers, (channels, *size), classes)
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise ArchitectureError(
            f"the layers do not fit together: {error}.", remedy="Check them with a dry run."
        ) from error
    if shape != (classes,):
        raise ArchitectureError(
            f"the layers end in {shape}, not in {classes} logits.", remedy="End with a linear layer."
        )
    return network


def _sequence(layers: Sequence[Mapping[str, Any]], shape: Shape, classes: int) -> tuple[nn.Sequential, Shape]:
    modules = []
    for layer in layers:
        module, shape = _layer(layer, shape, classes)
        modules.append(module)
    return nn.Sequential(*modules), shape


def _layer(  # noqa: C901, PLR0911  # one case for each kind of layer
    layer: Mapping[str, Any], shape: Shape, classes: int
) -> tuple[nn.Module, Shape]:
    match layer["name"]:
        case "conv":
            return _conv(layer, shape)
        case "batchnorm":
            return (nn.BatchNorm2d(shape[0]) if len(shape) == 3 else nn.BatchNorm1d(shape[0])), shape
        case "relu":
            return nn.ReLU(), shape
        case "gelu":
            return nn.GELU(), shape
        case "maxpool" | "avgpool" as name:
            kernel, stride, padding = layer["kernel"], layer["stride"] or layer["kernel"], layer["padding"]
            pool = nn.MaxPool2d if name == "maxpool" else nn.AvgPool2d
            sides = ((side + 2 * padding - kernel) // stride + 1 for side in shape[1:])
            return pool(kernel, stride, padding), (shape[0], *sides)
        case "globalpool":
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), (shape[0],)
        case "flatten":
            return nn.Flatten(), (prod(shape),)
        case "linear":
            features = layer["features"] or classes
            return nn.Linear(shape[0], features), (features,)
        case "dropout":
            return nn.Dropout(layer["rate"]), shape
        case "residual":
            return _residual(layer, shape, classes)
        case name:
            raise ValueError(f"no layer is called {name!r}")


def _conv(layer: Mapping[str, Any], shape: Shape) -> tuple[nn.Module, Shape]:
    kernel, stride = layer["kernel"], layer["stride"]
    padding = kernel // 2 if layer["padding"] is None else layer["padding"]
    module = nn.Conv2d(
        shape[0], layer["channels"], kernel, stride=stride, padding=padding, groups=layer["groups"], bias=layer["bias"]
    )
    return module, (layer["channels"], *((side + 2 * padding - kernel) // stride + 1 for side in shape[1:]))


def _residual(layer: Mapping[str, Any], shape: Shape, classes: int) -> tuple[nn.Module, Shape]:
    branch, out = _sequence(layer["layers"], shape, classes)
    if out == shape:
        return Residual(branch, nn.Identity()), out
    stride = -(-shape[1] // out[1])
    if tuple((side - 1) // stride + 1 for side in shape[1:]) != out[1:]:  # adding would broadcast, or fail later
        raise ValueError(f"no strided 1x1 shortcut turns {shape} into {out}")
    projection = nn.Conv2d(shape[0], out[0], 1, stride=stride, bias=False)
    return Residual(branch, nn.Sequential(projection, nn.BatchNorm2d(out[0]))), out
