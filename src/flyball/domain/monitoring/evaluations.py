"""What each kind of monitor makes of a window. Pure functions."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from flyball.core.durations import format_duration
from flyball.domain.monitoring.consistency import Rederived
from flyball.domain.monitoring.distributions import ColumnChange
from flyball.domain.monitoring.findings import Finding
from flyball.domain.monitoring.latencies import find_quantile_us
from flyball.domain.monitoring.metrics import METRICS
from flyball.domain.monitoring.monitors import (
    AttributionDrift,
    Consistency,
    Drift,
    Monitor,
    Performance,
    PredictionDrift,
    PredictionMean,
    Quality,
    Service,
)
from flyball.domain.monitoring.performance import Estimate
from flyball.domain.monitoring.psi import (
    CONVENTIONAL_LIMIT,
    FALSE_ALARM_RATE,
    chance_limit,
    compute_psi,
    pool_sparse,
)
from flyball.domain.monitoring.windows import Tile
from flyball.domain.predictions.records import PredictionStatus


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """What is judged, and when.

    Attributes:
        version: The live version.
        at: The present.
        since: Begin of the window; None for windows by count.
    """

    version: str
    at: datetime
    since: datetime | None = None


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of a monitor beside its limit."""

    name: str
    value: float
    limit: float
    message: str

    @property
    def excess(self) -> float:
        return self.value / self.limit if self.limit else (float("inf") if self.value > 0 else 0.0)


def evaluate_drift(
    monitor: Drift | PredictionDrift | AttributionDrift, changes: Mapping[str, ColumnChange], moment: Moment
) -> Finding:
    """Compare each column's window with its training profile by the population stability index.

    A column's limit is the declared one, or what chance alone could give if that is more: then the window is too
    small to show so little. The chance of a false alarm is shared among the columns (Bonferroni).
    """
    judged = {name: change for name, change in changes.items() if change.rows >= monitor.min_rows}
    rows = max((change.rows for change in changes.values()), default=0)
    if not judged:
        return _undecided(monitor, moment, rows, f"{rows} rows so far, {monitor.min_rows} are needed to judge")
    rate = FALSE_ALARM_RATE / len(judged)
    what = "the attribution of " if isinstance(monitor, AttributionDrift) else ""
    parts = [_judge_drift(name, change, monitor.threshold, rate, what) for name, change in judged.items()]
    return _decide(monitor, moment, rows, parts)


def _judge_drift(name: str, change: ColumnChange, threshold: float | None, rate: float, what: str) -> _Part:
    before, now = pool_sparse(change.expected, change.observed)
    psi = compute_psi(before, now)
    limit = max(threshold or CONVENTIONAL_LIMIT, chance_limit(len(before), sum(before), sum(now), rate))
    return _Part(
        name=name,
        value=psi,
        limit=limit,
        message=f"{what}{name} has an index of {psi:.2f} against a limit of {limit:.2f} ({change.describe()})",
    )


def evaluate_no_attributions(monitor: AttributionDrift, moment: Moment) -> Finding:
    """Say that a version's predictions cannot be explained, so that nothing is known."""
    return _undecided(monitor, moment, 0, f"predictions of {moment.version} cannot be explained")


def evaluate_consistency(monitor: Consistency, found: Rederived | None, moment: Moment) -> Finding:
    """Compare the share of served features that the tables do not say with its limit."""
    if found is None:
        return _undecided(monitor, moment, 0, f"{moment.version} uses no stored features")
    if found.rows < monitor.min_rows:
        text = f"{found.rows} predictions with stored features, {monitor.min_rows} are needed to judge"
        return _undecided(monitor, moment, found.rows, text)
    parts = [
        _Part(
            name=name,
            value=count / found.rows,
            limit=monitor.at_most,
            message=f"{count} of {found.rows} served values of {name} are not what the tables say: {found.example}",
        )
        for name, count in found.mismatches.items()
    ]
    text = f"the stored features of {found.rows} predictions are what the tables say"
    parts = parts or [_Part(name="features", value=0.0, limit=monitor.at_most, message=text)]
    return _decide(monitor, moment, found.rows, parts)


def evaluate_performance(monitor: Performance, estimate: Estimate, moment: Moment) -> Finding:
    """Compare a metric over labelled predictions with its limit."""
    if estimate.count < monitor.min_labels or estimate.value is None:
        return _undecided(
            monitor, moment, estimate.count, f"{estimate.count} labels, {monitor.min_labels} are needed to judge"
        )
    metric, value = METRICS[monitor.metric], estimate.value
    limit = monitor.at_least if monitor.at_least is not None else monitor.at_most
    assert limit is not None  # checked at declaration
    judged = abs(value) if metric.better == "near-zero" else value
    is_bad = judged < limit if metric.better == "higher" else judged > limit
    border = "at least" if metric.better == "higher" else "at most"
    doubt = f" ± {1.96 * estimate.stderr:.2g}" if estimate.stderr is not None else ""
    scores = {metric.name: value}
    if estimate.stderr is not None:
        scores["stderr"] = estimate.stderr
    return _finding(
        monitor,
        moment,
        state="firing" if is_bad else "ok",
        value=value,
        limit=limit,
        count=estimate.count,
        worst=metric.name,
        scores=scores,
        message=f"{metric.name} is {value:.4g}{doubt} over {estimate.count} labels; {border} {limit:g} is good",
    )


