"""Traces for OpenTelemetry: a span for each request and one for each of its stages."""

import logging
import threading
from typing import TYPE_CHECKING, Any

from flyball.core.clock import Clock, monotonic_s
from flyball.core.durations import to_us
from flyball.core.errors import PluginError
from flyball.server.inference.exchange import Exchange
from flyball.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_CLOSE_S = 2.0
_SERVICE = "flyball-gateway"
_log = logging.getLogger("flyball.gateway")


class TracingMissingError(PluginError):
    """Traces are wanted, but what sends them is not installed."""

    code = "http/tracing-missing"

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(
            f"traces shall go to {endpoint}, but OpenTelemetry is not installed: {reason}",
            hint="Install it with: pip install 'flyball[otel]'; or unset otlp_endpoint.",
        )


class OtelTracer:
    """Implements `Tracer` with OpenTelemetry's SDK; the standard variables ``OTEL_...`` hold.

    Args:
        provider: Keeps the spans.
        clock: The present.
    """

    def __init__(self, provider: "TracerProvider", clock: Clock) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._clock = clock
        self._tracer = provider.get_tracer("flyball", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def record(self, exchange: Exchange, method: str, path: str, code: str, ended_s: float) -> str:
        """See `Tracer.record`; who sent a ``traceparent`` finds the request in its own trace."""
        from opentelemetry import trace

        # Spans are made afterwards from what was noted, so that a request waits for none of it.
        offset_ns = to_us(self._clock.now()) * 1_000 - int(monotonic_s() * 1e9)

        def at(moment_s: float) -> int:
            return offset_ns + int(moment_s * 1e9)

        carrier = {
            name: value.decode("latin-1")
            for name in ("traceparent", "tracestate")
            if (value := exchange.headers.get(name.encode())) is not None
        }
        parent = self._propagator.extract(carrier)
        name = f"{exchange.protocol} {exchange.endpoint}" if exchange.endpoint else f"{method} {exchange.protocol}"
        span = self._tracer.start_span(
            name,
            context=parent,
            kind=trace.SpanKind.SERVER,
            start_time=at(exchange.started_s),
            attributes=_attributes(exchange, method, path, code),
        )
        inside = trace.set_span_in_context(span, parent)
        began_s = exchange.started_s
        for stage, stage_ended_s in exchange.stages:
            child = self._tracer.start_span(stage, context=inside, start_time=at(began_s))
            child.end(at(stage_ended_s))
            began_s = stage_ended_s
        if _has_failed(code):
            span.set_status(trace.StatusCode.ERROR)
        span.end(at(ended_s))
        return format(span.get_span_context().trace_id, "032x")

    def close(self) -> None:
        """See `Tracer.close`; a collector that does not answer is not waited for long."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(_CLOSE_S)


def open_tracer(endpoint: str, clock: Clock) -> OtelTracer | None:
    """Return what sends traces to an OTLP endpoint over HTTP; None where none is named.

    Args:
        endpoint: Such as ``http://localhost:4318``.
        clock: The present.

    Raises:
        TracingMissingError: It is not installed.
    """
    if not endpoint:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise TracingMissingError(endpoint, str(error)) from error
    resource = Resource.create({"service.name": _SERVICE, "service.version": __version__})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _log.info("traces go to %s", endpoint)
    return OtelTracer(provider, clock)


def _attributes(exchange: Exchange, method: str, path: str, code: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "flyball.protocol": exchange.protocol,
        "flyball.endpoint": exchange.endpoint,
        "flyball.rows": exchange.rows,
        "flyball.model_version": exchange.version,
        "flyball.prediction_id": exchange.prediction_id,
        "url.path": path,
    }
    if code.isdigit():
        found |= {"http.request.method": method, "http.response.status_code": int(code)}
    else:
        found |= {"rpc.system": "grpc", "rpc.method": method, "rpc.response.status": code}
    return {name: value for name, value in found.items() if value not in ("", 0)}


def _has_failed(code: str) -> bool:
    return int(code) >= 500 if code.isdigit() else code in ("INTERNAL", "UNAVAILABLE", "UNKNOWN")
