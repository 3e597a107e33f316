"""The report as one HTML file: no script, nothing from elsewhere, plots inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_WIDTH, _HEIGHT = 640, 260
_MARGIN = 56
_DASHES = ("none", "8 4", "2 3", "12 3 2 3", "16 5", "5 2", "12 3 2 3 2 3", "3 7")
"""What tells apart the lines of one colour: seeds, generations, several teachers."""


@dataclass(frozen=True)
class Line:
    """One curve of a plot: a label, the kind that decides its colour, its dashes and its SVG points."""

    label: str
    kind: str
    dashes: str
    points: str

    @property
    def dot(self) -> Sequence[str]:
        """Where a curve of one epoch is, which no line can show; empty for others."""
        return () if " " in self.points else self.points.split(",")


@dataclass(frozen=True)
class Plot:
    """One plot, its axes in plain numbers."""

    title: str
    lines: Sequence[Line]
    lowest: float
    highest: float
    epochs: int


def render(report: Mapping[str, Any]) -> str:
    """The page for ``report`` (what ``report.json`` holds)."""
    phases = report["phases"]
    plots = [
        _plot(phases, "validation/top1" if report["selection"] == "validation" else "train/top1"),
        _plot(phases, "train/loss"),
    ]
    return _TEMPLATES.get_template("report.html").render(
        report=report, plots=plots, width=_WIDTH, height=_HEIGHT, margin=_MARGIN
    )


def _plot(phases: Mapping[str, Any], metric: str) -> Plot:
    curves = {
        name: [(row["epoch"], row[metric]) for row in phase["history"] if row.get(metric) is not None]
        for name, phase in phases.items()
    }
    curves = {name: curve for name, curve in curves.items() if curve}
    values = [value for curve in curves.values() for _, value in curve] or [0.0]
    lowest, highest = min(values), max(values)
    epochs = int(max((epoch for curve in curves.values() for epoch, _ in curve), default=1))

    def place(epoch: float, value: float) -> str:
        across = (epoch - 1) / max(epochs - 1, 1)
        up = (value - lowest) / ((highest - lowest) or 1.0)
        return f"{_MARGIN + across * (_WIDTH - _MARGIN - 12):.1f},{_HEIGHT - 28 - up * (_HEIGHT - 44):.1f}"

    lines: list[Line] = []
    for name, curve in curves.items():
        kind = name.split("-")[0]
        dashes = _DASHES[sum(line.kind == kind for line in lines) % len(_DASHES)]
        lines.append(Line(name, kind, dashes, " ".join(place(epoch, value) for epoch, value in curve)))
    return Plot(metric, lines, lowest, highest, epochs)
