"""The index agrees with its definition, stays quiet without drift and finds drift that matters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from flyball.domain.monitoring.psi import (
    CONVENTIONAL_LIMIT,
    chance_limit,
    chi_square_quantile,
    compute_psi,
    pool_sparse,
)

_cells = st.integers(2, 12).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 1000), min_size=n, max_size=n).filter(any),
        st.lists(st.integers(0, 1000), min_size=n, max_size=n).filter(any),
    )
)


@settings(deadline=None)
@given(_cells)
def test_the_index_is_never_negative_and_symmetric(cells: tuple[list[int], list[int]]) -> None:
    before, now = cells
    assert compute_psi(before, now) >= 0
    assert compute_psi(before, now) == pytest.approx(compute_psi(now, before))


@settings(deadline=None)
@given(_cells, st.integers(1, 50))
def test_equal_shares_have_no_drift_at_any_size(cells: tuple[list[int], list[int]], times: int) -> None:
    before, _ = cells
    assert compute_psi(before, [count * times for count in before]) == pytest.approx(0, abs=1e-12)


def test_with_many_rows_the_index_is_that_of_the_definition() -> None:
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.4, 0.3, 0.3])
    expected = float(((q - p) * np.log(q / p)).sum())
    assert compute_psi(p * 1e6, q * 1e6) == pytest.approx(expected, rel=1e-4)


def test_a_cell_that_is_empty_in_both_adds_nothing() -> None:
    assert compute_psi([50, 50, 0], [5000, 5000, 0]) == pytest.approx(0, abs=1e-12)


@settings(deadline=None)
@given(_cells)
def test_pooling_keeps_all_rows(cells: tuple[list[int], list[int]]) -> None:
    before, now = cells
    pooled_before, pooled_now = pool_sparse(before, now)
    assert sum(pooled_before) == sum(before)
    assert sum(pooled_now) == sum(now)


def test_what_training_never_saw_shows_although_its_cell_is_pooled() -> None:
    before, now = pool_sparse([5000, 5000, 0, 0], [90, 80, 0, 30])
    assert compute_psi(before, now) > CONVENTIONAL_LIMIT


@pytest.mark.parametrize("degrees", [1, 2, 3, 5, 9, 20, 40])
@pytest.mark.parametrize("probability", [0.99, 0.999, 1 - 1e-4, 1 - 1e-6])
def test_quantiles_are_those_of_chi_square_or_a_little_above(degrees: int, probability: float) -> None:
    exact = chi2.ppf(probability, degrees)
    assert exact * 0.999 <= chi_square_quantile(probability, degrees) <= exact * 1.09


def _draw(random: np.random.Generator, shares: np.ndarray, rows: int, times: int) -> np.ndarray:
    return random.multinomial(rows, shares, size=times)


_SHAPES = {
    "10 equal bins and nulls": np.append(np.full(10, 0.099), 0.01),
    "2 categories": np.array([0.97, 0.03]),
    "22 categories, most of them rare": np.sort(0.7 ** np.arange(22))[::-1] / (0.7 ** np.arange(22)).sum(),
    "a column that is nearly always the same": np.array([0.999, 0.0005, 0.0005]),
}


@pytest.mark.parametrize("shape", _SHAPES)
@pytest.mark.parametrize("rows", [200, 1_000, 20_000])
def test_chance_seldom_exceeds_its_limit(shape: str, rows: int) -> None:
    random = np.random.default_rng(1)
    shares, rate, times = _SHAPES[shape], 0.001, 4_000
    alarms = 0
    for before, now in zip(_draw(random, shares, 5_000, times), _draw(random, shares, rows, times), strict=True):
        cells_before, cells_now = pool_sparse(before.tolist(), now.tolist())
        index = compute_psi(cells_before, cells_now)
        alarms += index > chance_limit(len(cells_before), 5_000, rows, rate)
    # Three times the rate, and two for the luck of 4,000 draws: the point is 0.1%, not 5%.
    assert alarms <= 3 * rate * times + 2


@pytest.mark.parametrize(("rows", "shift"), [(200, 0.75), (1_000, 0.5), (20_000, 0.5)])
def test_a_shift_of_a_normal_column_is_found(rows: int, shift: float) -> None:
    random = np.random.default_rng(2)
    edges = np.quantile(random.normal(size=50_000), np.arange(0.1, 1, 0.1))
    found = 0
    for _ in range(100):
        before = np.bincount(np.searchsorted(edges, random.normal(size=5_000)), minlength=10)
        now = np.bincount(np.searchsorted(edges, random.normal(shift, 1, size=rows)), minlength=10)
        limit = max(CONVENTIONAL_LIMIT, chance_limit(10, 5_000, rows, 1e-4 / 20))
        found += compute_psi(before.tolist(), now.tolist()) > limit
    assert found >= 90
