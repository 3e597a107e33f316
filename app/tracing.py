"""OpenTelemetry by its standard variables. Without OTEL_EXPORTER_OTLP_ENDPOINT nothing of it is loaded."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

logger = logging.getLogger(__name__)

_WANTED_BY = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_tracer: Tracer | None = None


def configure(part: str) -> None:
    """Send this process's spans where the variables say; a process is not kept from starting by it."""
    global _tracer  # noqa: PLW0603  # one for the process, as the variables are
    wanted = any(os.environ.get(name) for name in _WANTED_BY)
    if not wanted or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  # an extra
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ModuleNotFoundError as error:
        logger.warning("no spans are sent: %s; install the extra: pip install 'stillhouse[telemetry]'", error)
        return
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": f"stillhouse-{part}"}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("stillhouse")


@contextmanager
def span(name: str, *, headers: Mapping[str, str] | None = None, **attributes: str | int) -> Iterator[Span | None]:
    """A span around what is done within; None where none are sent. ``headers`` may name a parent."""
    if _tracer is None:
        yield None
        return
    from opentelemetry.propagate import extract  # noqa: PLC0415
    from opentelemetry.trace import SpanKind  # noqa: PLC0415

    kind = SpanKind.INTERNAL if headers is None else SpanKind.SERVER
    parent = None if headers is None else extract(headers)
    with _tracer.start_as_current_span(name, context=parent, kind=kind, attributes=attributes) as started:
        yield started
