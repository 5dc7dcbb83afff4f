"""OpenTelemetry: one span per request, joined to the caller's trace by its traceparent."""

from __future__ import annotations

import logging
from typing import Any

from redpencil.asgi import App, Message, Receive, Scope, Send

log = logging.getLogger(__name__)


def tracer(endpoint: str) -> Any:
    """A tracer that sends to the collector; None without one, or without the packages for it."""
    if not endpoint:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as exc:
        log.warning("no traces: %s; install opentelemetry-exporter-otlp-proto-http", exc)
        return None
    provider = TracerProvider(resource=Resource.create({"service.name": "redpencil-serving"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")))
    return provider.get_tracer("redpencil")


class Traced:
    """Middleware that opens the span."""

    def __init__(self, app: App, tracer: Any) -> None:
        self.app, self.tracer = app, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind

        given = extract({k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]})
        name = f"{scope['method']} {scope['path']}"
        with self.tracer.start_as_current_span(name, context=given, kind=SpanKind.SERVER) as span:

            async def noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                await send(message)

            await self.app(scope, receive, noted)
