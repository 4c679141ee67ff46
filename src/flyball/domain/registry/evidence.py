"""The evidence of a version: how it did at each gate, in a form that can be signed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from flyball.core.errors import InvalidInputError
from flyball.core.hashing import digest_value
from flyball.domain.registry.gates import (
    ChampionGate,
    Gate,
    LatencyGate,
    MetricGate,
    ServiceTestGate,
    is_smaller_better,
)
from flyball.domain.registry.service_tests import TestResult

# Differences in the last digits are no difference: 0.80 - 0.005 and 0.795 are one limit.
_ROUNDING = 1e-12
_OPS = {
    ">=": lambda value, limit: value >= limit,
    ">": lambda value, limit: value > limit,
    "<=": lambda value, limit: value <= limit,
    "<": lambda value, limit: value < limit,
}


class GateResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a version did at one gate.

    Attributes:
        name: The gate, such as ``auc >= 0.7``.
        passed: Whether it was met.
        value: What was found; seconds for latency; None where nothing could be found.
        limit: What was asked for; None where there was nothing to compare with.
        reason: In words, with figures.
    """

    name: str
    passed: bool
    value: float | None
    limit: float | None
    reason: str


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """How long single rows took, warm, in seconds."""

    p50_s: float
    p99_s: float
    rows: int


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The champion's metrics to compare with.

    Attributes:
        champion: Its reference, such as ``credit-risk/3``.
        metrics: Its metrics.
        is_same_data: Whether they were computed on the very data that the new version was evaluated on; else they
            are those of its own evaluation.
        note: Why not, where they were not.
    """

    champion: str
    metrics: dict[str, float]
    is_same_data: bool
    note: str = ""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What an approval signs.

    Attributes:
        version: The version it is about.
        package_digest: Its package.
        metrics: Its metrics.
        approval: The policy: ``auto`` or a role.
        results: One for each gate, in order.
        comparison: What the champion gates compared with.
        latency: What the latency gates looked at.
    """

    version: str
    package_digest: str
    metrics: dict[str, float]
    approval: str
    results: tuple[GateResult, ...]
    comparison: Comparison | None = None
    latency: Latency | None = None

    @property
    def passed(self) -> bool:
        """Whether every gate was met."""
        return all(result.passed for result in self.results)

    @property
    def digest(self) -> str:
        """The digest that an approval signs."""
        return digest_value(self)


class MetricMissingError(InvalidInputError):
    """A gate asks for a metric that no step produced."""

    code = "registry/metric-missing"

    def __init__(self, model: str, metric: str, gate: str, known: Sequence[str]) -> None:
        there = f"the metrics are {', '.join(known)}" if known else "there are no metrics"
        super().__init__(
            f"the gate {gate!r} of {model!r} needs the metric {metric!r}, which no step produced; {there}",
            hint="Return it from the evaluating step, or name another metric in the gate.",
        )


class MetricsInvalidError(InvalidInputError):
    """What a step gave as metrics is not a dict of names and finite numbers."""

    code = "registry/metrics-invalid"

    def __init__(self, model: str, problems: Sequence[str]) -> None:
        super().__init__(
            f"the metrics of {model!r} cannot be used: {'; '.join(problems)}",
            hint='Return a dict of finite numbers from the evaluating step, such as {"auc": 0.81}.',
        )


def check_metrics(model: str, metrics: Any) -> dict[str, float]:
    """Return metrics as plain numbers.

    Args:
        model: The model, for the error.
        metrics: What the evaluating step returned; numpy scalars count as numbers.

    Raises:
        MetricsInvalidError: It is not a dict, a name is not text, or a value is not a finite number; all are told.
    """
    if not isinstance(metrics, Mapping):
        raise MetricsInvalidError(model, [f"they are a {type(metrics).__name__} and not a dict"])
    plain: dict[str, float] = {}
    problems: list[str] = []
    for name, value in metrics.items():
        if not isinstance(name, str) or not name:
            problems.append(f"the name {name!r} is not text")
            continue
        number = _number(value)
        if number is None:
            problems.append(f"{name!r} is {value!r}, which is not a number")
        elif not math.isfinite(number):
            problems.append(f"{name!r} is {number}, which is not finite")
        else:
            plain[name] = number
    if problems:
        raise MetricsInvalidError(model, problems)
    return plain


