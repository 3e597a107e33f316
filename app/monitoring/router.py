"""``/v1/metrics``: for a scraper's key, which can see figures of the whole installation and no project's jobs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector

from app.dependencies import ReadSession, ServicesDep, requires
from app.monitoring.state import families

router = APIRouter(prefix="/v1/metrics", tags=["metrics"], dependencies=[Depends(requires("metrics:read"))])


class _Collected(Collector):
    """What was read in the request's transaction, in the shape that the text format is made from."""

    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = list(found)

    def collect(self) -> Iterable[Metric]:
        return self._found


_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "The text format of Prometheus"}
}


@router.get("", response_class=Response, responses=_TEXT)
def metrics(session: ReadSession, given: ServicesDep) -> Response:
    """Jobs, queues, leases, attempts and workers of the installation, and this process's latencies, for Prometheus."""
    state = CollectorRegistry()
    state.register(_Collected(families(session, given.settings)))
    body = generate_latest(state) + generate_latest(given.measures.registry)
    return Response(body, media_type=CONTENT_TYPE_LATEST)
