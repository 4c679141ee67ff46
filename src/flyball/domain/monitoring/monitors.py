"""What is watched at an endpoint, as a project declares it. Importing this costs next to nothing."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from flyball.core.durations import format_duration
from flyball.core.errors import InvalidInputError
from flyball.domain.monitoring.arguments import (
    check_count,
    check_duration,
    check_number,
    check_positive,
    check_share,
    check_window,
)
from flyball.domain.monitoring.metrics import find_metric

if TYPE_CHECKING:
    from flyball.domain.data.tables import ColumnRef

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
MOST_RECENT = 1_000
"""How many of an endpoint's newest predictions are kept for windows by count."""
_STEPS_PER_WINDOW = 24

Family = Literal["drift", "performance", "quality", "service"]
_FAMILIES: dict[str, Family] = {
    "drift": "drift",
    "attribution_drift": "drift",
    "prediction_drift": "drift",
    "prediction_mean": "drift",
    "consistency": "quality",
    "performance": "performance",
    "quality": "quality",
    "service": "service",
}


class _Declared(msgspec.Struct, frozen=True, kw_only=True):
    """What every monitor has.

    Attributes:
        name: Stable name of its alerts and its series; it does not change when a limit does.
        cool_down: After an alert was raised, this long passes before it is raised again.
    """

    name: str
    cool_down: timedelta = DAY

    @property
    def kind(self) -> str:
        """What sort of monitor it is, such as ``drift``."""
        return str(self.__struct_config__.tag)

    @property
    def family(self) -> Family:
        """What its alerts mean to triggers: ``drift``, ``performance``, ``quality`` or ``service``."""
        return _FAMILIES[self.kind]


class _Windowed(_Declared, frozen=True, kw_only=True):
    """A monitor over a window of time."""

    window: timedelta

    @property
    def step(self) -> timedelta:
        """How far the window moves between two evaluations: a 24th of it, from a minute to a day."""
        bucket = HOUR if self.window >= HOUR else MINUTE
        return min(max(self.window / _STEPS_PER_WINDOW, bucket), DAY)


class Drift(_Windowed, frozen=True, kw_only=True, tag="drift"):
    """The inputs no longer come as they did in training. See `drift`."""

    columns: tuple[str, ...] | None
    prediction: bool
    threshold: float | None
    min_rows: int


class AttributionDrift(_Windowed, frozen=True, kw_only=True, tag="attribution_drift"):
    """Features no longer add to predictions what they did in training. See `attributions.attribution_drift`."""

    columns: tuple[str, ...] | None
    threshold: float | None
    min_rows: int


class PredictionDrift(_Windowed, frozen=True, kw_only=True, tag="prediction_drift"):
    """The predictions no longer come as they did in training. See `prediction_drift`."""

    threshold: float | None
    min_rows: int


class Performance(_Windowed, frozen=True, kw_only=True, tag="performance"):
    """The predictions no longer fit their labels. See `performance`."""

    metric: str
    labels: "ColumnRef | None"
    at_least: float | None
    at_most: float | None
    min_labels: int


class Consistency(_Windowed, frozen=True, kw_only=True, tag="consistency"):
    """Features were served that the offline tables do not say. See `consistency.consistency`."""

    rows: int
    at_most: float
    min_rows: int


class PredictionMean(_Declared, frozen=True, kw_only=True, tag="prediction_mean"):
    """The newest predictions lie off the training mean. See `prediction_mean`."""

    last: int
    off_by: float


class Quality(_Windowed, frozen=True, kw_only=True, tag="quality"):
    """Too many requests are incomplete, out of range, refused or quarantined. See `quality`."""

    nulls: float | None
    out_of_range: float | None
    refused: float | None
    quarantined: float | None
    min_rows: int


class Service(_Windowed, frozen=True, kw_only=True, tag="service"):
    """Answers fail or are slow. See `service`."""

    errors: float | None
    p99: timedelta | None
    min_requests: int


Monitor = Drift | AttributionDrift | PredictionDrift | Performance | PredictionMean | Quality | Consistency | Service


