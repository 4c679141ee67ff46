"""A/B tests that may be looked at all the time: always-valid sequential tests. Pure functions.

The test is the mixture sequential probability ratio test (Robbins, Annals of Mathematical Statistics 41, 1970; for A/B
tests Johari, Koomen, Pekelis and Walsh, "Always Valid Inference", Operations Research 70, 2022): under no difference
the mixed likelihood ratio is a martingale that starts at 1, so that it ever reaches 1/alpha with a chance of at most
alpha (Ville's inequality). Means of labels are taken as normal, with the variance that the rows show, which is where
the guarantee is asymptotic; hence a least number of labels before the first look.
"""

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from math import exp, log, sqrt

import msgspec

from flyball.domain.serving.rollouts import Stage, StageKind
from flyball.domain.serving.trials import (
    ABTest,
    Arm,
    Better,
    check_count,
    check_effect,
    check_fields,
    check_metric,
    check_share,
    check_times,
    compare_means,
)


class Decision(StrEnum):
    """What a trial concludes."""

    BETTER = "better"
    WORSE = "worse"
    NO_GAIN = "no-gain"
    UNDECIDED = "undecided"
    WAIT = "wait"


class ABResult(msgspec.Struct, frozen=True, kw_only=True):
    """An A/B test at one look.

    Attributes:
        decision: What it says.
        live: How the live version did.
        new: How the new one did.
        effect: How much better the new version's metric is; below 0 it is worse.
        low: The effect is at least this,
        high: and at most this, at all looks together with the declared confidence.
        p_value: The always-valid p-value of no difference.
        message: The same in words.
    """

    decision: Decision
    live: Arm
    new: Arm
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    message: str


def ab_test(
    metric: str,
    *,
    min_effect: float,
    share: float = 0.5,
    better: Better | None = None,
    alpha: float = 0.05,
    at_least: str | timedelta = "1d",
    at_most: str | timedelta = "28d",
    min_labels: int = 100,
    by: Sequence[str] | None = None,
) -> Stage:
    """Declare a stage in which labels decide, by an A/B test, whether the new version goes on.

    The new version answers a share of the traffic, always the same entities. The test is looked at whenever labels
    come, and ends by itself: the new version goes on if it is better; it is taken back if it is worse, if an
    improvement of ``min_effect`` is ruled out, or if ``at_most`` is over without a decision.

    Args:
        metric: A mean over rows: ``accuracy``, ``brier``, ``logloss``, ``mae``, ``mse``, or ``label``, the mean of
            the labels themselves.
        min_effect: The smallest improvement worth having, in the metric's units; the smaller, the longer it takes.
        share: The new version's part of the traffic.
        better: For ``label``: whether higher or lower labels are good.
        alpha: How seldom the test may be wrong, however often it is looked at.
        at_least: It does not end before, but for harm; a week covers the days of the week.
        at_most: When it ends without a decision.
        min_labels: Fewer labels than this for either variant decide nothing.
        by: The request's fields that keep a variant; the entity by default.

    Raises:
        UnknownNameError: No trial can compare that metric.
        InvalidInputError: An argument is out of its range; it is named.
    """
    least, most = check_times("ab_test", at_least, at_most)
    test = ABTest(
        metric=metric,
        better=check_metric("ab_test", metric, better),
        min_effect=check_effect("ab_test", min_effect),
        alpha=check_share("ab_test", "alpha", alpha, high=0.5),
        at_most=most,
        min_labels=check_count("ab_test", min_labels),
        by=check_fields("ab_test", by),
    )
    return Stage(kind=StageKind.AB_TEST, share=check_share("ab_test", "share", share), duration=least, trial=test)


def judge_ab_test(test: ABTest, live: Arm, new: Arm, elapsed: timedelta) -> ABResult:
    """Judge a test by what is known now.

    Args:
        test: The question.
        live: How the live version did.
        new: How the new one did.
        elapsed: How long the test has lasted.
    """
    is_over = elapsed >= test.at_most
    few = min(live.rows, new.rows)
    compared = compare_means(live, new, test.better)
    if few < test.min_labels or compared is None:
        decision = Decision.UNDECIDED if is_over else Decision.WAIT
        text = f"{few} labels of each variant so far, {test.min_labels} are needed to judge {test.metric}"
        if few >= test.min_labels:
            text = f"all labels give the same {test.metric}, or are about one unit, so nothing can be told yet"
        return ABResult(decision=decision, live=live, new=new, message=text)
    effect, variance = compared
    margin = always_valid_margin(variance, test.min_effect, test.alpha)
    low, high = effect - margin, effect + margin
    if high < 0:
        decision = Decision.WORSE
    elif high < test.min_effect:
        decision = Decision.NO_GAIN
    elif low > 0:
        decision = Decision.BETTER
    else:
        decision = Decision.UNDECIDED if is_over else Decision.WAIT
    return ABResult(
        decision=decision,
        live=live,
        new=new,
        effect=effect,
        low=low,
        high=high,
        p_value=always_valid_p_value(effect, variance, test.min_effect),
        message=f"{test.metric} is {new.mean:.4g} over {new.rows} labels, against {live.mean:.4g} over {live.rows}: "
        f"better by {effect:.3g}, between {low:.3g} and {high:.3g}",
    )


def always_valid_p_value(effect: float, variance: float, spread: float) -> float:
    """Return how often chance gives so much evidence of a difference at any look.

    Args:
        effect: The difference of both means.
        variance: The variance of that difference.
        spread: The standard deviation of the effects that are mixed over; the effect looked for is a good one.
    """
    both = variance + spread**2
    log_ratio = 0.5 * log(variance / both) + spread**2 * effect**2 / (2 * variance * both)
    return min(1.0, exp(-log_ratio)) if log_ratio < 700 else 0.0


def always_valid_margin(variance: float, spread: float, alpha: float) -> float:
    """Return the half width of the confidence sequence: it covers the true effect at all looks with 1 - alpha."""
    both = variance + spread**2
    return sqrt(variance * both / spread**2 * (2 * log(1 / alpha) + log(both / variance)))
