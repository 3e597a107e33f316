"""Which feature points a job's methods read, with their shapes, as far as the catalog knows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from stillhouse.spec.catalog import Footprint
from stillhouse.spec.methods.base import Imitation

Shapes = dict[str, list[int] | None]
"""Of one sample, by module path; null where only the worker can tell: of points of an architecture that were named."""


def read_by(methods: Sequence[Imitation], role: Literal["student", "teacher"], footprint: Footprint | None) -> Shapes:
    """The points that ``methods`` read of one network."""
    points: Mapping[str, Mapping[str, Sequence[int]]] = footprint.points if footprint else {}
    known = {name: list(shape) for shapes in points.values() for name, shape in shapes.items()}
    found: Shapes = {}
    for method in methods:
        kinds = method.student_kinds if role == "student" else method.teacher_kinds
        named: list[str] | None = getattr(method, f"{role}_points", None)
        for place, kind in enumerate(kinds):
            for name in named if named and place == 0 else _defaults(points, kind):
                found[name] = known.get(name)
    return found


def _defaults(points: Mapping[str, Mapping[str, Sequence[int]]], kind: str) -> list[str]:
    """The names of a kind; of a network whose points are not known, the kind in brackets."""
    if not points:
        return [f"({kind})"]
    stages = list(points["stages"])
    match kind:
        case "middle":
            return stages[(len(stages) - 1) // 2 :][:1]
        case "last":
            return stages[-1:]
    return list(points[kind])
