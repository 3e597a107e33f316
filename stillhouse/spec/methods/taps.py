"""Which feature points a job's methods read, with their shapes, as far as the catalog knows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from stillhouse.spec.catalog import Footprint
from stillhouse.spec.footprints import close
from stillhouse.spec.layer_points import EVERY
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


def missing(
    method: Imitation, role: Literal["student", "teacher"], footprint: Footprint | None
) -> list[tuple[str, str]]:
    """Points that ``method`` reads of a list of layers and that it does not have: (field, what is wrong with it).

    Of a named architecture the worker alone knows every point.
    """
    points = footprint.points if footprint else {}
    if EVERY not in points or getattr(method, "weight_feature", 1) == 0:
        return []
    field = f"{role}_points"
    named: list[str] = getattr(method, field, None) or []
    found = [
        (field, f"the {role} has no feature point {name!r}{close(name, points[EVERY])}")
        for name in named
        if name not in points[EVERY]
    ]
    for place, kind in enumerate(method.student_kinds if role == "student" else method.teacher_kinds):
        if not (named and place == 0) and not _defaults(points, kind):
            what = "a map at the end of a stage" if kind != "embedding" else "the vector that goes into a classifier"
            found.append(
                ("name", f"{method.name} reads {what}, and the {role}'s layers have none; use a method on logits")
            )
    return found


def unpaired(method: Imitation, student: Footprint | None, teacher: Footprint | None) -> list[tuple[str, str]]:
    """Points that were named and that the other network has not as many of: (field, what is wrong with it).

    Where none are named, the last ones that both networks have are paired.
    """
    named = {role: getattr(method, f"{role}_points", None) for role in ("student", "teacher")}
    if not method.reads_features or not any(named.values()):
        return []
    counts: dict[str, int] = {}
    for role, kinds, footprint in (
        ("student", method.student_kinds, student),
        ("teacher", method.teacher_kinds, teacher),
    ):
        points = footprint.points if footprint else {}
        if not named[role] and not points and kinds[0] in ("stages", "preactivations"):
            return []  # the worker alone knows how many there are
        counts[role] = len(set(named[role] or _defaults(points, kinds[0])))
    if counts["student"] == counts["teacher"] or 0 in counts.values():
        return []
    message = f"{counts['student']} points of the student cannot be paired with {counts['teacher']} of the teacher"
    given = "student_points" if named["student"] else "teacher_points"
    return [(given, f"{message}; name as many of the one as of the other, with student_points and teacher_points")]


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
