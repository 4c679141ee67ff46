"""Latency histograms that add up: the same log-spaced bins everywhere, kept sparse."""

from collections.abc import Mapping
from math import log10

import numpy as np
from numpy.typing import ArrayLike, NDArray

Histogram = dict[int, int]
"""How many answers fell into each bin; bins without any are absent."""

_FASTEST_US = 10.0
_BINS_PER_DECADE = 20  # A bin's ends lie 12% apart, so a quantile is off by less than that.
_DECADES = 7
_LAST_BIN = _BINS_PER_DECADE * _DECADES - 1


def place_latencies(latencies_us: ArrayLike) -> NDArray[np.int64]:
    """Return the bin of each latency in microseconds; the outermost bins take all beyond 10 µs and 100 s."""
    values = np.maximum(np.asarray(latencies_us, dtype=np.float64), _FASTEST_US)
    # The small addition keeps a value that lies on an edge in the bin that begins there.
    places = (np.log10(values / _FASTEST_US) * _BINS_PER_DECADE + 1e-9).astype(np.int64)
    return np.minimum(places, _LAST_BIN)


def count_latencies(latencies_us: ArrayLike) -> Histogram:
    """Count latencies in microseconds. See `place_latencies`."""
    bins, counts = np.unique(place_latencies(latencies_us), return_counts=True)
    return dict(zip(bins.tolist(), counts.tolist(), strict=True))


def find_quantile_us(histogram: Mapping[int, int], share: float) -> float | None:
    """Return the latency in microseconds below which ``share`` of the answers lie, or None without answers.

    Inside a bin answers are taken as spread evenly on the logarithmic scale.
    """
    rows = sum(histogram.values())
    if not rows:
        return None
    wanted, below = share * rows, 0
    for place in sorted(histogram):
        count = histogram[place]
        if below + count >= wanted:
            return _edge_us(place + (wanted - below) / count)
        below += count
    return _edge_us(max(histogram) + 1)


def count_slower(histogram: Mapping[int, int], than_us: float) -> int:
    """Return how many answers fell into bins that lie wholly above ``than_us``."""
    border = log10(max(than_us, _FASTEST_US) / _FASTEST_US) * _BINS_PER_DECADE
    return sum(count for place, count in histogram.items() if place >= border - 1e-9)


def _edge_us(place: float) -> float:
    return float(_FASTEST_US * 10 ** (place / _BINS_PER_DECADE))
