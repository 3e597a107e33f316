"""What an architecture is, and what can be done to a network from outside: other input channels, a small stem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from worker.engine.errors import ArchitectureError
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
    """Smallest side of an image it can take; 1 where only a trial tells."""
    source: str
    input_size: int | None = None
    """The side it was designed for."""
    fixed: bool = False
    """Whether it takes images of that side only."""
    first_convolution: str | None = None
    """Path of the stem's first convolution, where ``stem: small`` can be had."""
    points: FeaturePoints | None = None
    """Where methods read features by default. None derives them from the modules (``worker.engine.points.derive``):
    right wherever each stage, and the activation that ends it, is a module."""


@dataclass(frozen=True)
class Published:
    """The weights a library publishes for one of its networks, and what they were made for."""

    architecture: str
    """The network's name, without the tag of these weights."""
    url: str
    files: tuple[str, ...]
    """Where they may lie in a folder of weights, the likeliest first."""
    sha256_prefix: str
    """What the library knows of their digest; empty where it knows nothing."""
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    load: Callable[[Path], nn.Module]
    """The network with the weights of this file."""


class _EmptyOnMeta(TorchFunctionMode):
    """Weights without memory. Numbers that a constructor reckons with stay real; torch.device would move both."""

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        if func is torch.empty:
            given["device"] = "meta"
        return func(*args, **given)


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """What ``build`` makes, on the meta device: shapes without weights."""
    try:
        with _EmptyOnMeta():
            body = build()
    except RuntimeError:  # a constructor that tries a part of its network finds real numbers beside weights without
        with torch.device("meta"):
            body = build()
    return body.to("meta").requires_grad_(requires_grad=False).eval()


def small_stem(body: nn.Module, architecture: Architecture) -> None:
    """For images of 64 or less: the first convolution at stride 1, 3x3 if it was 7x7, and no max pool behind it.

    Changes ``body``. Raises ArchitectureError for a network whose stem is another kind.
    """
    path = architecture.first_convolution
    convolution = body.get_submodule(path) if path is not None else None
    if path is None or not isinstance(convolution, nn.Conv2d) or not has_small_stem(convolution):
        raise ArchitectureError(
            f"{architecture.name} has no stem that could be made small.",
            remedy="Leave stem out, or set input_size to have the images resized.",
        )
    smaller = type(convolution)(
        convolution.in_channels,
        convolution.out_channels,
        3,
        stride=1,
        padding=1,
        bias=convolution.bias is not None,
    )
    _replace(body, path, smaller)
    for name in ("maxpool", "maxpool1", "features.pool0"):
        if _has(body, name) and isinstance(body.get_submodule(name), nn.MaxPool2d):
            _replace(body, name, nn.Identity())


def has_small_stem(convolution: nn.Conv2d) -> bool:
    """Whether this first convolution halves the image by a 3x3 or 7x7 kernel."""
    return convolution.stride == (2, 2) and convolution.kernel_size in ((3, 3), (7, 7)) and convolution.groups == 1


def set_channels(body: nn.Module, channels: int) -> None:
    """Make a network of three input channels one of ``channels``, with new weights in its first convolution."""
    for path, module in body.named_modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == 3:
            # a keyword for each, because the padding may be a word
            first = nn.Conv2d(
                channels,
                module.out_channels,
                module.kernel_size,  # type: ignore[arg-type]  # a pair, always
                stride=module.stride,  # type: ignore[arg-type]
                padding=module.padding,  # type: ignore[arg-type]
                bias=module.bias is not None,
            )
            _replace(body, path, first)
            return
    raise ArchitectureError("the network has no first convolution of three channels.")


def _has(body: nn.Module, path: str) -> bool:
    return any(name == path for name, _ in body.named_modules())


def _replace(body: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(body.get_submodule(parent), name, module)