def _number(value: Any) -> float | None:
    if isinstance(value, str | bytes) or value is None:
        return None
    item = getattr(value, "item", None)
    try:
        return float(item() if callable(item) else value)
    except (TypeError, ValueError):
        return None


def check_gates(model: str, gates: Sequence[Gate], metrics: Mapping[str, float]) -> None:
    """Check that every gate can be judged.

    Raises:
        MetricMissingError: A gate asks for a metric that is not there.
    """
    for gate in gates:
        if isinstance(gate, MetricGate | ChampionGate) and gate.metric not in metrics:
            raise MetricMissingError(model, gate.metric, gate.name, sorted(metrics))


def judge(
    gates: Sequence[Gate],
    metrics: Mapping[str, float],
    comparison: Comparison | None,
    latency: Latency | None,
    tested: Sequence[TestResult] = (),
) -> list[GateResult]:
    """Return how a version does at each gate; every metric asked for must be there (`check_gates`)."""
    results: list[GateResult] = []
    for gate in gates:
        match gate:
            case MetricGate():
                results.append(_judge_metric(gate, metrics[gate.metric]))
            case ChampionGate():
                results.append(_judge_champion(gate, metrics[gate.metric], comparison))
            case LatencyGate():
                results.extend(_judge_latency(gate, latency))
            case ServiceTestGate():
                results.extend(_judge_tests(gate, tested))
            case _:
                raise InvalidInputError(f"{gate!r} is not a kind of gate that can be judged")
    return results


def _judge_metric(gate: MetricGate, value: float) -> GateResult:
    passed = _OPS[gate.op](value, gate.limit)
    reason = f"{gate.metric} is {value:.6g}; it must be {gate.op} {gate.limit:g}"
    return GateResult(name=gate.name, passed=passed, value=value, limit=gate.limit, reason=reason)


def _judge_champion(gate: ChampionGate, value: float, comparison: Comparison | None) -> GateResult:
    if comparison is None:
        return GateResult(
            name=gate.name, passed=True, value=value, limit=None, reason="there is no champion to compare with yet"
        )
    champion = comparison.metrics.get(gate.metric)
    if champion is None:
        reason = f"the champion {comparison.champion} has no {gate.metric}, so there is nothing to compare with"
        return GateResult(name=gate.name, passed=True, value=value, limit=None, reason=reason)
    allowed = abs(champion) * gate.by if gate.is_share else gate.by
    smaller = is_smaller_better(gate.metric, gate.smaller_is_better)
    limit = champion + allowed if smaller else champion - allowed
    slack = _ROUNDING * max(1.0, abs(limit))
    passed = value <= limit + slack if smaller else value >= limit - slack
    where = "on the same data" if comparison.is_same_data else f"in its own evaluation ({comparison.note})"
    bound = f"{'at most' if smaller else 'at least'} {limit:.6g}"
    found = f"{gate.metric} is {value:.6g}; the champion {comparison.champion} has {champion:.6g} {where}"
    reason = f"{found}, so {bound} {'was' if passed else 'is'} asked for"
    return GateResult(name=gate.name, passed=passed, value=value, limit=limit, reason=reason)


def _judge_latency(gate: LatencyGate, latency: Latency | None) -> list[GateResult]:
    results: list[GateResult] = []
    for label, limit in (("p50", gate.p50_s), ("p99", gate.p99_s)):
        if limit is None:
            continue
        name = f"latency {label} <= {limit * 1000:g}ms"
        if latency is None:
            reason = "it was not measured, since the training data has no rows to measure with"
            results.append(GateResult(name=name, passed=False, value=None, limit=limit, reason=reason))
            continue
        value = latency.p50_s if label == "p50" else latency.p99_s
        reason = f"{label} of {latency.rows} single rows is {value * 1000:.3g} ms; the limit is {limit * 1000:g} ms"
        results.append(GateResult(name=name, passed=value <= limit, value=value, limit=limit, reason=reason))
    return results


def _judge_tests(gate: ServiceTestGate, tested: Sequence[TestResult]) -> list[GateResult]:
    if not tested:
        reason = "the service was not tested"
        return [GateResult(name=gate.name, passed=False, value=None, limit=None, reason=reason)]
    return [
        GateResult(
            name=f"service test: {result.name}",
            passed=result.passed,
            value=result.value,
            limit=result.limit,
            reason=result.reason,
        )
        for result in tested
    ]
