"""A network as a short list of layers, and the arithmetic that says whether they fit, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Annotated, Literal

from pydantic import Field

from stillhouse.spec.base import SpecModel

Shape = tuple[int, ...]
"""(channels, height, width) of a map, or (features,) of a vector."""

MAX_LAYERS = 200
MAX_NESTING = 3

Channels = Annotated[int, Field(ge=1, le=4096)]
Kernel = Annotated[int, Field(ge=1, le=31)]
Stride = Annotated[int, Field(ge=1, le=31)]


class Conv(SpecModel):
    """2-d convolution. Without ``padding`` the kernel's half is used, which keeps the size at stride 1."""

    name: Literal["conv"]
    channels: Channels
    kernel: Kernel = 3
    stride: Stride = 1
    padding: Annotated[int, Field(ge=0, le=31)] | None = None
    groups: Channels = 1
    bias: bool = True


class BatchNorm(SpecModel):
    """Batch normalisation of a map's channels or a vector's features."""

    name: Literal["batchnorm"]


class Activation(SpecModel):
    """A pointwise non-linearity."""

    name: Literal["relu", "gelu"]


class Pool(SpecModel):
    """Largest value or average of each window; the stride is the kernel unless given."""

    name: Literal["maxpool", "avgpool"]
    kernel: Kernel = 2
    stride: Stride | None = None
    padding: Annotated[int, Field(ge=0, le=15)] = 0


class GlobalPool(SpecModel):
    """Average over all positions: a map becomes a vector."""

    name: Literal["globalpool"]


class Flatten(SpecModel):
    """A map becomes a vector of all its values."""

    name: Literal["flatten"]


class Linear(SpecModel):
    """Fully connected. Without ``features`` there is one output for each class."""

    name: Literal["linear"]
    features: Annotated[int, Field(ge=1, le=65_536)] | None = None


class Dropout(SpecModel):
    """Zeroes values at random while training."""

    name: Literal["dropout"]
    rate: float = Field(default=0.5, ge=0, lt=1)


class Residual(SpecModel):
    """Its layers' output plus its input, the latter through a 1x1 convolution and batch norm where shapes differ."""

    name: Literal["residual"]
    layers: list[Layer] = Field(min_length=1, max_length=MAX_LAYERS)


Layer = Annotated[
    Conv | BatchNorm | Activation | Pool | GlobalPool | Flatten | Linear | Dropout | Residual,
    Field(discriminator="name"),
]
Residual.model_rebuild()


class LayerShapeError(ValueError):
    """Layers that do not fit; ``path`` leads to the one at fault."""

    def __init__(self, message: str, path: Sequence[int | str]) -> None:
        super().__init__(message)
        self.path = list(path)


@dataclass
class LayerFootprint:
    """What a list of layers comes to."""

    parameters: int = 0
    macs: int = 0
    """Multiply-adds of convolutions and linear layers for one image."""
    shapes: list[Shape] = field(default_factory=list)
    """After each layer of the outermost list."""


def trace(layers: Sequence[Layer], *, input_shape: Shape, classes: int) -> LayerFootprint:
    """Follow an image's shape through ``layers``. Raises LayerShapeError where they do not fit."""
    tracer = Tracer(classes)
    total = LayerFootprint()
    shape = input_shape
    for index, layer in enumerate(layers):
        shape = tracer.follow(layer, shape, [index])
        total.shapes.append(shape)
    if shape != (classes,):
        message = f"the network ends in {_say(shape)}, but the data has {classes} classes; end with {{name: linear}}"
        raise LayerShapeError(message, [len(layers) - 1])
    total.parameters, total.macs = tracer.parameters, tracer.macs
    return total


