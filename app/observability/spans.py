"""OpenTelemetry: one span for each request, a child of the caller's. Needs the extra ``otel``; imported only with ``CTR_TRACES``.

A span has the route, the status and the code of a refusal, by OpenTelemetry's semantic conventions for HTTP servers, and nothing that
a client sent. Where spans go, and how many, say the ``OTEL_*`` variables of the OpenTelemetry specification.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

HEADERS = (b"traceparent", b"tracestate")


class Spans:
    """The spans of one process.

    Args:
        processor: takes spans that have ended; by default it sends them in batches, from a thread, by OTLP over HTTP.
    """

    def __init__(self, processor: SpanProcessor | None = None) -> None:
        name = {} if "OTEL_SERVICE_NAME" in os.environ else {SERVICE_NAME: "ctrserve"}
        self._provider = TracerProvider(resource=Resource.create({**name, SERVICE_VERSION: version("ctrserve")}))
        self._provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("ctrserve", version("ctrserve"))
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, headers: Mapping[bytes, bytes]) -> tuple[Span, bytes]:
        """Begin the span of a request; return it and the ``traceparent`` of the answer."""
        carrier = {name.decode(): headers[name].decode("latin1") for name in HEADERS if name in headers}
        span = self._tracer.start_span("request", self._propagator.extract(carrier), SpanKind.SERVER)
        context = span.get_span_context()
        return span, b"00-%032x-%016x-%02x" % (context.trace_id, context.span_id, context.trace_flags)

    def end(self, span: Span, method: str, route: str, status: int, code: str | None) -> None:
        """End the span of a request that has been answered.

        Args:
            span: from `begin`.
            method: of the request.
            route: its path as it is counted.
            status: of the answer.
            code: of a refusal.
        """
        if span.is_recording():
            span.update_name(f"{method} {route}")
            span.set_attributes(
                {"http.request.method": method, "http.route": route, "http.response.status_code": status}
            )
            if code is not None:
                span.set_attribute("error.type", code)
            if status >= 500:
                span.set_status(StatusCode.ERROR)
        span.end()

    def close(self) -> None:
        """Send the spans that wait, within the time limits of the exporter."""
        self._provider.shutdown()
