"""Spans of requests, in memory and at a collector that receives OTLP."""

import asyncio
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from app.main import create_app
from app.observability.spans import Spans
from app.settings import Settings
from tests import in_process
from tests.server import serving

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def spans_of(artifacts: Path, *requests: tuple[str, bytes]) -> list[ReadableSpan]:
    """Return the spans of requests to an app: path and body of each."""
    exporter = InMemorySpanExporter()
    app = create_app(Settings(artifacts=artifacts, drain_s=0), Spans(SimpleSpanProcessor(exporter)))

    async def ask() -> None:
        async with in_process.running(app):
            for path, body in requests:
                await in_process.ask(app, body, path, "GET" if path.startswith("/health") else "POST")

    asyncio.run(ask())
    return list(exporter.get_finished_spans())


def test_a_request_is_a_span_with_its_route_status_and_code_and_nothing_of_the_client(artifacts: Path) -> None:
    good, wrong, health, unknown = spans_of(
        artifacts,
        ("/predict", b'{"instances": [{"ad_id": "s3cr3t"}]}'),
        ("/predict", b'{"instances": [{"price": "s3cr3t"}]}'),
        ("/health/live", b""),
        ("/s3cr3t", b""),
    )
    assert [s.name for s in (good, wrong, health, unknown)] == [
        "POST /predict", "POST /predict", "GET /health/live", "POST other",
    ]  # fmt: skip
    assert good.kind == SpanKind.SERVER
    assert dict(good.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
    }
    assert (wrong.attributes or {})["error.type"] == "invalid_input"
    assert wrong.status.status_code == StatusCode.UNSET, "a mistake of the client is none of the server"
    assert good.end_time is not None
    assert good.start_time is not None
    assert good.end_time > good.start_time
    assert "s3cr3t" not in "".join(span.to_json() for span in (good, wrong, health, unknown))


def test_a_defect_is_an_error() -> None:
    exporter = InMemorySpanExporter()
    spans = Spans(SimpleSpanProcessor(exporter))
    span, _ = spans.begin({})
    spans.end(span, "POST", "/predict", 500, "internal_error")
    (found,) = exporter.get_finished_spans()
    assert (found.status.status_code, (found.attributes or {})["error.type"]) == (StatusCode.ERROR, "internal_error")


class Collector(BaseHTTPRequestHandler):
    """Keeps what is posted to it."""

    received: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        self.received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Return the address of a collector and what it has received."""
    received: list[tuple[str, bytes]] = []
    handler = type("Handler", (Collector,), {"received": received})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()
        thread.join()


def test_a_service_sends_its_spans_to_a_collector_as_children_of_the_callers(
    artifacts: Path, collector: tuple[str, list[tuple[str, bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, received = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    with serving(artifacts, traces=True) as server:
        answer = server.client.post("/predict", json={"instances": [{}]}, headers={"traceparent": PARENT})
        assert answer.status_code == 200
    assert {path for path, _ in received} == {"/v1/traces"}
    found = [ExportTraceServiceRequest.FromString(body) for _, body in received]
    (resource,) = {part.resource.SerializeToString() for request in found for part in request.resource_spans}
    assert b"ctrserve" in resource
    spans = [
        s for request in found for part in request.resource_spans for scope in part.scope_spans for s in scope.spans
    ]
    (span,) = [span for span in spans if span.name == "POST /predict"]
    assert f"00-{span.trace_id.hex()}-{span.parent_span_id.hex()}-01" == PARENT
    assert answer.headers["traceparent"] == f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01"
