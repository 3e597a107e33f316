"""Metrics in columns, thinned in the server so that a spike is never lost."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.tables import MetricPoint
from stillhouse.resources import Metrics, Series


def read(session: Session, job_id: str, *, names: Sequence[str], max_points: int) -> Metrics:
    """Each metric, of at most ``max_points`` points: the smallest and the largest of each bucket."""
    points: dict[str, list[MetricPoint]] = {}
    for point in _rows(session, job_id, names):
        points.setdefault(point.name, []).append(point)
    return Metrics(data={name: _series(thin(found, max_points)) for name, found in points.items()})


def write_csv(session: Session, job_id: str) -> str:
    """Every point, as CSV."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(("name", "step", "time", "value"))
    writer.writerows((point.name, point.step, point.time, point.value) for point in _rows(session, job_id, ()))
    return file.getvalue()


def thin(points: Sequence[MetricPoint], max_points: int) -> list[MetricPoint]:
    """The points of least and greatest value of each of ``max_points / 2`` buckets, in order; NaN counts as least."""
    if len(points) <= max_points:
        return list(points)
    buckets = max(1, max_points // 2)
    kept: list[MetricPoint] = []
    for index in range(buckets):
        bucket = points[index * len(points) // buckets : (index + 1) * len(points) // buckets]
        ends = {point.step: point for point in (min(bucket, key=_height), max(bucket, key=_height))}
        kept += sorted(ends.values(), key=lambda point: point.step)
    return kept[:max_points]


def _height(point: MetricPoint) -> float:
    return float("-inf") if point.value is None else point.value


def _rows(session: Session, job_id: str, names: Sequence[str]) -> Iterator[MetricPoint]:
    statement = select(MetricPoint).where(MetricPoint.job_id == job_id)
    if names:
        statement = statement.where(MetricPoint.name.in_(names))
    return iter(session.scalars(statement.order_by(MetricPoint.name, MetricPoint.step)))


def _series(points: Sequence[MetricPoint]) -> Series:
    return Series(
        step=[point.step for point in points],
        time=[point.time for point in points],
        value=[point.value for point in points],
    )