def drift(
    columns: Sequence[str] | None = None,
    *,
    threshold: float | None = None,
    window: str | timedelta = "1d",
    min_rows: int = 200,
    prediction: bool = True,
    cool_down: str | timedelta = "1d",
    name: str | None = None,
) -> Drift:
    """Watch whether inputs, and the prediction, are still distributed as in the live version's training data.

    Args:
        columns: Which inputs; all of them by default.
        threshold: The population stability index above which a column has drifted, 0.2 by default. Where a
            window holds too few rows to tell that from chance, the limit is raised to what chance could give.
        window: How much time is compared, at least an hour.
        min_rows: Fewer rows than this decide nothing.
        prediction: Whether the prediction is watched too.
        cool_down: How long after an alert the next may be raised.
        name: The name of the alerts; by default made from the kind and the columns.

    Raises:
        InvalidInputError: An argument is out of its range; it is named.
    """
    if isinstance(columns, str):
        raise InvalidInputError(f"drift(columns={columns!r}) must be a list of names", hint=f"Write [{columns!r}].")
    if columns is not None and not columns:
        raise InvalidInputError("drift(columns=[]) watches no column", hint="Leave it out to watch all of them.")
    names = None if columns is None else tuple(columns)
    return Drift(
        name=name or ("drift" if names is None else f"drift:{'+'.join(names)}"),
        columns=names,
        prediction=prediction,
        threshold=check_positive("drift", "threshold", threshold),
        window=check_window("drift", window, at_least=HOUR),
        min_rows=check_count("drift", "min_rows", min_rows),
        cool_down=check_duration("drift", "cool_down", cool_down),
    )


def prediction_drift(
    *,
    threshold: float | None = None,
    window: str | timedelta = "1d",
    min_rows: int = 200,
    cool_down: str | timedelta = "1d",
    name: str | None = None,
) -> PredictionDrift:
    """Watch whether predictions are still distributed as on the training data. Arguments as in `drift`.

    Raises:
        InvalidInputError: An argument is out of its range; it is named.
    """
    return PredictionDrift(
        name=name or "prediction_drift",
        threshold=check_positive("prediction_drift", "threshold", threshold),
        window=check_window("prediction_drift", window, at_least=HOUR),
        min_rows=check_count("prediction_drift", "min_rows", min_rows),
        cool_down=check_duration("prediction_drift", "cool_down", cool_down),
    )


def performance(
    metric: str,
    *,
    labels: "ColumnRef | None" = None,
    at_least: float | None = None,
    at_most: float | None = None,
    window: str | timedelta = "30d",
    min_labels: int = 100,
    cool_down: str | timedelta = "1d",
    name: str | None = None,
) -> Performance:
    """Watch a metric over the labels that became known in the window, however late they came.

    Args:
        metric: Such as ``"auc"`` or ``"rmse"``; `metrics.METRICS` lists them.
        labels: Where the labels come from, such as ``outcomes["defaulted"]``; without it, labels are those
            that were given for predictions one by one.
        at_least: The lowest good value, for metrics that are better when higher.
        at_most: The highest good value, for metrics that are better when lower; for ``bias``, its size.
        window: In how much time the labels became known.
        min_labels: Fewer labels than this decide nothing.
        cool_down: How long after an alert the next may be raised.
        name: The name of the alerts; by default made from the kind and the metric.

    Raises:
        UnknownNameError: There is no such metric.
        InvalidInputError: The limit does not fit the metric, or an argument is out of its range.
    """
    better = find_metric(metric).better
    wanted, unwanted = ("at_least", "at_most") if better == "higher" else ("at_most", "at_least")
    limits = {"at_least": at_least, "at_most": at_most}
    if limits[unwanted] is not None or limits[wanted] is None:
        raise InvalidInputError(
            f"performance({metric!r}) needs {wanted}=, since it is better when {better.replace('-', ' ')}",
            hint=f"Write performance({metric!r}, {wanted}=…).",
        )
    if isinstance(labels, str):
        raise InvalidInputError(
            f"performance(labels={labels!r}) must be a column of a table", hint='Write table["column"].'
        )
    return Performance(
        name=name or f"performance:{metric}",
        metric=metric,
        labels=labels,
        at_least=check_number("performance", "at_least", at_least),
        at_most=check_number("performance", "at_most", at_most),
        window=check_window("performance", window, at_least=HOUR),
        min_labels=check_count("performance", "min_labels", min_labels),
        cool_down=check_duration("performance", "cool_down", cool_down),
    )


