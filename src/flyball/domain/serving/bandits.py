"""A bandit between the live version and a new one: traffic follows what labels say. Pure functions.

Thompson's rule (Thompson, Biometrika 25, 1933) lets each version answer with the probability that it is the better one.
That probability is the new version's share, kept between declared limits, set anew every so often, and logged with each
prediction as its propensity.
"""

from collections.abc import Sequence
from datetime import timedelta
from math import sqrt
from statistics import NormalDist

import msgspec

from flyball.core.durations import parse_duration
from flyball.core.errors import InvalidInputError
from flyball.domain.serving.ab_tests import Decision
from flyball.domain.serving.rollouts import Stage, StageKind
from flyball.domain.serving.trials import (
    Arm,
    Bandit,
    Better,
    check_count,
    check_fields,
    check_metric,
    check_share,
    check_times,
    compare_means,
)


class BanditResult(msgspec.Struct, frozen=True, kw_only=True):
    """A bandit at one look.

    Attributes:
        decision: What it says.
        live: How the live version did.
        new: How the new one did.
        probability: How likely the new version is the better one; None while too little is known.
        share: The new version's share of the traffic from now on.
        message: The same in words.
    """

    decision: Decision
    live: Arm
    new: Arm
    probability: float | None = None
    share: float
    message: str


def bandit(
    metric: str,
    *,
    max_share: float = 0.5,
    min_share: float = 0.05,
    better: Better | None = None,
    every: str | timedelta = "10m",
    sure: float = 0.99,
    at_least: str | timedelta = "1d",
    at_most: str | timedelta = "28d",
    min_labels: int = 50,
    by: Sequence[str] | None = None,
) -> Stage:
    """Declare a stage in which a bandit gives the version that does better more of the traffic.

    The new version begins with ``min_share``. Its share is then the probability that it is better, by Thompson's rule,
    within the limits. It goes on when it is better almost surely, and is taken back when it is worse almost surely, or
    when ``at_most`` is over. A bandit loses less to the worse version than an A/B test does, but makes no promise
    about how often it is wrong: where that matters, use `ab_test`.

    Args:
        metric: A mean over rows: ``accuracy``, ``brier``, ``logloss``, ``mae``, ``mse``, or ``label``, the mean of
            the labels themselves.
        max_share: The new version's greatest share of the traffic; it is never exceeded.
        min_share: Its least share, so that labels keep coming.
        better: For ``label``: whether higher or lower labels are good.
        every: How often the share is set anew.
        sure: How likely the new version must be better to go on.
        at_least: It does not end before, but for harm.
        at_most: When it ends in any case.
        min_labels: Fewer labels than this for either variant move nothing.
        by: The request's fields that keep a variant while shares only grow; the entity by default.

    Raises:
        UnknownNameError: No trial can compare that metric.
        InvalidInputError: An argument is out of its range; it is named.
    """
    least, most = check_times("bandit", at_least, at_most)
    greatest = check_share("bandit", "max_share", max_share)
    lowest = check_share("bandit", "min_share", min_share)
    if lowest > greatest:
        raise InvalidInputError(f"bandit(min_share={min_share!r}) must not exceed max_share={max_share!r}")
    policy = Bandit(
        metric=metric,
        better=check_metric("bandit", metric, better),
        min_share=lowest,
        every=parse_duration(every, what="bandit's every"),
        sure=check_share("bandit", "sure", sure, low=0.5),
        at_most=most,
        min_labels=check_count("bandit", min_labels),
        by=check_fields("bandit", by),
    )
    return Stage(kind=StageKind.BANDIT, share=greatest, duration=least, trial=policy)


def judge_bandit(stage: Stage, policy: Bandit, live: Arm, new: Arm, elapsed: timedelta) -> BanditResult:
    """Judge a bandit by what is known now, and say which share the new version gets.

    Args:
        stage: Tells the greatest share.
        policy: Tells the rest.
        live: How the live version did; means weighted by the inverse of propensities.
        new: How the new one did.
        elapsed: How long the bandit has lasted.
    """
    is_over = elapsed >= policy.at_most
    few = min(live.rows, new.rows)
    compared = compare_means(live, new, policy.better)
    if few < policy.min_labels or compared is None:
        return BanditResult(
            decision=Decision.UNDECIDED if is_over else Decision.WAIT,
            live=live,
            new=new,
            share=limit_share(stage, policy, None if few < policy.min_labels else 0.5),
            message=f"{few} labels of each variant so far, {policy.min_labels} are needed to move traffic",
        )
    effect, variance = compared
    probability = NormalDist().cdf(effect / sqrt(variance))
    if probability >= policy.sure:
        decision = Decision.BETTER
    elif probability <= 1 - policy.sure:
        decision = Decision.WORSE
    else:
        decision = Decision.UNDECIDED if is_over else Decision.WAIT
    return BanditResult(
        decision=decision,
        live=live,
        new=new,
        probability=probability,
        share=limit_share(stage, policy, probability),
        message=f"{policy.metric} is {new.mean:.4g} over {new.rows} labels, against {live.mean:.4g} over {live.rows}: "
        f"better with a probability of {probability:.1%}",
    )


def limit_share(stage: Stage, policy: Bandit, probability: float | None) -> float:
    """Return the new version's share: the probability that it is better, within the declared limits."""
    return min(stage.share, max(policy.min_share, probability or 0.0))
