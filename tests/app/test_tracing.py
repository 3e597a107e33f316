"""Spans reach a collector on 127.0.0.1 when the standard variables name one; else nothing is loaded."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fastapi.testclient import TestClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app import tracing
from tests.app.conftest import submit
from tests.harness import TREE, eventually

PARENT = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The resources with spans that arrive while the test runs."""
    arrived: list[Any] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            arrived.extend(ExportTraceServiceRequest.FromString(body).resource_spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        monkeypatch.setattr(tracing, "_tracer", None)
        yield arrived
        server.shutdown()


def spans(arrived: list[Any]) -> dict[str, Any]:
    return {span.name: span for resource in arrived for scope in resource.scope_spans for span in scope.spans}


def test_a_request_and_an_attempt_are_traced(client: TestClient, collected: list[Any]) -> None:
    tracing.configure("api")
    submit(client)
    client.get("/v1/jobs", headers={"traceparent": f"00-{PARENT}-00f067aa0ba902b7-01"})
    with tracing.span("attempt", job_id="job_x", attempt=2):
        pass
    wanted = {"POST /v1/jobs", "GET /v1/jobs", "attempt"}
    eventually(lambda: wanted <= set(spans(collected)), what="the spans to arrive", seconds=20)
    found = spans(collected)
    assert found["GET /v1/jobs"].trace_id.hex() == PARENT
    attributes = {pair.key: pair.value for pair in found["GET /v1/jobs"].attributes}
    assert attributes["http.route"].string_value == "/v1/jobs"
    assert attributes["http.response.status_code"].int_value == 200
    assert {pair.key for pair in found["attempt"].attributes} == {"job_id", "attempt"}
    names = {pair.value.string_value for pair in collected[0].resource.attributes if pair.key == "service.name"}
    assert names == {"stillhouse-api"}


def test_without_an_endpoint_nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import sys; from app import tracing; tracing.configure('api')\n"
        "with tracing.span('x') as span: print(span, any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    environment = {"PATH": "", "PYTHONPATH": str(TREE)}
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["None", "False"]


def test_without_the_extra_a_process_starts_and_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    tracing.configure("api")
    assert "pip install 'stillhouse[telemetry]'" in caplog.text
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    caplog.clear()
    tracing.configure("api")
    assert caplog.text == ""
