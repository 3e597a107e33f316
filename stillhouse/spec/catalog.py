"""The architectures a spec may name, with figures that ``make catalog`` takes from the engine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("architectures.json")

Shape = tuple[int, int, int]
"""Channels, height, width."""
Numbers = tuple[int, int, int]
"""A figure that is linear in classes and channels: its constant, and what each class and each channel adds."""


@dataclass(frozen=True)
class Footprint:
    """What a network costs; null is what the catalog cannot tell."""

    parameters: int | None
    flops: int | None
    """For one image; a multiply-add counts as two."""
    points: Mapping[str, Mapping[str, Sequence[int]]] = field(default_factory=dict)
    """For each kind of feature point, the default ones with the shape of one sample; of ``layers`` all others, too."""


@dataclass(frozen=True)
class Figures:
    """A network's figures for every number of classes and channels."""

    parameters: Numbers | dict[int, Numbers]
    """By the image's side where it decides them."""
    flops: dict[int, Numbers]
    """By the image's side."""
    points: Mapping[int, Mapping[str, Mapping[str, Sequence[int]]]] = field(default_factory=dict)
    """By the image's side, as in ``Footprint``."""

    def at(self, shape: Shape, classes: int) -> Footprint:
        """For images of ``shape``. Figures of sizes that are not listed are null, never interpolated."""
        channels, height, width = shape
        side = height if height == width else -1
        weights = self.parameters.get(side) if isinstance(self.parameters, dict) else self.parameters
        return Footprint(
            parameters=_value(weights, channels, classes),
            flops=_value(self.flops.get(side), channels, classes),
            points=self.points.get(side, {}),
        )


@dataclass(frozen=True)
class ArchitectureEntry:
    """A network that a spec may name."""

    name: str
    family: str
    source: str
    minimum_size: int
    """Smallest side of an image it can take."""
    input_size: int | None
    """The side it was designed for, of a library's networks."""
    fixed: bool
    """Whether it takes that side only; other images are resized to it."""
    tags: Mapping[str, int]
    """Of several sets of published weights, which a name may end in (``timm/resnet50.a1_in1k``): the side each was
    made for, the default first."""
    figures: Figures
    small_stem: Figures | None
    """With ``stem: small``; null where it has no stem that could be made small."""


@cache
def architectures() -> dict[str, ArchitectureEntry]:
    """Every architecture by its name."""
    entries = json.loads(FILE.read_text())["architectures"]
    return {
        name: ArchitectureEntry(
            name=name,
            family=entry["family"],
            source=entry["source"],
            minimum_size=entry["minimum_size"],
            input_size=entry.get("input_size"),
            fixed=entry.get("fixed", False),
            tags=entry.get("tags", {}),
            figures=_figures(entry),
            small_stem=_figures(entry["small_stem"]) if "small_stem" in entry else None,
        )
        for name, entry in entries.items()
    }


def split_tag(name: str) -> tuple[str, str | None]:
    """An architecture's own name, and the tag of published weights that follows it, if one does."""
    bare, dot, tag = name.partition(".")
    return (bare, tag) if dot and name.startswith("timm/") else (name, None)


def _figures(entry: dict[str, Any]) -> Figures:
    given = entry["parameters"]
    parameters = _by_side(given) if isinstance(given, dict) else _numbers(given)
    points = {int(side): found for side, found in entry.get("points", {}).items()}
    return Figures(parameters=parameters, flops=_by_side(entry["flops"]), points=points)


def _by_side(table: dict[str, list[int]]) -> dict[int, Numbers]:
    return {int(side): _numbers(numbers) for side, numbers in table.items()}


def _numbers(values: list[int]) -> Numbers:
    constant, each_class, each_channel = values
    return constant, each_class, each_channel


def _value(numbers: Numbers | None, channels: int, classes: int) -> int | None:
    if numbers is None:
        return None
    constant, each_class, each_channel = numbers
    return constant + each_class * classes + each_channel * channels
