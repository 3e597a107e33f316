"""The feature points of a list of layers, with their shapes, as the engine finds them in the network it builds of it.

The paths are those of torch modules: layers by their place, a residual's inner ones under ``branch``. A test holds
this arithmetic to the engine's (``worker.engine.points``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stillhouse.spec.layers import Activation, Dropout, GlobalPool, Layer, Linear, Residual, Shape, Tracer

EVERY = "every"
"""Beside the kinds of default points: all places that a person may name."""


@dataclass(frozen=True)
class _Call:
    """A module's run."""

    path: str
    shape: Shape
    """Of what it gives."""
    taken: Shape
    """Of what goes into it."""
    layer: Layer | None = None
    """Which layer it is; None of a block, and of a residual's shortcut."""
    is_block: bool = False
    is_transparent: bool = False
    """Whether it gives what it takes, outside of training."""


def feature_points(layers: Sequence[Layer], *, input_shape: Shape, classes: int) -> dict[str, dict[str, list[int]]]:
    """For each kind of point the default ones; and every other. ``layers`` are known to fit."""
    calls = list(_sequence(layers, input_shape, Tracer(classes), ""))
    ends = {call.shape[1:]: call for call in calls if len(call.shape) == 3 and not call.is_transparent}
    stages = [call for call in ends.values() if max(call.shape[1:]) > 1] or list(ends.values())
    if any(call.is_block for call in stages):
        while not stages[0].is_block:
            stages = stages[1:]
    linear = [call for call in calls if isinstance(call.layer, Linear)]
    every = {call.path: list(call.shape) for call in calls}
    return {
        "stages": {call.path: list(call.shape) for call in stages},
        "preactivations": {
            f"{call.path}:input" if isinstance(call.layer, Activation) else call.path: list(call.shape)
            for call in stages
        },
        "embedding": {f"{call.path}:input": list(call.taken) for call in linear[-1:]},
        EVERY: every | {f"{call.path}:input": list(call.taken) for call in calls},
    }


def _sequence(layers: Sequence[Layer], shape: Shape, tracer: Tracer, under: str) -> Iterator[_Call]:
    """The runs within, in the order in which they end."""
    for place, layer in enumerate(layers):
        path = f"{under}{place}"
        out = tracer.follow(layer, shape, [])
        if isinstance(layer, Residual):
            yield from _sequence(layer.layers, shape, tracer, f"{path}.branch.")
            yield _Call(f"{path}.branch", out, shape, is_block=True)
            if out != shape:
                yield _Call(f"{path}.shortcut.0", out, shape)
                yield _Call(f"{path}.shortcut.1", out, out)
                yield _Call(f"{path}.shortcut", out, shape, is_block=True)
            else:
                yield _Call(f"{path}.shortcut", out, shape, is_transparent=True)
        elif isinstance(layer, GlobalPool):
            yield _Call(f"{path}.0", (*out, 1, 1), shape)
            yield _Call(f"{path}.1", out, (*out, 1, 1))
        is_block = isinstance(layer, Residual | GlobalPool)
        transparent = isinstance(layer, Dropout)
        yield _Call(path, out, shape, layer=layer, is_block=is_block, is_transparent=transparent)
        shape = out