def evaluate_prediction_mean(
    monitor: PredictionMean, newest: Sequence[float], training_mean: float | None, moment: Moment
) -> Finding:
    """Compare the mean of the newest predictions with the mean on the training data."""
    if len(newest) < monitor.last:
        text = f"{len(newest)} predictions so far, {monitor.last} are needed to judge"
        return _undecided(monitor, moment, len(newest), text)
    if not training_mean:
        text = "the training profile has no mean prediction, or one of 0, so no share of it can be told"
        return _undecided(monitor, moment, len(newest), text)
    mean = sum(newest) / len(newest)
    off = mean / training_mean - 1
    return _finding(
        monitor,
        moment,
        state="firing" if abs(off) > monitor.off_by else "ok",
        value=abs(off),
        limit=monitor.off_by,
        count=len(newest),
        worst="prediction",
        scores={"mean": mean, "training_mean": training_mean},
        message=f"the mean of the last {len(newest)} predictions is {mean:.4g}, {abs(off):.0%} "
        f"{'above' if off > 0 else 'below'} the training mean of {training_mean:.4g}; {monitor.off_by:.0%} is allowed",
    )


def evaluate_quality(monitor: Quality, served: Tile, changes: Mapping[str, ColumnChange], moment: Moment) -> Finding:
    """Compare shares of bad values and bad requests with their limits.

    Args:
        monitor: The declaration.
        served: Everything that was asked in the window, shadows left out.
        changes: The live version's columns.
        moment: What is judged, and when.
    """
    if served.rows < monitor.min_rows:
        text = f"{served.rows} requests, {monitor.min_rows} are needed to judge"
        return _undecided(monitor, moment, served.rows, text)
    parts = []
    for status, limit in (
        (PredictionStatus.REFUSED, monitor.refused),
        (PredictionStatus.QUARANTINED, monitor.quarantined),
    ):
        if limit is not None:
            parts.append(_share(status.value, served.ended(status) / served.rows, limit, "of the requests were"))
    columns = {name: change for name, change in changes.items() if change.rows >= monitor.min_rows}
    if monitor.nulls is not None:
        parts += [_share(name, of.null_share, monitor.nulls, "of it is missing:") for name, of in columns.items()]
    if monitor.out_of_range is not None:
        text = "of it is outside what training saw:"
        parts += [_share(name, of.outside_share, monitor.out_of_range, text) for name, of in columns.items()]
    if not parts:
        return _undecided(monitor, moment, served.rows, "no column had enough rows to judge")
    return _decide(monitor, moment, served.rows, parts)


def _share(name: str, share: float, limit: float, what: str) -> _Part:
    return _Part(name=name, value=share, limit=limit, message=f"{share:.1%} {what} {name}; at most {limit:.1%} is good")


def evaluate_service(monitor: Service, served: Tile, moment: Moment) -> Finding:
    """Compare the share of failed requests, and the latency of the others, with their limits."""
    asked = served.rows - served.ended(PredictionStatus.REFUSED)
    if asked < monitor.min_requests:
        text = f"{asked} requests, {monitor.min_requests} are needed to judge"
        return _undecided(monitor, moment, asked, text)
    parts = []
    if monitor.errors is not None:
        failed = served.ended(PredictionStatus.ERROR) / asked
        text = f"{failed:.1%} of {asked} requests failed; at most {monitor.errors:.1%} is good"
        parts.append(_Part(name="errors", value=failed, limit=monitor.errors, message=text))
    p99_us = find_quantile_us(served.latencies, 0.99)
    if monitor.p99 is not None and p99_us is not None:
        limit_ms = monitor.p99.total_seconds() * 1000
        text = f"99 of 100 answers came within {p99_us / 1000:.3g} ms; {format_duration(monitor.p99)} is good"
        parts.append(_Part(name="p99_ms", value=p99_us / 1000, limit=limit_ms, message=text))
    if not parts:
        return _undecided(monitor, moment, asked, "no request was answered, so there is nothing to time")
    return _decide(monitor, moment, asked, parts)


def _decide(monitor: Monitor, moment: Moment, count: int, parts: Sequence[_Part]) -> Finding:
    """Fire if any part exceeds its limit; the part that exceeds it most speaks."""
    worst = max(parts, key=lambda part: part.excess)
    over = sum(part.value > part.limit for part in parts)
    others = f"; {over - 1} more over the limit" if over > 1 else ""
    scores: dict[str, float] = {}
    for part in parts:
        scores[part.name] = max(part.value, scores.get(part.name, 0.0))
    return _finding(
        monitor,
        moment,
        state="firing" if over else "ok",
        value=worst.value,
        limit=worst.limit,
        count=count,
        worst=worst.name,
        scores=scores,
        message=f"{worst.message}{others}",
    )


def _undecided(monitor: Monitor, moment: Moment, count: int, message: str) -> Finding:
    return _finding(monitor, moment, state="not-enough-data", count=count, message=message)


def _finding(monitor: Monitor, moment: Moment, **found: object) -> Finding:
    return Finding(
        monitor=monitor.name,
        kind=monitor.kind,
        family=monitor.family,
        version=moment.version,
        at=moment.at,
        since=moment.since,
        until=moment.at,
        **found,  # type: ignore[arg-type]
    )
