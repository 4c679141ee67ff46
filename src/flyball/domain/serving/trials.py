"""Trials: stages in which labels decide between the live version and a new one. What both kinds share.

The unit of a trial is what keeps its variant: an entity, or whatever ``by`` names. Rows of one unit are not independent
of each other, so figures are taken over units.
"""

from collections.abc import Sequence
from datetime import timedelta
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from flyball.core.durations import parse_duration
from flyball.core.errors import InvalidInputError, UnknownNameError

if TYPE_CHECKING:
    import numpy as np

    Floats = np.ndarray[Any, np.dtype[np.float64]]
    Ints = np.ndarray[Any, np.dtype[np.int64]]

Better = Literal["higher", "lower"]
LABEL = "label"
"""The metric that is the mean of the labels themselves, such as the share of offers that were taken."""
TRIAL_METRICS: dict[str, Better | None] = {
    "accuracy": "higher",
    "brier": "lower",
    "logloss": "lower",
    "mae": "lower",
    "mse": "lower",
    LABEL: None,
}
"""Metrics that are means over rows, which trials need, and which way each is good; None where the project says it."""


class ABTest(msgspec.Struct, frozen=True, kw_only=True, tag="ab-test"):
    """Which question an A/B test answers; made by `ab_tests.ab_test`.

    Attributes:
        metric: What is compared.
        better: Which way it is good.
        min_effect: The smallest improvement worth having, in the metric's units.
        alpha: How seldom the test may be wrong, however often it is looked at.
        at_most: After so long without a decision, the live version is kept.
        min_labels: Fewer labels than this for either variant decide nothing.
        by: The request's fields that keep a variant; the entity by default.
    """

    metric: str
    better: Better
    min_effect: float
    alpha: float
    at_most: timedelta
    min_labels: int
    by: tuple[str, ...] = ()


class Bandit(msgspec.Struct, frozen=True, kw_only=True, tag="bandit"):
    """How a bandit moves traffic; made by `bandits.bandit`.

    Attributes:
        metric: What is compared.
        better: Which way it is good.
        min_share: The new version's least share of the traffic.
        every: How often its share is set anew.
        sure: With this probability of being better, the new version is promoted; of being worse, taken back.
        at_most: After so long without that, the live version is kept.
        min_labels: Fewer labels than this for either variant move nothing.
        by: The request's fields that keep a variant; the entity by default.
    """

    metric: str
    better: Better
    min_share: float
    every: timedelta
    sure: float
    at_most: timedelta
    min_labels: int
    by: tuple[str, ...] = ()


Trial = ABTest | Bandit


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """How well one variant did.

    Attributes:
        rows: Labelled predictions.
        units: Entities, or other units, that they are about.
        mean: The metric's mean over rows; None without rows.
        variance: The variance of that mean; None where too few units tell it.
    """

    rows: int
    units: int
    mean: float | None = None
    variance: float | None = None


def summarise(values: "Floats", units: "Ints", weights: "Floats | None" = None) -> Arm:
    """Return the mean of rows and its variance, robust against rows of one unit being alike.

    The mean is the ratio of two sums over units, and its variance that of a ratio (the delta method; Deng, Knoblich
    and Lu, "Applying the Delta Method in Metric Analytics", KDD 2018). Where each unit has one row it is the usual
    variance of a mean.

    Args:
        values: ``(n,)`` the metric of each row.
        units: ``(n,)`` whole numbers that tell units apart.
        weights: ``(n,)`` what each row counts; 1 by default.
    """
    import numpy as np

    rows = len(values)
    if not rows:
        return Arm(rows=0, units=0)
    counted = np.ones(rows) if weights is None else weights
    total = float(counted.sum())
    mean = float((counted * values).sum() / total)
    _, codes = np.unique(units, return_inverse=True)
    sums = np.bincount(codes, weights=counted * (values - mean))
    count = len(sums)
    variance = None if count < 2 else float((sums**2).sum()) / total**2 * count / (count - 1)
    return Arm(rows=rows, units=count, mean=mean, variance=variance)


def compare_means(live: Arm, new: Arm, better: Better) -> tuple[float, float] | None:
    """Return by how much the new variant is better, and the variance of that; None where too little is known.

    Rows that are all alike have no variance of their own, but the next one may be different: each variant is given at
    least the variance that one unit in as many as there are would make, were it as unlike as all units are.
    """
    if live.mean is None or new.mean is None or live.variance is None or new.variance is None:
        return None
    difference = new.mean - live.mean
    within = (live.variance * live.units + new.variance * new.units) / 2
    spread = within + difference**2 / 4
    if spread <= 0:
        return None
    variance = sum(max(arm.variance or 0.0, spread / arm.units**2) for arm in (live, new))
    return (difference if better == "higher" else -difference), variance


def check_metric(what: str, metric: str, better: str | None) -> Better:
    """Return which way a trial's metric is good.

    Raises:
        UnknownNameError: No trial can compare it.
        InvalidInputError: The way is missing, or not the metric's.
    """
    if metric not in TRIAL_METRICS:
        raise UnknownNameError(
            "trial metric",
            metric,
            TRIAL_METRICS,
            hint=f"A trial compares means over rows: {', '.join(TRIAL_METRICS)}; others, such as auc, are not means.",
        )
    known = TRIAL_METRICS[metric]
    if known is not None:
        if better not in (None, known):
            raise InvalidInputError(f"{what}({metric!r}) is better when {known}, so better={better!r} cannot be meant")
        return known
    if better == "higher":
        return "higher"
    if better == "lower":
        return "lower"
    raise InvalidInputError(
        f"{what}({metric!r}) must say which labels are good", hint='Write better="higher" or better="lower".'
    )


def check_share(what: str, argument: str, value: Any, *, low: float = 0.0, high: float = 1.0) -> float:
    """Return a number strictly between two others.

    Raises:
        InvalidInputError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low < value < high:
        raise InvalidInputError(f"{what}({argument}={value!r}) must lie between {low:g} and {high:g}")
    return float(value)


def check_effect(what: str, value: Any) -> float:
    """Return a finite number above 0.

    Raises:
        InvalidInputError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value <= 0:
        raise InvalidInputError(
            f"{what}(min_effect={value!r}) must be greater than 0",
            hint="Give the smallest improvement worth having, in the metric's units.",
        )
    return float(value)


def check_count(what: str, value: Any) -> int:
    """Return a whole number of at least 2.

    Raises:
        InvalidInputError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 2:
        raise InvalidInputError(f"{what}(min_labels={value!r}) must be a whole number of at least 2")
    return value


def check_times(what: str, at_least: str | timedelta, at_most: str | timedelta) -> tuple[timedelta, timedelta]:
    """Return the least and the greatest duration of a trial.

    Raises:
        InvalidInputError: One cannot be read, or they contradict each other.
    """
    least = parse_duration(at_least, what=f"{what}'s at_least")
    most = parse_duration(at_most, what=f"{what}'s at_most")
    if not timedelta() < least <= most:
        raise InvalidInputError(f"{what}(at_least={at_least!r}, at_most={at_most!r}) leaves it no time")
    return least, most


def check_fields(what: str, by: Sequence[str] | str | None) -> tuple[str, ...]:
    """Return the names of fields.

    Raises:
        InvalidInputError: They are no list of names.
    """
    if by is None:
        return ()
    if isinstance(by, str):
        raise InvalidInputError(f"{what}(by={by!r}) must be a list of fields", hint=f"Write [{by!r}].")
    names = tuple(by)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise InvalidInputError(f"{what}(by={by!r}) must be a list of names of fields")
    return names
