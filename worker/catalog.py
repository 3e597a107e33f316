"""``python -m worker.catalog [NAME ...]``: the architectures' figures, from the engine on the meta device, for a spec.

The API reads the file it writes, so that parameters and FLOPs are known without torch; a test holds it to the engine.
Parameters, and FLOPs at one size, are linear in classes and in input channels, so three numbers say them for all:
[constant, for each class, for each channel].
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import nn

from stillhouse.spec.catalog import FILE
from worker.engine.architecture import Architecture, Builder, on_meta, small_stem
from worker.engine.architectures import ARCHITECTURES, LIBRARIES, find, from_timm
from worker.engine.errors import ArchitectureError
from worker.engine.evaluate import count_flops
from worker.engine.points import described

_SIDES: dict[str, tuple[int, ...]] = {"": (8, 28, 32, 64, 96, 224), "torchvision": (28, 32, 64), "timm": ()}
"""Sizes with figures, by prefix; that which an architecture was designed for is always among them."""
_LADDERS = {"torchvision": (4, 8, 16, 24, 32, 48, 64, 80, 96, 128, 160, 192, 224), "timm": (32, 64, 128, 224)}
"""Sizes tried, the smallest first, to find what an architecture takes."""
_POINTS_UP_TO = 32
_POINTS = ((3, 1000), (3, 10), (1, 1000))
"""(channels, classes) from which the three numbers follow."""


def main() -> None:
    """Write the file, an architecture a line; with names, only theirs anew (all of timm takes half an hour)."""
    known = [*ARCHITECTURES, *(f"{prefix}/{name}" for prefix, library in LIBRARIES.items() for name in library.names())]
    kept = json.loads(FILE.read_text())["architectures"] if sys.argv[1:] else {}
    entries = {}
    for name in known:
        try:
            entries[name] = kept[name] if name in kept and name not in sys.argv[1:] else entry(name)
        except (ArchitectureError, RuntimeError, ValueError, TypeError, AssertionError) as error:
            print(f"{name} is left out: {error}")
    lines = [f" {json.dumps(name)}: {json.dumps(found, separators=(',', ':'))}" for name, found in entries.items()]
    FILE.write_text('{"architectures": {\n' + ",\n".join(lines) + "\n}}\n")


def entry(name: str) -> dict[str, Any]:
    """One architecture's figures. Raises ArchitectureError for a network that gives no logits on any size tried."""
    architecture = find(name)
    assert architecture is not None
    prefix = name.partition("/")[0] if "/" in name else ""
    minimum = _minimum(architecture, _LADDERS.get(prefix, ()))
    sides = {side for side in _SIDES[prefix] if side >= minimum and not architecture.fixed}
    sides |= {architecture.input_size} if architecture.input_size else set()
    found: dict[str, Any] = {"family": architecture.family, "source": architecture.source, "minimum_size": minimum}
    if architecture.input_size is not None:
        found["input_size"] = architecture.input_size
    if architecture.fixed:
        found["fixed"] = True
    if prefix == "timm" and (tags := from_timm.tags(name.partition("/")[2])):
        found["tags"] = tags
    side = max(sides)
    body = on_meta(lambda: architecture.build(10, 3, (side, side)))
    if body(torch.empty(1, 3, side, side, device="meta")).shape != (1, 10):
        raise ArchitectureError("it is no classifier of images.")
    found |= _figures(architecture.build, sorted(sides), by_size=not prefix)
    if not prefix:
        found["points"] = {str(side): _points(architecture, side) for side in sorted(sides) if side <= _POINTS_UP_TO}
    if architecture.first_convolution is not None and minimum <= 64:
        small = partial(_build_small, architecture)
        with suppress(ArchitectureError, TypeError):  # its stem is of another kind
            found["small_stem"] = _figures(small, [side for side in sorted(sides) if side <= 64], by_size=False)
    return found


def _points(architecture: Architecture, side: int) -> dict[str, dict[str, list[int]]]:
    """For each kind of feature point the default ones, with the shape of one image's; channels do not change them."""
    body = on_meta(partial(architecture.build, 10, 3, (side, side)))
    found = described(body, (3, side, side), architecture.points)
    return {kind: {name: list(shape) for name, shape in shapes.items()} for kind, shapes in found.items()}


def _build_small(architecture: Architecture, classes: int, channels: int, size: tuple[int, int]) -> nn.Module:
    body = architecture.build(classes, channels, size)
    small_stem(body, architecture)
    return body


def _minimum(architecture: Architecture, ladder: Sequence[int]) -> int:
    if architecture.fixed and architecture.input_size is not None:
        return architecture.input_size
    if architecture.minimum_size > 1:
        return architecture.minimum_size
    body = on_meta(lambda: architecture.build(10, 3, (224, 224)))
    for side in (*ladder, architecture.input_size or 224):
        try:
            count_flops(body, (3, side, side))
        except (RuntimeError, ValueError, AssertionError, ZeroDivisionError):
            continue
        return side
    raise ArchitectureError("it takes none of the sizes tried.")


def _figures(build: Builder, sides: Sequence[int], *, by_size: bool) -> dict[str, Any]:
    """Parameters (by size where the size decides them) and FLOPs by size; ``by_size``: build anew for each."""
    parameters: dict[str, list[int]] = {}
    flops: dict[str, list[int]] = {}
    bodies: list[nn.Module] = []
    for side in sides or (64,):
        if by_size or not bodies:
            bodies = [on_meta(partial(build, classes, channels, (side, side))) for channels, classes in _POINTS]
        parameters[str(side)] = _linear([sum(weight.numel() for weight in body.parameters()) for body in bodies])
        if side in sides:
            shapes = ((channels, side, side) for channels, _ in _POINTS)
            flops[str(side)] = _linear([count_flops(body, shape) for body, shape in zip(bodies, shapes, strict=True)])
    distinct = {tuple(numbers) for numbers in parameters.values()}
    return {"parameters": list(distinct.pop()) if len(distinct) == 1 else parameters, "flops": flops}


def _linear(counts: Sequence[int]) -> list[int]:
    """[constant, for each class, for each channel] through the three points."""
    whole, fewer_classes, fewer_channels = counts
    (channels, classes), (_, few), (one, _) = _POINTS
    per_class, left = divmod(whole - fewer_classes, classes - few)
    per_channel, over = divmod(whole - fewer_channels, channels - one)
    if left or over:
        raise ArchitectureError("its figures are not linear in classes and channels.")
    return [whole - classes * per_class - channels * per_channel, per_class, per_channel]


if __name__ == "__main__":
    main()