def prediction_mean(
    *,
    last: int = 100,
    off_by: float = 0.20,
    cool_down: str | timedelta = "1d",
    name: str | None = None,
) -> PredictionMean:
    """Watch whether the mean of the newest predictions is more than a share off the training mean.

    Args:
        last: Over how many predictions, from 2 to 1,000.
        off_by: The share, such as 0.20 for 20%.
        cool_down: How long after an alert the next may be raised.
        name: The name of the alerts; the kind by default.

    Raises:
        InvalidInputError: An argument is out of its range; it is named.
    """
    if not 2 <= last <= MOST_RECENT:
        raise InvalidInputError(f"prediction_mean(last={last!r}) must be between 2 and {MOST_RECENT}")
    return PredictionMean(
        name=name or "prediction_mean",
        last=last,
        off_by=check_positive("prediction_mean", "off_by", off_by) or 0.0,
        cool_down=check_duration("prediction_mean", "cool_down", cool_down),
    )


def quality(
    *,
    nulls: float | None = None,
    out_of_range: float | None = None,
    refused: float | None = None,
    quarantined: float | None = None,
    window: str | timedelta = "1d",
    min_rows: int = 50,
    cool_down: str | timedelta = "1d",
    name: str | None = None,
) -> Quality:
    """Watch how good the requests are. Each limit is a share from 0 to 1; at least one is given.

    Args:
        nulls: The largest good share of missing values in any one column.
        out_of_range: The largest good share of values of any one column outside what training saw.
        refused: The largest good share of requests that broke an expectation and were refused.
        quarantined: The largest good share of requests that were recorded without a prediction.
        window: Over how much time, at least an hour.
        min_rows: Fewer requests than this decide nothing.
        cool_down: How long after an alert the next may be raised.
        name: The name of the alerts; the kind by default.

    Raises:
        InvalidInputError: No limit is given, or an argument is out of its range; it is named.
    """
    limits = {"nulls": nulls, "out_of_range": out_of_range, "refused": refused, "quarantined": quarantined}
    if all(limit is None for limit in limits.values()):
        raise InvalidInputError("quality() watches nothing", hint="Give a limit, such as quality(nulls=0.05).")
    return Quality(
        name=name or "quality",
        **{which: check_share("quality", which, limit) for which, limit in limits.items()},
        window=check_window("quality", window, at_least=HOUR),
        min_rows=check_count("quality", "min_rows", min_rows),
        cool_down=check_duration("quality", "cool_down", cool_down),
    )


def service(
    *,
    errors: float | None = None,
    p99: str | timedelta | None = None,
    window: str | timedelta = "5m",
    min_requests: int = 50,
    cool_down: str | timedelta = "1h",
    name: str | None = None,
) -> Service:
    """Watch whether answers come, and in time.

    Args:
        errors: The largest good share of requests that failed, through no fault of the caller.
        p99: The time within which 99 of 100 answers must come.
        window: Over how much time, at least a minute.
        min_requests: Fewer requests than this decide nothing.
        cool_down: How long after an alert the next may be raised.
        name: The name of the alerts; the kind by default.

    Raises:
        InvalidInputError: No limit is given, or an argument is out of its range; it is named.
    """
    if errors is None and p99 is None:
        raise InvalidInputError("service() watches nothing", hint='Give a limit: service(errors=0.01, p99="50ms").')
    return Service(
        name=name or "service",
        errors=check_share("service", "errors", errors),
        p99=None if p99 is None else check_duration("service", "p99", p99),
        window=check_window("service", window, at_least=MINUTE),
        min_requests=check_count("service", "min_requests", min_requests),
        cool_down=check_duration("service", "cool_down", cool_down),
    )


def check_names(monitors: Sequence[Monitor]) -> None:
    """Refuse two monitors of one name, whose alerts could not be told apart.

    Raises:
        InvalidInputError: Two have the same name.
    """
    seen: set[str] = set()
    for monitor in monitors:
        if monitor.name in seen:
            raise InvalidInputError(
                f"two monitors are named {monitor.name!r}",
                hint='Give one of them a name of its own with name="…".',
            )
        seen.add(monitor.name)


def describe(monitor: Monitor) -> dict[str, Any]:
    """Return the declaration as JSON values: durations as text, the label's column as ``table.column``."""
    values: dict[str, Any] = {"kind": monitor.kind}
    for field in monitor.__struct_fields__:
        value = getattr(monitor, field)
        if isinstance(value, timedelta):
            value = format_duration(value)
        elif isinstance(value, tuple):
            value = list(value)
        elif field == "labels" and value is not None:
            value = str(value)
        values[field] = value
    return values
