"""The architectures a spec may name, with figures that ``make catalog`` takes from the engine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("architectures.json")


@dataclass(frozen=True)
class Footprint:
    """What a network costs."""

    parameters: int
    flops: int
    """For one image; a multiply-add counts as two."""
    points: Mapping[str, Mapping[str, Sequence[int]]] = field(default_factory=dict)
    """For each kind of feature point, the default ones with the shape of one sample; not known of ``layers``."""


@dataclass(frozen=True)
class ArchitectureEntry:
    """A network that a spec may name."""

    name: str
    family: str
    source: str
    minimum_size: int
    """Smallest side of an image it can take."""
    figures: dict[str, Footprint]
    """By built-in data set, those whose images are large enough."""


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
            figures={dataset: Footprint(**figures) for dataset, figures in entry["figures"].items()},
        )
        for name, entry in entries.items()
    }
