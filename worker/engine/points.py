"""Feature points: places inside a network, named by module path, whose values a method may read.

``layer3`` is what the module ``layer3`` gives; ``layer3.1.relu:input`` is what goes into it, such as the sum of a
residual block before its activation. Where a module runs more than once, its last run counts.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from worker.engine.errors import MethodRefused

Shape = tuple[int, ...]
"""Of one sample: (channels, height, width) of a map, (features,) of a vector."""
Kind = Literal["stages", "middle", "last", "preactivations", "embedding"]

_INPUT = ":input"
_LISTED: tuple[Kind, ...] = ("stages", "preactivations", "embedding")
_SHOWN = 40
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.ELU)
_TRANSPARENT = (nn.Dropout, nn.Dropout2d, nn.Identity)


@dataclass(frozen=True)
class FeaturePoints:
    """The points a method reads where the person names none.

    An architecture's entry may give them (``Architecture.points``); otherwise ``derive`` finds them.
    """

    stages: tuple[str, ...]
    """The map at the end of each stage, after the residual addition and the activation; the stem is none."""
    preactivations: tuple[str, ...]
    """The same before their last activation."""
    embedding: str | None
    """The vector that goes into the classifier."""

    def of(self, kind: Kind) -> tuple[str, ...]:
        """The points of a kind; none where the network has no such place."""
        match kind:
            case "stages":
                return self.stages
            case "preactivations":
                return self.preactivations
            case "middle":
                return self.stages[(len(self.stages) - 1) // 2 :][:1]
            case "last":
                return self.stages[-1:]
            case "embedding":
                return () if self.embedding is None else (self.embedding,)


class Capture:
    """Keeps the values of named points while a network computes. Copies along with the network it watches."""

    def __init__(self, body: nn.Module, points: Sequence[str]) -> None:
        self.points = tuple(points)
        self.recording = False
        self.values: dict[str, Tensor] = {}
        self.handles = []
        for point in self.points:
            module = body.get_submodule(point.removesuffix(_INPUT))
            if point.endswith(_INPUT):
                self.handles.append(module.register_forward_pre_hook(_InputHook(self, point)))
            else:
                self.handles.append(module.register_forward_hook(_OutputHook(self, point)))

    @contextmanager
    def record(self) -> Iterator[dict[str, Tensor]]:
        """Within it, points are kept in the dict it gives; nothing is held afterwards."""
        self.recording, self.values = True, {}
        try:
            yield self.values
        finally:
            self.recording, self.values = False, {}

    def remove(self) -> None:
        """Watch no longer."""
        for handle in self.handles:
            handle.remove()


@dataclass(frozen=True)
class _OutputHook:
    capture: Capture
    point: str

    def __call__(self, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        if self.capture.recording:
            self.capture.values[self.point] = output


@dataclass(frozen=True)
class _InputHook:
    capture: Capture
    point: str

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if not self.capture.recording:
            return None
        self.capture.values[self.point] = inputs[0]
        if getattr(module, "inplace", False):  # it would overwrite what was kept
            return (inputs[0].clone(), *inputs[1:])
        return None


def shapes_of(body: nn.Module, points: Sequence[str], shape: Shape, *, whose: str) -> dict[str, Shape]:
    """The shape of one sample at each point, found on the meta device. Raises MethodRefused for a point that is none.

    ``whose`` names the network in the message.
    """
    names = {name for name, _ in body.named_modules() if name}
    for point in points:
        if point.removesuffix(_INPUT) not in names:
            raise MethodRefused(
                f"the {whose} has no feature point {point!r}; {_existing(point, names)}.",
                remedy="Name a module of the network by its path, or add :input for what goes into it.",
            )
    shadow = copy.deepcopy(body).to("meta").eval()
    capture = Capture(shadow, points)
    with capture.record() as values, torch.no_grad():
        versions = _run(shadow, shape, values)
    for point in points:
        _check(point, values.get(point), versions.get(point), whose=whose)
    return {point: tuple(values[point].shape[1:]) for point in points}


def derive(body: nn.Module, shape: Shape) -> FeaturePoints:
    """From a run on the meta device: at each size of map, the outermost module that is last to finish.

    Dropout and leading stems (single layers before the first block) are no stages, nor is the pooled map.
    """
    calls = _trace(body, shape)
    maps = [call for call in calls if call.output.ndim == 4 and not isinstance(call.module, _TRANSPARENT)]
    ends = {tuple(call.output.shape[2:]): call for call in maps}
    stages = [call for size, call in ends.items() if max(size) > 1] or list(ends.values())
    if any(call.is_block for call in stages):
        while not stages[0].is_block:
            stages = stages[1:]
    classifiers = [call for call in calls if isinstance(call.module, nn.Linear) and call.output.ndim == 2]
    return FeaturePoints(
        stages=tuple(call.name for call in stages),
        preactivations=tuple(_before_activation(call, calls) for call in stages),
        embedding=f"{classifiers[-1].name}{_INPUT}" if classifiers else None,
    )


def described(body: nn.Module, shape: Shape, points: FeaturePoints | None) -> dict[str, dict[str, Shape]]:
    """The default points with their shapes, for the catalog; the middle and the last stage are among the stages."""
    found = points or derive(body, shape)
    kinds = {kind: found.of(kind) for kind in _LISTED}
    every = tuple(dict.fromkeys(point for points in kinds.values() for point in points))
    shapes = shapes_of(body, every, shape, whose="network")
    return {kind: {point: shapes[point] for point in points} for kind, points in kinds.items()}


@dataclass(frozen=True)
class _Call:
    name: str
    module: nn.Module
    output: Tensor

    @property
    def is_block(self) -> bool:
        return any(True for _ in self.module.children())


def _trace(body: nn.Module, shape: Shape) -> list[_Call]:
    """Every module's runs in the order in which they end."""
    shadow = copy.deepcopy(body).to("meta").eval()
    calls: list[_Call] = []

    def watch(name: str) -> Any:
        def hook(module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                calls.append(_Call(name, module, output))

        return hook

    for name, module in shadow.named_modules():
        if name:
            module.register_forward_hook(watch(name))
    with torch.no_grad():
        shadow(torch.empty(2, *shape, device="meta"))
    return calls


def _before_activation(stage: _Call, calls: Iterable[_Call]) -> str:
    for call in calls:
        if isinstance(call.module, _ACTIVATIONS) and call.output is stage.output:
            return f"{call.name}{_INPUT}"
    return stage.name


def _run(shadow: nn.Module, shape: Shape, values: Mapping[str, Tensor]) -> dict[str, int]:
    """Run ``shadow`` and tell at which version each value was when the next module had not touched it yet."""
    seen: dict[str, tuple[Tensor, int]] = {}

    def watch(*_: object) -> None:
        for point, value in values.items():
            if isinstance(value, Tensor) and (point not in seen or seen[point][0] is not value):
                seen[point] = (value, value._version)  # noqa: SLF001  # torch's count of writes in place

    for module in shadow.modules():
        module.register_forward_pre_hook(watch)
        module.register_forward_hook(watch)
    shadow(torch.empty(2, *shape, device="meta"))
    return {point: version for point, (_, version) in seen.items()}


def _check(point: str, value: Tensor | None, version: int | None, *, whose: str) -> None:
    if value is None:
        message = f"the {whose}'s feature point {point!r} is never reached when it computes logits."
        raise MethodRefused(message, remedy="Name a module that takes part.")
    if not isinstance(value, Tensor) or value.ndim not in (2, 3, 4):
        message = f"the {whose}'s feature point {point!r} gives neither a map nor a vector."
        raise MethodRefused(message, remedy="Name a module that gives a single tensor.")
    if version is not None and value._version != version:  # noqa: SLF001  # torch's count of writes in place
        message = f"the {whose}'s feature point {point!r} is overwritten in place by the module after it."
        raise MethodRefused(message, remedy=f"Name that module, or its input with {_INPUT!r} after its path.")


def _existing(point: str, names: set[str]) -> str:
    close = difflib.get_close_matches(point, names, n=3)
    outermost = sorted(names, key=lambda name: (name.count("."), name))
    shown = ", ".join(outermost[:_SHOWN]) + (f" and {len(names) - _SHOWN} deeper ones" if len(names) > _SHOWN else "")
    return f"{'did you mean ' + ' or '.join(close) + '? ' if close else ''}it has {shown}"
