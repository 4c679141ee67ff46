"""What is told of each request once it is answered: counts, a line in the log, spans of a trace."""

import logging
from typing import Protocol

from flyball.core.clock import monotonic_s
from flyball.server.inference.exchange import Exchange
from flyball.server.inference.metrics import GatewayMetrics

_requests = logging.getLogger("flyball.requests")


class Tracer(Protocol):
    """Tells of requests to a tracing system; `OtelTracer` does."""

    def record(self, exchange: Exchange, method: str, path: str, code: str, ended_s: float) -> str:
        """Record a finished request and return its trace's id."""
        ...

    def close(self) -> None:
        """Send what was not sent yet."""
        ...


class Telemetry:
    """Watches requests. Used by one thread.

    Args:
        metrics: Counts.
        tracer: Keeps traces, if they are wanted.
        logs_requests: Whether each request is a line in the log.
    """

    def __init__(self, metrics: GatewayMetrics, tracer: Tracer | None = None, *, logs_requests: bool = False) -> None:
        self.metrics = metrics
        self.tracer = tracer
        self._logs_requests = logs_requests

    def begin(self, exchange: Exchange) -> Exchange:
        """Count a request that came."""
        self.metrics.count_begin()
        return exchange

    def finish(self, exchange: Exchange, method: str, path: str, code: str) -> None:
        """Tell of a request whose answer is out."""
        ended_s = monotonic_s()
        exchange.tell_notes()
        duration_s = ended_s - exchange.started_s
        self.metrics.count_end(exchange, code, duration_s)
        trace = "" if self.tracer is None else self.tracer.record(exchange, method, path, code, ended_s)
        if self._logs_requests:
            fields = {
                "method": method,
                "path": path,
                "code": code,
                "duration_ms": round(duration_s * 1_000, 3),
                "protocol": exchange.protocol,
                "endpoint": exchange.endpoint,
                "rows": exchange.rows,
                "version": exchange.version,
                "prediction_id": exchange.prediction_id,
                "trace_id": trace,
            }
            text = " ".join(f"{name}={value}" for name, value in fields.items() if value not in ("", 0))
            _requests.info("%s", text, extra={"fields": fields})
