"""How long one row takes, measured the way a request takes it."""

from typing import TYPE_CHECKING

from flyball.core.clock import monotonic_s
from flyball.domain.registry.evidence import Latency
from flyball.domain.registry.runtimes import Predictor
from flyball.domain.registry.signatures import Signature

if TYPE_CHECKING:
    import polars as pl

_WARM_UP = 20
_ROWS = 200
_BUDGET_S = 5.0


def measure_latency(predictor: Predictor, signature: Signature, reference: "pl.DataFrame") -> Latency | None:
    """Predict single rows of the reference sample, each from its JSON-like values to the answer.

    The first rows warm caches and threads and do not count. A slow model is measured for about five seconds.

    Returns:
        Percentiles by the nearest rank, or None where there are no rows.
    """
    if not len(reference):
        return None
    rows = reference.select(signature.features.names).head(_ROWS).to_dicts()
    for row in rows[:_WARM_UP]:
        predictor.predict(signature.features.frame([row]))
    times_s: list[float] = []
    began = monotonic_s()
    for index in range(_ROWS):
        start = monotonic_s()
        predictor.predict(signature.features.frame([rows[index % len(rows)]]))
        end = monotonic_s()
        times_s.append(end - start)
        if end - began > _BUDGET_S:
            break
    times_s.sort()
    return Latency(p50_s=_percentile(times_s, 0.50), p99_s=_percentile(times_s, 0.99), rows=len(times_s))


def _percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
