"""Gates: the conditions that a version must meet, as a user declares them.

This module is part of what a project file imports, so it imports nothing heavy.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import NoReturn, cast

import msgspec

from flyball.core.durations import format_duration, parse_duration
from flyball.core.errors import InvalidInputError

ERROR_METRICS = frozenset(
    {
        *("rmse", "mse", "mae", "medae", "mape", "smape", "wape", "rmsle", "msle", "max_error", "pinball", "deviance"),
        *("logloss", "log_loss", "brier", "loss", "hinge", "ece", "error", "error_rate", "latency"),
        *("leaks", "fpr", "fnr", "false_positive_rate", "false_negative_rate"),
    }
)
"""Metrics of which less is better; of every other, more is."""

LEAKS = "leaks"
"""The metric that counts what was found in the training data; see `no_leaks`."""

AUTOMATIC = "auto"
"""The approval policy that asks nobody."""


def is_smaller_better(name: str, override: bool | None = None) -> bool:
    """Tell in which direction a metric improves: by what the gate says, else by its name.

    ``test_rmse``, ``rmse-30d`` and ``RMSE`` are read as ``rmse``.
    """
    if override is not None:
        return override
    plain = name.lower().replace("-", "_").replace(".", "_")
    return plain in ERROR_METRICS or any(
        plain.startswith(f"{known}_") or plain.endswith(f"_{known}") for known in ERROR_METRICS
    )


class Gate(msgspec.Struct, frozen=True, kw_only=True, tag_field="gate"):
    """A condition that a version must meet before it may go live."""

    @property
    def name(self) -> str:
        """What people call it, such as ``auc >= 0.7``."""
        raise NotImplementedError

    def __bool__(self) -> NoReturn:
        raise InvalidInputError(
            f"the gate {self.name!r} is neither true nor false before a version is trained",
            hint="Write one gate for each limit: gates=[fb.metric('auc') >= 0.7, fb.metric('auc') <= 0.99]",
        )


class MetricGate(Gate, frozen=True, kw_only=True, tag="metric"):
    """One of the version's metrics against a fixed limit; ``op`` is ``>=``, ``>``, ``<=`` or ``<``."""

    metric: str
    op: str
    limit: float

    @property
    def name(self) -> str:
        """See `Gate.name`."""
        return f"{self.metric} {self.op} {self.limit:g}"


class ChampionGate(Gate, frozen=True, kw_only=True, tag="champion"):
    """A metric against the champion's on the same held-out data.

    Attributes:
        metric: Which one.
        by: How much worse the version may be, in the metric's own unit, or as a share of the champion's value.
        is_share: Whether ``by`` is a share.
        smaller_is_better: The direction; None goes by the metric's name.
    """

    metric: str
    by: float = 0.0
    is_share: bool = False
    smaller_is_better: bool | None = None

    @property
    def name(self) -> str:
        """See `Gate.name`."""
        if not self.by:
            return f"{self.metric} not worse than the champion's"
        allowed = f"{self.by * 100:g}%" if self.is_share else f"{self.by:g}"
        return f"{self.metric} not worse than the champion's by more than {allowed}"


class LatencyGate(Gate, frozen=True, kw_only=True, tag="latency"):
    """How long one row takes, warm, by the prediction path that a request takes; limits in seconds."""

    p50_s: float | None = None
    p99_s: float | None = None

    @property
    def name(self) -> str:
        """See `Gate.name`."""
        limits = [("p50", self.p50_s), ("p99", self.p99_s)]
        parts = [f"{label} <= {format_duration(timedelta(seconds=limit))}" for label, limit in limits if limit]
        return f"latency {' and '.join(parts)}"


class ServiceTestGate(Gate, frozen=True, kw_only=True, tag="service_test"):
    """How the version behaves as a service: right, malformed and strange requests, and load; see `service_test`.

    Attributes:
        p99_s: How long a request may take at the 99th percentile, in seconds; None asks for no time.
    """

    p99_s: float | None = None

    @property
    def name(self) -> str:
        """See `Gate.name`."""
        limit = f" with p99 <= {format_duration(timedelta(seconds=self.p99_s))}" if self.p99_s else ""
        return f"service test{limit}"


AnyGate = MetricGate | ChampionGate | LatencyGate | ServiceTestGate


