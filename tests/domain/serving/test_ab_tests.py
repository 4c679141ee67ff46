"""A/B tests keep their promise however often they are looked at, and end by themselves."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyball.core.errors import FlyballError
from flyball.domain.serving.ab_tests import (
    Decision,
    ab_test,
    always_valid_margin,
    always_valid_p_value,
    judge_ab_test,
)
from flyball.domain.serving.rollouts import StageKind
from flyball.domain.serving.trials import ABTest, Arm, summarise

DAY = timedelta(days=1)


def declare(**changes: Any) -> ABTest:
    stage = ab_test(**({"metric": "accuracy", "min_effect": 0.05} | changes))
    assert isinstance(stage.trial, ABTest)
    return stage.trial


def arm(values: Any, units: Any = None) -> Arm:
    found = np.asarray(values, dtype=np.float64)
    return summarise(found, np.arange(len(found)) if units is None else np.asarray(units))


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda: ab_test("auc", min_effect=0.1), "others, such as auc, are not means"),
        (lambda: ab_test("acuracy", min_effect=0.1), "did you mean 'accuracy'"),
        (lambda: ab_test("accuracy", min_effect=0), "min_effect=0) must be greater than 0"),
        (lambda: ab_test("accuracy", min_effect=float("nan")), "must be greater than 0"),
        (lambda: ab_test("label", min_effect=1), "must say which labels are good"),
        (lambda: ab_test("mae", min_effect=1, better="higher"), "is better when lower"),
        (lambda: ab_test("accuracy", min_effect=1, share=1), "ab_test(share=1) must lie between 0 and 1"),
        (lambda: ab_test("accuracy", min_effect=1, alpha=0.9), "ab_test(alpha=0.9) must lie between 0 and 0.5"),
        (lambda: ab_test("accuracy", min_effect=1, at_least="2d", at_most="1d"), "leaves it no time"),
        (lambda: ab_test("accuracy", min_effect=1, at_most="soon"), "ab_test's at_most 'soon' is not a duration"),
        (lambda: ab_test("accuracy", min_effect=1, min_labels=1), "must be a whole number of at least 2"),
        (lambda: ab_test("accuracy", min_effect=1, by="parcel_id"), "must be a list of fields"),
        (lambda: ab_test("accuracy", min_effect=1, by=[]), "must be a list of names"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_plain_words(declare: Callable[[], object], words: str) -> None:
    with pytest.raises(FlyballError) as caught:
        declare()
    assert words in f"{caught.value} {caught.value.hint}"


def test_a_stage_says_what_it_is() -> None:
    stage = ab_test("accuracy", min_effect=0.02, share=0.3, at_least="1d", at_most="14d")
    assert (stage.kind, stage.share, str(stage)) == (StageKind.AB_TEST, 0.3, "A/B test 30% for 1d to 2w")


DRAWS: dict[str, Callable[[np.random.Generator, int], Any]] = {
    "one in three": lambda dice, n: dice.random(n) < 0.3,
    "one in twenty": lambda dice, n: dice.random(n) < 0.05,
    "bell": lambda dice, n: dice.normal(size=n),
    "skewed": lambda dice, n: dice.exponential(size=n),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("min_effect", [0.02, 0.1])
def test_law_looking_all_the_time_does_not_find_differences_that_are_not_there(name: str, min_effect: float) -> None:
    """At each of 100 looks, in 400 tests of equal versions, at a level of 5%."""
    dice = np.random.default_rng(7)
    test = declare(metric="label", better="higher", min_effect=min_effect)
    wrong = 0
    for _ in range(400):
        live, new = DRAWS[name](dice, 2_000).astype(float), DRAWS[name](dice, 2_000).astype(float)
        looks = np.arange(100, 2_001, 20)
        arms = [[_running(values, looks) for values in (live, new)]][0]
        for one, other in zip(*arms, strict=True):
            found = judge_ab_test(test, one, other, timedelta())
            if found.p_value is not None and found.p_value <= test.alpha:
                wrong += 1
                break
    # Of 400, chance lets 20 be wrong on average, and 33 once in a thousand times.
    assert wrong <= 20


def test_law_rows_that_come_in_bundles_do_not_fool_it() -> None:
    """Each entity has up to ten rows that are nearly alike; the test is looked at 20 times."""
    dice = np.random.default_rng(8)
    test = declare(metric="label", better="higher", min_effect=0.1)
    wrong = 0
    for _ in range(150):
        arms = []
        for _ in range(2):
            sizes = dice.integers(1, 11, 400)
            units = np.repeat(np.arange(400), sizes)
            rows = dice.normal(size=400)[units] + 0.2 * dice.normal(size=len(units))
            order = dice.permutation(len(rows))
            arms.append((rows[order], units[order]))
        for share in np.arange(1, 21) / 20:
            one, other = (
                summarise(rows[: int(share * len(rows))], units[: int(share * len(rows))]) for rows, units in arms
            )
            found = judge_ab_test(test, one, other, timedelta())
            if found.p_value is not None and found.p_value <= test.alpha:
                wrong += 1
                break
    assert wrong <= 8


def _running(values: Any, looks: Any) -> list[Arm]:
    """What `summarise` gives of the first rows, at many looks at once."""
    totals, squares = np.cumsum(values)[looks - 1], np.cumsum(values**2)[looks - 1]
    means = totals / looks
    variances = (squares / looks - means**2) / (looks - 1)
    return [
        Arm(rows=int(n), units=int(n), mean=float(mean), variance=float(variance))
        for n, mean, variance in zip(looks, means, variances, strict=True)
    ]


@given(st.floats(-1, 1), st.floats(1e-6, 1), st.floats(1e-3, 1), st.floats(0.001, 0.4))
def test_the_p_value_and_the_interval_say_the_same(effect: float, variance: float, spread: float, alpha: float) -> None:
    margin = always_valid_margin(variance, spread, alpha)
    p_value = always_valid_p_value(effect, variance, spread)
    if abs(effect) > margin * (1 + 1e-9):
        assert p_value < alpha
    elif abs(effect) < margin * (1 - 1e-9):
        assert p_value > alpha


@pytest.mark.parametrize(
    ("live", "new", "better", "decision"),
    [
        (0.3, 0.45, "higher", Decision.BETTER),
        (0.45, 0.3, "higher", Decision.WORSE),
        (0.45, 0.3, "lower", Decision.BETTER),
        (0.3, 0.302, "higher", Decision.NO_GAIN),
    ],
)
def test_enough_labels_decide(live: float, new: float, better: str, decision: Decision) -> None:
    dice = np.random.default_rng(1)
    test = declare(metric="label", better=better)
    found = judge_ab_test(test, arm(dice.random(20_000) < live), arm(dice.random(20_000) < new), DAY)
    assert found.decision is decision
    assert found.low is not None and found.high is not None and found.effect is not None
    assert found.low < found.effect < found.high
    assert "over 20000 labels" in found.message


def test_few_labels_wait_until_the_time_is_over() -> None:
    test = declare(at_most="14d")
    some = arm([0, 1] * 20)
    assert judge_ab_test(test, some, some, 13 * DAY).decision is Decision.WAIT
    assert judge_ab_test(test, some, some, 14 * DAY).decision is Decision.UNDECIDED
    unclear = arm([0, 1] * 100)
    assert judge_ab_test(test, unclear, unclear, 13 * DAY).decision is Decision.WAIT
    assert judge_ab_test(test, unclear, unclear, 14 * DAY).decision is Decision.UNDECIDED
    alike = arm([0] * 200)
    assert "all labels give the same" in judge_ab_test(test, alike, alike, DAY).message


def test_labels_that_are_all_alike_in_one_variant_decide_too() -> None:
    test = declare(metric="label", better="higher")
    all_good, all_bad, mixed = arm([1] * 150), arm([0] * 150), arm([1, 0, 0] * 50)
    assert judge_ab_test(test, mixed, all_good, DAY).decision is Decision.BETTER
    assert judge_ab_test(test, all_good, all_bad, DAY).decision is Decision.WORSE
    hardly = arm([1] * 149 + [0])
    assert judge_ab_test(test, hardly, all_good, DAY).decision is Decision.NO_GAIN
    assert judge_ab_test(declare(metric="label", better="higher", min_effect=0.001), hardly, all_good, DAY).p_value == 1


def test_rows_of_one_unit_count_as_the_little_they_tell() -> None:
    dice = np.random.default_rng(5)
    of_units = dice.normal(size=50)
    rows = np.repeat(of_units, 40)
    together = summarise(rows, np.repeat(np.arange(50), 40))
    apart = summarise(rows, np.arange(2_000))
    assert (together.rows, together.units) == (2_000, 50)
    assert together.mean == pytest.approx(apart.mean)
    assert together.variance == pytest.approx(of_units.var(ddof=1) / 50, rel=0.01)
    assert apart.variance == pytest.approx(rows.var(ddof=1) / 2_000)


def test_weights_put_right_what_was_seldom_asked() -> None:
    values = np.array([1.0, 1.0, 0.0])
    found = summarise(values, np.arange(3), weights=np.array([1.0, 1.0, 8.0]))
    assert found.mean == pytest.approx(0.2)


def test_nothing_is_known_of_no_rows() -> None:
    assert summarise(np.array([]), np.array([], dtype=np.int64)) == Arm(rows=0, units=0)
    assert summarise(np.array([1.0]), np.array([0])).variance is None
