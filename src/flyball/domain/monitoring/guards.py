"""Whether a new variant does worse than the live one, decided so that chance seldom stops a good one.

Every comparison asks for two things: a difference that matters (a margin), and one that chance hardly gives (a
one-sided test at a small level, since a guard looks many times while a rollout lasts).
"""

from math import exp, lgamma, sqrt
from statistics import NormalDist
from typing import Literal

import msgspec

from flyball.domain.monitoring.latencies import Histogram, count_slower, find_quantile_us
from flyball.domain.monitoring.metrics import find_metric
from flyball.domain.monitoring.performance import Estimate
from flyball.domain.monitoring.psi import chance_limit, compute_psi

State = Literal["ok", "worse", "not-enough-data"]
_NEGLIGIBLE = 1e-18


class VariantCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What one variant did in the time that is compared.

    Attributes:
        requests: How many it was asked, without those refused as bad input.
        errors: How many of them failed through its own fault.
        latencies: How long the others took.
        predictions: How many predictions it gave, their mean and their standard deviation.
        metric: How well it did on labels, where there are any.
        cells: How many of its predictions lie in each of some cells, the same ones for both variants.
    """

    requests: int
    errors: int = 0
    latencies: Histogram = {}
    predictions: int = 0
    prediction_mean: float | None = None
    prediction_std: float | None = None
    metric: Estimate | None = None
    cells: tuple[int, ...] = ()


class GuardLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What counts as worse.

    Attributes:
        min_requests: Fewer requests to the new variant than this decide nothing.
        min_labels: Fewer labels than this for either variant say nothing about the metric.
        errors_by: Its share of errors may exceed the live one's by this much.
        slower_by: Its p99 may be this many times the live one's,
        slow_from_ms: or lie under this, whichever is more.
        mean_off_by: Its mean prediction may lie this many standard deviations off the live one's. Wide, since a
            model that was retrained after a change is meant to answer differently; it catches wrong units.
        spread_off_by: The population stability index of its predictions against the live ones' may be this much.
            Wide, too (predictions two standard deviations higher give 4); it catches a model that answers all alike.
        metric: The metric's name,
        metric_by: and by how much it may be worse.
        level: How seldom chance may find one look at one comparison worse.
    """

    min_requests: int = 50
    min_labels: int = 100
    errors_by: float = 0.005
    slower_by: float = 1.5
    slow_from_ms: float = 5.0
    mean_off_by: float = 3.0
    spread_off_by: float = 4.0
    metric: str | None = None
    metric_by: float = 0.01
    level: float = 0.001


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of both variants.

    Attributes:
        what: ``errors``, ``latency``, ``predictions``, ``distribution`` or the metric's name.
        state: What it says.
        live: The live variant's figure.
        new: The new variant's figure.
        p_value: How often chance would give such a difference or a greater one, where a test was made.
        message: The same in words.
    """

    what: str
    state: State
    live: float | None
    new: float | None
    p_value: float | None
    message: str


class GuardVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """``worse`` if any comparison is, ``not-enough-data`` if there were too few requests, else ``ok``."""

    state: State
    comparisons: list[Comparison]

    @property
    def reasons(self) -> list[str]:
        """The messages behind the state."""
        return [found.message for found in self.comparisons if found.state == self.state]


def compare_variants(live: VariantCounts, new: VariantCounts, limits: GuardLimits | None = None) -> GuardVerdict:
    """Judge a new variant beside the live one, over the same time.

    Errors and slow answers are compared by Fisher's exact test (Fisher, Journal of the Royal Statistical Society
    85, 1922), means and metrics by a one-sided z test on their standard errors.
    """
    limits = limits or GuardLimits()
    if new.requests < limits.min_requests:
        few = Comparison(
            what="requests",
            state="not-enough-data",
            live=live.requests,
            new=new.requests,
            p_value=None,
            message=f"{new.requests} requests so far, {limits.min_requests} are needed to judge",
        )
        return GuardVerdict(state="not-enough-data", comparisons=[few])
    comparisons = [
        _compare_errors(live, new, limits),
        _compare_latency(live, new, limits),
        _compare_predictions(live, new, limits),
        _compare_spread(live, new, limits),
    ]
    if limits.metric is not None:
        comparisons.append(_compare_metric(limits.metric, live.metric, new.metric, limits))
    states = {found.state for found in comparisons}
    return GuardVerdict(state="worse" if "worse" in states else "ok", comparisons=comparisons)


def fisher_p_value(hits_new: int, rows_new: int, hits_live: int, rows_live: int) -> float:
    """Return the chance of ``hits_new`` or more among ``rows_new`` if both variants hit equally often."""
    hits, rows = hits_new + hits_live, rows_new + rows_live
    if hits_new == 0:
        return 1.0
    mode = (hits + 1) * (rows_new + 1) / (rows + 2)
    if hits_new > mode:
        return min(1.0, _sum_tail(hits_new, 1, hits, rows_new, rows))
    return max(0.0, 1 - _sum_tail(hits_new - 1, -1, hits, rows_new, rows))


def _sum_tail(start: int, step: Literal[1, -1], hits: int, drawn: int, rows: int) -> float:
    """Add hypergeometric probabilities from ``start`` away from the mode, until they no longer count."""
    first, last = max(0, drawn + hits - rows), min(hits, drawn)
    if not first <= start <= last:
        return 0.0
    term = exp(_log_choose(hits, start) + _log_choose(rows - hits, drawn - start) - _log_choose(rows, drawn))
    total, place = term, start
    while first <= place + step <= last and term > total * _NEGLIGIBLE:
        low = min(place, place + step)
        ratio = (hits - low) * (drawn - low) / ((low + 1) * (rows - hits - drawn + low + 1))
        term *= ratio if step == 1 else 1 / ratio
        total += term
        place += step
    return total


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def _compare_errors(live: VariantCounts, new: VariantCounts, limits: GuardLimits) -> Comparison:
    share_live = live.errors / live.requests if live.requests else 0.0
    share_new = new.errors / new.requests
    p_value = _p_of_hits(new.errors, new.requests, live.errors, live.requests, limits.errors_by)
    worse = share_new > share_live + limits.errors_by and p_value < limits.level
    return Comparison(
        what="errors",
        state="worse" if worse else "ok",
        live=share_live,
        new=share_new,
        p_value=p_value,
        message=f"{share_new:.2%} of {new.requests} requests failed, against {share_live:.2%} of {live.requests}",
    )


def _p_of_hits(hits_new: int, rows_new: int, hits_live: int, rows_live: int, usual: float) -> float:
    """Compare with the live variant, or, where it answered nothing, with what is acceptable anyway."""
    if rows_live:
        return fisher_p_value(hits_new, rows_new, hits_live, rows_live)
    rows = 1_000_000
    return fisher_p_value(hits_new, rows_new, round(usual * rows), rows)


def _compare_latency(live: VariantCounts, new: VariantCounts, limits: GuardLimits) -> Comparison:
    p99_live, p99_new = find_quantile_us(live.latencies, 0.99), find_quantile_us(new.latencies, 0.99)
    if p99_live is None or p99_new is None:
        return _unknown("latency", "no answers of both variants to time")
    border = max(p99_live * limits.slower_by, limits.slow_from_ms * 1000)
    p_value = fisher_p_value(
        count_slower(new.latencies, border),
        sum(new.latencies.values()),
        count_slower(live.latencies, border),
        sum(live.latencies.values()),
    )
    return Comparison(
        what="latency",
        state="worse" if p99_new > border and p_value < limits.level else "ok",
        live=p99_live / 1000,
        new=p99_new / 1000,
        p_value=p_value,
        message=f"99 of 100 answers came within {p99_new / 1000:.3g} ms, against {p99_live / 1000:.3g} ms",
    )


def _compare_predictions(live: VariantCounts, new: VariantCounts, limits: GuardLimits) -> Comparison:
    if (
        live.prediction_mean is None
        or new.prediction_mean is None
        or not live.prediction_std
        or min(live.predictions, new.predictions) < limits.min_requests
    ):
        return _unknown("predictions", "too few predictions of both variants to compare")
    gap = abs(new.prediction_mean - live.prediction_mean)
    spread = max(live.prediction_std, new.prediction_std or 0.0)
    error = spread * sqrt(1 / live.predictions + 1 / new.predictions)
    allowed = limits.mean_off_by * live.prediction_std
    p_value = 2 * NormalDist().cdf(-gap / error)
    return Comparison(
        what="predictions",
        state="worse" if gap > allowed and p_value < limits.level else "ok",
        live=live.prediction_mean,
        new=new.prediction_mean,
        p_value=p_value,
        message=f"the mean prediction is {new.prediction_mean:.4g}, against {live.prediction_mean:.4g} "
        f"(standard deviation {live.prediction_std:.3g})",
    )


def _compare_spread(live: VariantCounts, new: VariantCounts, limits: GuardLimits) -> Comparison:
    rows_live, rows_new = sum(live.cells), sum(new.cells)
    if min(rows_live, rows_new) < limits.min_requests:
        return _unknown("distribution", "too few predictions of both variants to compare their distributions")
    psi = compute_psi(live.cells, new.cells)
    limit = max(limits.spread_off_by, chance_limit(len(live.cells), rows_live, rows_new, limits.level))
    return Comparison(
        what="distribution",
        state="worse" if psi > limit else "ok",
        live=0.0,
        new=psi,
        p_value=None,
        message=f"its predictions are spread otherwise than the live ones: an index of {psi:.2f}, {limit:.2f} allowed",
    )


def _compare_metric(name: str, live: Estimate | None, new: Estimate | None, limits: GuardLimits) -> Comparison:
    if (
        live is None
        or new is None
        or live.value is None
        or new.value is None
        or min(live.count, new.count) < limits.min_labels
    ):
        return _unknown(name, f"too few labels to compare {name}")
    match find_metric(name).better:
        case "higher":
            worse_by = live.value - new.value
        case "lower":
            worse_by = new.value - live.value
        case "near-zero":
            worse_by = abs(new.value) - abs(live.value)
    error = sqrt((live.stderr or 0.0) ** 2 + (new.stderr or 0.0) ** 2)
    p_value = NormalDist().cdf(-worse_by / error) if error else float(worse_by <= 0)
    return Comparison(
        what=name,
        state="worse" if worse_by > limits.metric_by and p_value < limits.level else "ok",
        live=live.value,
        new=new.value,
        p_value=p_value,
        message=f"{name} is {new.value:.4g} over {new.count} labels, against {live.value:.4g} over {live.count}",
    )


def _unknown(what: str, message: str) -> Comparison:
    return Comparison(what=what, state="not-enough-data", live=None, new=None, p_value=None, message=message)