class Tracer:
    """Follows an image's shape from layer to layer, and counts."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.parameters = 0
        self.macs = 0
        self.seen = 0

    def follow(  # noqa: PLR0911  # one return for each kind of layer
        self, layer: Layer, shape: Shape, path: list[int | str]
    ) -> Shape:
        """The shape after ``layer``; ``path`` leads to it in messages. Raises LayerShapeError."""
        self.seen += 1
        if self.seen > MAX_LAYERS:
            raise LayerShapeError(f"more than {MAX_LAYERS} layers, nested ones counted; use a named architecture", path)
        match layer:
            case Conv():
                return self._conv(layer, _map(layer.name, shape, path), path)
            case BatchNorm():
                self.parameters += 2 * shape[0]
                return shape
            case Pool():
                channels, height, width = _map(layer.name, shape, path)
                stride = layer.stride or layer.kernel
                if layer.padding > layer.kernel // 2:
                    raise LayerShapeError(f"{layer.name}: padding may be at most half the kernel", path)
                sides = (
                    _slide(side, layer.kernel, stride, layer.padding, layer.name, path) for side in (height, width)
                )
                return (channels, *sides)
            case GlobalPool():
                return (_map(layer.name, shape, path)[0],)
            case Flatten():
                return (prod(_map(layer.name, shape, path)),)
            case Linear():
                return self._linear(layer, shape, path)
            case Residual():
                return self._residual(layer, shape, path)
            case _:
                return shape

    def _conv(self, layer: Conv, shape: tuple[int, int, int], path: list[int | str]) -> Shape:
        channels, height, width = shape
        if channels % layer.groups or layer.channels % layer.groups:
            message = (
                f"conv: groups {layer.groups} must divide both {channels} input and {layer.channels} output channels"
            )
            raise LayerShapeError(message, path)
        padding = layer.kernel // 2 if layer.padding is None else layer.padding
        rows, columns = (_slide(side, layer.kernel, layer.stride, padding, "conv", path) for side in (height, width))
        weights = layer.channels * (channels // layer.groups) * layer.kernel**2
        self.parameters += weights + (layer.channels if layer.bias else 0)
        self.macs += weights * rows * columns
        return (layer.channels, rows, columns)

    def _linear(self, layer: Linear, shape: Shape, path: list[int | str]) -> Shape:
        if len(shape) != 1:
            raise LayerShapeError(
                f"linear takes a vector but gets {_say(shape)}; add flatten or globalpool before it", path
            )
        features = layer.features or self.classes
        self.parameters += shape[0] * features + features
        self.macs += shape[0] * features
        return (features,)

    def _residual(self, layer: Residual, shape: Shape, path: list[int | str]) -> Shape:
        if path.count("layers") >= MAX_NESTING:
            raise LayerShapeError(f"residual layers nest deeper than {MAX_NESTING}", path)
        channels, height, width = _map("residual", shape, path)
        inner = shape
        for index, nested in enumerate(layer.layers):
            inner = self.follow(nested, inner, [*path, "layers", index])
        if len(inner) != 3:
            raise LayerShapeError(f"residual: its layers end in {_say(inner)}, which cannot be added to a map", path)
        if inner != shape:
            stride = -(-height // inner[1])
            fits = all((side - 1) // stride + 1 == out for side, out in ((height, inner[1]), (width, inner[2])))
            if not fits:
                message = (
                    f"residual: its layers turn {_say(shape)} into {_say(inner)}, which no strided 1x1 shortcut gives"
                )
                raise LayerShapeError(message, path)
            self.parameters += channels * inner[0] + 2 * inner[0]
            self.macs += channels * prod(inner)
        return inner


def _map(name: str, shape: Shape, path: list[int | str]) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise LayerShapeError(f"{name} takes a map but gets {_say(shape)}; put it before flatten or globalpool", path)
    channels, height, width = shape
    return channels, height, width


def _slide(side: int, kernel: int, stride: int, padding: int, name: str, path: list[int | str]) -> int:
    if side + 2 * padding < kernel:
        message = (
            f"{name}: a kernel of {kernel} does not fit a side of {side} (padding {padding}); shrink less before it"
        )
        raise LayerShapeError(message, path)
    return (side + 2 * padding - kernel) // stride + 1


def _say(shape: Shape) -> str:
    return f"a map of {'x'.join(map(str, shape))}" if len(shape) == 3 else f"a vector of {shape[0]}"
