"""Around every request: its time by route template, a line in the log, a span."""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import tracing
from app.measures import Measures

logger = logging.getLogger(__name__)

_UNMATCHED = "unmatched"
"""All that no route answers is one series: a stranger must not be able to make new ones."""


class Observer:
    """Outermost, and pure ASGI. The clock stops at the answer's head: a stream may go on for hours."""

    def __init__(self, app: ASGIApp, *, measures: Measures) -> None:
        self.app = app
        self.measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        status, seconds = 500, 0.0

        async def noting(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status, seconds = message["status"], time.perf_counter() - began
            await send(message)

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        with tracing.span(scope["method"], headers=headers) as span:
            try:
                await self.app(scope, receive, noting)
            finally:
                route = getattr(scope.get("route"), "path", _UNMATCHED)
                seconds = seconds or time.perf_counter() - began
                self.measures.requests.labels(scope["method"], route, status).observe(seconds)
                self._tell(scope, route, status, seconds)
                if span is not None:
                    span.update_name(f"{scope['method']} {route}")
                    span.set_attributes({"http.route": route, "http.response.status_code": status})

    @staticmethod
    def _tell(scope: Scope, route: str, status: int, seconds: float) -> None:
        fields = {
            "request_id": scope.get("state", {}).get("request_id"),
            "method": scope["method"],
            "route": route,
            "status": status,
            "seconds": round(seconds, 4),
            **{name: value for name, value in scope.get("path_params", {}).items() if name.endswith("_id")},
        }
        logger.info("%s %s %d", scope["method"], route, status, extra={"fields": fields})
