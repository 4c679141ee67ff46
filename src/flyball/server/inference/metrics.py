"""What the gateway did, as counts, in the text format of Prometheus."""

from collections import Counter
from collections.abc import Iterable, Sequence

from flyball.domain.serving.answers import Answer

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class GatewayMetrics:
    """Counts of one process. Used by one thread."""

    def __init__(self) -> None:
        self._rows: Counter[tuple[str, str, str, str]] = Counter()
        self._responses: Counter[int] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def count_rows(self, answers: Iterable[Answer]) -> None:
        """Count answers by endpoint, version, variant and status."""
        for answer in answers:
            self._rows[answer.endpoint, answer.model_version, answer.variant, answer.status] += 1

    def count_duration(self, endpoint: str, duration_s: float) -> None:
        """Count how long a request to an existing endpoint took."""
        buckets = self._buckets.setdefault(endpoint, [0] * (len(_BOUNDS_S) + 1))
        buckets[sum(duration_s > bound for bound in _BOUNDS_S)] += 1
        self._seconds[endpoint] = self._seconds.get(endpoint, 0.0) + duration_s

    def count_response(self, status: int) -> None:
        """Count a response by its HTTP status."""
        self._responses[status] += 1

    def write(self) -> bytes:
        """Return all counts."""
        lines = ["# TYPE flyball_predictions_total counter"]
        lines += [
            _sample(
                "flyball_predictions_total", count, endpoint=endpoint, version=version, variant=variant, status=status
            )
            for (endpoint, version, variant, status), count in sorted(self._rows.items())
        ]
        lines.append("# TYPE flyball_http_responses_total counter")
        lines += [
            _sample("flyball_http_responses_total", count, code=str(code))
            for code, count in sorted(self._responses.items())
        ]
        lines.append("# TYPE flyball_request_duration_seconds histogram")
        for endpoint, buckets in sorted(self._buckets.items()):
            lines += self._write_histogram(endpoint, buckets)
        return ("\n".join(lines) + "\n").encode()

    def _write_histogram(self, endpoint: str, buckets: Sequence[int]) -> list[str]:
        name, total, lines = "flyball_request_duration_seconds", 0, []
        for bound, count in zip((*map(str, _BOUNDS_S), "+Inf"), buckets, strict=True):
            total += count
            lines.append(_sample(f"{name}_bucket", total, endpoint=endpoint, le=bound))
        lines.append(_sample(f"{name}_sum", self._seconds[endpoint], endpoint=endpoint))
        lines.append(_sample(f"{name}_count", total, endpoint=endpoint))
        return lines


def _sample(metric: str, value: float, **labels: str) -> str:
    text = ",".join(f'{name}="{_escape(label)}"' for name, label in labels.items())
    return f"{metric}{{{text}}} {value}"


def _escape(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
