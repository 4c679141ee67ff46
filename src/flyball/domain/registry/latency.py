"""How long one row takes, measured the way a request takes it."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from flyball.core.clock import monotonic_s
from flyball.domain.registry.evidence import Latency
from flyball.domain.registry.runtimes import Predictor, array_form
from flyball.domain.registry.signatures import Signature

if TYPE_CHECKING:
    import polars as pl

_WARM_UP = 20
_ROUNDS = 3
_ROWS = 100
_BUDGET_S = 5.0


def measure_latency(predictor: Predictor, signature: Signature, reference: "pl.DataFrame") -> Latency | None:
    """Predict single rows of the reference sample, each from its JSON-like values to the answer.

    The first rows warm caches and threads and do not count. Of three rounds the calmest counts, so that what else the
    machine does is not held against the model. A slow model is measured for about five seconds.

    Returns:
        Percentiles by the nearest rank, or None where there are no rows.
    """
    if not len(reference):
        return None
    rows = reference.select(signature.features.names).head(_ROWS).to_dicts()
    compute = _compute(predictor, signature)
    for row in rows[:_WARM_UP]:
        compute(row)
    began = monotonic_s()
    rounds: list[Latency] = []
    while len(rounds) < _ROUNDS and monotonic_s() - began < _BUDGET_S:
        rounds.append(_measure_round(compute, rows, began + _BUDGET_S))
    full = [one for one in rounds if one.rows == rounds[0].rows]
    return min(full, key=lambda one: one.p99_s)


def _compute(predictor: Predictor, signature: Signature) -> Callable[[dict[str, Any]], Any]:
    """Return how one row's values become an answer: by way of an array where that is how requests do."""
    form = array_form(predictor)
    if form is None:
        return lambda row: predictor.predict(signature.features.frame([row]))
    names = signature.features.names
    return lambda row: form(np.array([[row[name] for name in names]], dtype=np.float64))


def _measure_round(compute: Callable[[dict[str, Any]], Any], rows: list[dict[str, Any]], deadline_s: float) -> Latency:
    times_s: list[float] = []
    while len(times_s) < _ROWS and (not times_s or monotonic_s() < deadline_s):
        row = rows[len(times_s) % len(rows)]
        start = monotonic_s()
        compute(row)
        times_s.append(monotonic_s() - start)
    times_s.sort()
    return Latency(p50_s=_percentile(times_s, 0.50), p99_s=_percentile(times_s, 0.99), rows=len(times_s))


def _percentile(ordered: list[float], share: float) -> float:
    return ordered[math.ceil(share * len(ordered)) - 1]
