"""Latency histograms add up and give quantiles within a bin's width."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyball.domain.monitoring.latencies import (
    count_latencies,
    count_slower,
    find_quantile_us,
)


@settings(deadline=None)
@given(st.lists(st.floats(10, 9.9e7), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99]))
def test_quantiles_are_off_by_less_than_a_bin(latencies: list[float], share: float) -> None:
    exact = float(np.quantile(latencies, share, method="inverted_cdf"))
    assert find_quantile_us(count_latencies(latencies), share) == pytest.approx(exact, rel=0.13)


def test_no_answers_have_no_quantile() -> None:
    assert find_quantile_us({}, 0.99) is None


def test_slower_counts_whole_bins_only() -> None:
    histogram = count_latencies([100.0, 1_000.0, 1_000_000.0])
    assert count_slower(histogram, 1_000.0) == 2
    assert count_slower(histogram, 1_100.0) == 1
    assert count_slower(histogram, 1e9) == 0