class Metric:
    """A metric of a version; compared with a number it makes a gate."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __ge__(self, limit: float) -> MetricGate:
        return self._gate(">=", limit)

    def __gt__(self, limit: float) -> MetricGate:
        return self._gate(">", limit)

    def __le__(self, limit: float) -> MetricGate:
        return self._gate("<=", limit)

    def __lt__(self, limit: float) -> MetricGate:
        return self._gate("<", limit)

    def _gate(self, op: str, limit: float) -> MetricGate:
        if isinstance(limit, bool) or not isinstance(limit, int | float) or limit != limit:
            raise InvalidInputError(f"the limit of the gate on {self.name!r} must be a number, but is {limit!r}")
        return MetricGate(metric=self.name, op=op, limit=float(limit))


def no_leaks(*, at_most: int = 0) -> MetricGate:
    """Demand training data without suspected leaks; a run warns of them in any case.

    Args:
        at_most: How many are let pass, once a person has looked at them.

    Raises:
        InvalidInputError: It is not a number of leaks.
    """
    return Metric(LEAKS) <= at_most


def metric(name: str) -> Metric:
    """Name a metric that the pipeline's evaluation returns: ``fb.metric("auc") >= 0.70``."""
    if not isinstance(name, str) or not name:
        raise InvalidInputError(f"fb.metric needs the name of a metric, but was given {name!r}")
    return Metric(name)


def not_worse_than_champion(name: str, *, by: float | str = 0.0, smaller_is_better: bool | None = None) -> ChampionGate:
    """Ask that a version keep up with the champion on the same held-out data.

    A first version, with no champion to compare with, passes.

    Args:
        name: The metric.
        by: How much worse it may be: a number in the metric's unit, or a share such as ``"2%"``.
        smaller_is_better: The metric's direction; by default known from its name (``rmse``, ``logloss`` … are errors).

    Raises:
        InvalidInputError: ``by`` is negative or no number.
    """
    text = by.strip() if isinstance(by, str) else ""
    try:
        amount = float(text.removesuffix("%")) / 100 if text.endswith("%") else float(by)
    except (TypeError, ValueError):
        amount = -1.0
    if not 0 <= amount < float("inf"):
        raise InvalidInputError(
            f"by={by!r} of the gate on {name!r} must be a number that is not negative, or a share such as '2%'"
        )
    return ChampionGate(
        metric=metric(name).name, by=amount, is_share=text.endswith("%"), smaller_is_better=smaller_is_better
    )


def latency(*, p99: str | timedelta | None = None, p50: str | timedelta | None = None) -> LatencyGate:
    """Ask that one row be predicted within a time: ``fb.latency(p99="20ms")``.

    Raises:
        InvalidInputError: No limit is given, or one is no duration.
    """
    if p99 is None and p50 is None:
        raise InvalidInputError("fb.latency needs a limit", hint='Write fb.latency(p99="20ms").')
    return LatencyGate(
        p50_s=parse_duration(p50, what="p50").total_seconds() if p50 is not None else None,
        p99_s=parse_duration(p99, what="p99").total_seconds() if p99 is not None else None,
    )


def service_test(*, p99: str | timedelta | None = None) -> ServiceTestGate:
    """Ask that the version pass the tests of ``flyball test``: ``fb.service_test(p99="20ms")``.

    Before it may go live, requests made of the table's own rows are put to it: as they are, malformed, with missing and
    extreme values, with their fields in other orders, and one after the other against the clock.

    Args:
        p99: How long a request may take at the 99th percentile; without it its time is measured, not judged.

    Raises:
        InvalidInputError: It is no duration.
    """
    return ServiceTestGate(p99_s=None if p99 is None else parse_duration(p99, what="p99").total_seconds())


class ModelGates(msgspec.Struct, frozen=True, kw_only=True):
    """What a version of one model must meet, and who says yes: ``auto``, or a role."""

    gates: tuple[AnyGate, ...] = ()
    approval: str = AUTOMATIC


class GatePlan(msgspec.Struct, frozen=True, kw_only=True):
    """The gates of every model of a project, by model name; gathered from its endpoints."""

    models: dict[str, ModelGates] = {}

    def of(self, model: str) -> ModelGates:
        """Return a model's gates; a model that no endpoint names has none and is approved automatically."""
        return self.models.get(model, ModelGates())

    @classmethod
    def gather(cls, endpoints: Mapping[str, tuple[Sequence[Gate], str]]) -> "GatePlan":
        """Make a plan from ``{model: (gates, approval)}``."""
        return cls(
            models={
                model: ModelGates(gates=cast(tuple[AnyGate, ...], tuple(gates)), approval=approval)
                for model, (gates, approval) in endpoints.items()
            }
        )
