"""Comparing variants: exact where a reference exists, quiet for good canaries, quick for broken ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from flyball.domain.monitoring.guards import GuardLimits, VariantCounts, compare_variants, fisher_p_value
from flyball.domain.monitoring.latencies import count_latencies
from flyball.domain.monitoring.performance import Estimate, compute_metric


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.data())
def test_the_p_value_is_that_of_fishers_exact_test(rows_new: int, rows_live: int, data: st.DataObject) -> None:
    hits_new = data.draw(st.integers(0, rows_new))
    hits_live = data.draw(st.integers(0, rows_live))
    table = [[hits_new, rows_new - hits_new], [hits_live, rows_live - hits_live]]
    expected = fisher_exact(table, alternative="greater").pvalue
    assert fisher_p_value(hits_new, rows_new, hits_live, rows_live) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_large_counts_are_no_trouble() -> None:
    assert fisher_p_value(10_100, 1_000_000, 10_000, 1_000_000) == pytest.approx(0.2405, abs=0.005)
    assert fisher_p_value(9_000, 1_000_000, 10_000, 1_000_000) == pytest.approx(1.0)


def test_twenty_requests_decide_nothing() -> None:
    verdict = compare_variants(VariantCounts(requests=1_000), VariantCounts(requests=20, errors=20))
    assert verdict.state == "not-enough-data"
    assert verdict.reasons == ["20 requests so far, 50 are needed to judge"]


def test_a_canary_that_always_fails_is_worse_at_the_first_look() -> None:
    verdict = compare_variants(VariantCounts(requests=950, errors=1), VariantCounts(requests=50, errors=50))
    assert verdict.state == "worse"
    assert verdict.reasons == ["100.00% of 50 requests failed, against 0.11% of 950"]


def test_a_canary_that_fails_is_worse_also_when_the_live_variant_was_not_asked() -> None:
    assert compare_variants(VariantCounts(requests=0), VariantCounts(requests=60, errors=30)).state == "worse"


def _watch(random: np.random.Generator, share_live: float, share_new: float, looks: int) -> int | None:
    """Return at which look, of 100 requests each with 5% for the canary, it was found worse."""
    live, new, failed_live, failed_new = 0, 0, 0, 0
    for look in range(1, looks + 1):
        live, new = live + 1_900, new + 100
        failed_live += random.binomial(1_900, share_live)
        failed_new += random.binomial(100, share_new)
        verdict = compare_variants(
            VariantCounts(requests=live, errors=failed_live), VariantCounts(requests=new, errors=failed_new)
        )
        if verdict.state == "worse":
            return look
    return None


def test_a_canary_as_good_as_the_live_one_is_hardly_ever_stopped() -> None:
    random = np.random.default_rng(3)
    stopped = sum(_watch(random, 0.02, 0.02, looks=60) is not None for _ in range(200))
    assert stopped <= 4


def test_a_canary_with_five_times_the_errors_is_stopped_early() -> None:
    random = np.random.default_rng(4)
    looks = [_watch(random, 0.01, 0.05, looks=60) for _ in range(100)]
    assert all(looks)
    assert float(np.median([look for look in looks if look])) <= 4


def test_a_slow_canary_is_worse_and_a_faster_one_is_not() -> None:
    random = np.random.default_rng(5)
    live = VariantCounts(requests=5_000, latencies=count_latencies(random.lognormal(8.5, 0.4, 5_000)))
    slow = VariantCounts(requests=300, latencies=count_latencies(random.lognormal(9.8, 0.4, 300)))
    same = VariantCounts(requests=300, latencies=count_latencies(random.lognormal(8.5, 0.4, 300)))
    assert compare_variants(live, slow).state == "worse"
    assert compare_variants(live, same).state == "ok"
    assert compare_variants(slow, live).state == "ok"


def test_differences_below_a_few_milliseconds_do_not_matter() -> None:
    live = VariantCounts(requests=5_000, latencies=count_latencies([300.0] * 5_000))
    slower = VariantCounts(requests=500, latencies=count_latencies([1_500.0] * 500))
    assert compare_variants(live, slower).state == "ok"


def test_predictions_in_another_unit_are_worse_and_a_shift_after_a_change_is_not() -> None:
    live = VariantCounts(requests=900, predictions=900, prediction_mean=540_000.0, prediction_std=300_000.0)
    cents = VariantCounts(requests=90, predictions=90, prediction_mean=54e6, prediction_std=3e7)
    risen = VariantCounts(requests=90, predictions=90, prediction_mean=840_000.0, prediction_std=350_000.0)
    assert compare_variants(live, cents).state == "worse"
    assert compare_variants(live, risen).state == "ok"


def test_a_worse_metric_is_found_in_either_direction() -> None:
    good, bad = Estimate(0.80, 2_000, 0.01), Estimate(0.70, 400, 0.02)
    auc = GuardLimits(metric="auc")
    assert compare_variants(_labelled(good), _labelled(bad), auc).state == "worse"
    assert compare_variants(_labelled(bad), _labelled(good), auc).state == "ok"
    rmse = GuardLimits(metric="rmse")
    assert compare_variants(_labelled(bad), _labelled(good), rmse).state == "worse"


def test_a_metric_with_few_labels_or_within_chance_says_nothing() -> None:
    auc = GuardLimits(metric="auc")
    few = compare_variants(_labelled(Estimate(0.8, 2_000, 0.01)), _labelled(Estimate(0.2, 30, 0.1)), auc)
    assert few.comparisons[-1].state == "not-enough-data"
    near = compare_variants(_labelled(Estimate(0.8, 2_000, 0.01)), _labelled(Estimate(0.77, 300, 0.03)), auc)
    assert near.state == "ok"


def _labelled(metric: Estimate) -> VariantCounts:
    return VariantCounts(requests=500, metric=metric)


def test_equal_models_are_hardly_ever_told_apart_by_their_labels() -> None:
    random = np.random.default_rng(6)
    worse = 0
    for _ in range(300):
        estimates = []
        for rows in (1_500, 200):
            chance = random.beta(2, 4, rows)
            estimates.append(compute_metric("auc", (random.random(rows) < chance).astype(float), chance))
        verdict = compare_variants(_labelled(estimates[0]), _labelled(estimates[1]), GuardLimits(metric="auc"))
        worse += verdict.state == "worse"
    assert worse <= 3


def cells(values: np.ndarray) -> tuple[int, ...]:
    edges = np.quantile(np.random.default_rng(0).normal(size=10_000), np.arange(1, 10) / 10)
    return tuple(np.bincount(np.searchsorted(edges, values), minlength=10).tolist())


@pytest.mark.parametrize(
    ("shift", "scale", "state"),
    [(0.0, 1.0, "ok"), (1.0, 1.0, "ok"), (0.0, 1e-6, "worse"), (4.0, 1.0, "worse")],
    ids=["alike", "moved", "all alike", "another unit"],
)
def test_a_canary_that_answers_all_alike_is_worse(shift: float, scale: float, state: str) -> None:
    dice = np.random.default_rng(4)
    live = VariantCounts(requests=5_000, cells=cells(dice.normal(size=5_000)))
    new = VariantCounts(requests=500, cells=cells(dice.normal(shift, scale, 500)))
    verdict = compare_variants(live, new)
    assert verdict.state == state, verdict.reasons
    if state == "worse":
        assert "spread otherwise than the live ones" in verdict.reasons[0]


def test_few_predictions_say_nothing_of_their_distribution() -> None:
    few = VariantCounts(requests=60, cells=(40, 0))
    assert compare_variants(VariantCounts(requests=60, cells=(0, 40)), few).state == "ok"
