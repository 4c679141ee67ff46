"""Gates: how they are declared, and how they are judged."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyball.core.encoding import from_json, to_json
from flyball.core.errors import InvalidInputError
from flyball.domain.registry.evidence import (
    Comparison,
    Latency,
    MetricMissingError,
    MetricsInvalidError,
    check_gates,
    check_metrics,
    judge,
)
from flyball.domain.registry.gates import (
    GatePlan,
    ModelGates,
    is_smaller_better,
    latency,
    metric,
    not_worse_than_champion,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9)


def champion(**metrics: float) -> Comparison:
    return Comparison(champion="m/1", metrics=metrics, is_same_data=True)


@given(value=FINITE, limit=FINITE)
def test_a_metric_gate_is_the_comparison_it_is_written_as(value: float, limit: float) -> None:
    gates = [metric("x") >= limit, metric("x") > limit, metric("x") <= limit, metric("x") < limit]
    passed = [result.passed for result in judge(gates, {"x": value}, None, None)]
    assert passed == [value >= limit, value > limit, value <= limit, value < limit]


@given(value=FINITE, before=FINITE, by=st.floats(0, 100))
def test_a_champion_gate_forgives_exactly_what_it_says(value: float, before: float, by: float) -> None:
    (more,) = judge([not_worse_than_champion("auc", by=by)], {"auc": value}, champion(auc=before), None)
    (less,) = judge([not_worse_than_champion("rmse", by=by)], {"rmse": value}, champion(rmse=before), None)
    near = 1e-6 * max(1.0, abs(before))
    if abs(before - by - value) > near:
        assert more.passed == (value >= before - by)
    if abs(before + by - value) > near:
        assert less.passed == (value <= before + by)


def test_rounding_does_not_fail_a_version_that_is_just_good_enough() -> None:
    (result,) = judge([not_worse_than_champion("auc", by=0.005)], {"auc": 0.795}, champion(auc=0.8), None)
    assert result.passed


def test_a_share_is_of_the_champions_value() -> None:
    gate = not_worse_than_champion("rmse", by="2%")
    assert gate.name == "rmse not worse than the champion's by more than 2%"
    at_limit, beyond = (judge([gate], {"rmse": value}, champion(rmse=50.0), None)[0] for value in (51.0, 51.1))
    assert at_limit.passed
    assert not beyond.passed
    assert beyond.reason == "rmse is 51.1; the champion m/1 has 50 on the same data, so at most 51 is asked for"


def test_a_first_version_has_nothing_to_be_worse_than() -> None:
    (result,) = judge([not_worse_than_champion("auc")], {"auc": 0.5}, None, None)
    assert result.passed
    assert result.reason == "there is no champion to compare with yet"


def test_a_champion_without_the_metric_does_not_stand_in_the_way() -> None:
    (result,) = judge([not_worse_than_champion("auc")], {"auc": 0.5}, champion(f1=1.0), None)
    assert result.passed
    assert "has no auc" in result.reason


def test_a_comparison_with_the_champions_own_evaluation_says_so() -> None:
    recorded = Comparison(champion="m/1", metrics={"auc": 0.9}, is_same_data=False, note="it cannot be run")
    (result,) = judge([not_worse_than_champion("auc")], {"auc": 0.8}, recorded, None)
    assert not result.passed
    assert "in its own evaluation (it cannot be run)" in result.reason


def test_latency_is_judged_by_each_limit() -> None:
    gate = latency(p99="20ms", p50=timedelta(milliseconds=1))
    assert gate.name == "latency p50 <= 1ms and p99 <= 20ms"
    slow, fast = judge([gate], {}, None, Latency(p50_s=0.002, p99_s=0.005, rows=200))
    assert (slow.passed, fast.passed) == (False, True)
    assert slow.reason == "p50 of 200 single rows is 2 ms; the limit is 1 ms"


def test_latency_that_was_not_measured_does_not_pass() -> None:
    (result,) = judge([latency(p99="20ms")], {}, None, None)
    assert not result.passed


@pytest.mark.parametrize(
    ("name", "smaller"),
    [
        *(("auc", False), ("r2", False), ("recall", False), ("mapes", False)),
        *(("rmse", True), ("RMSE", True), ("test_mae", True), ("log-loss", True), ("rmse.30d", True)),
        ("error_rate", True),
    ],
)
def test_the_direction_is_known_by_the_name(name: str, smaller: bool) -> None:
    assert is_smaller_better(name) is smaller
    assert is_smaller_better(name, not smaller) is not smaller


def test_a_gate_is_neither_true_nor_false() -> None:
    with pytest.raises(InvalidInputError, match="Write one gate for each limit"):
        0.5 <= metric("auc") <= 0.9  # noqa: B015


@pytest.mark.parametrize("by", [-1, "a lot", "-2%", float("inf"), float("nan"), None])
def test_an_allowance_that_is_no_number_is_refused(by: float) -> None:
    with pytest.raises(InvalidInputError, match="'auc'"):
        not_worse_than_champion("auc", by=by)


def test_limits_that_make_no_sense_are_refused() -> None:
    for limit in ("0.7", float("nan"), None, True):
        with pytest.raises(InvalidInputError, match="must be a number"):
            metric("auc") >= limit  # type: ignore[operator]  # noqa: B015
    with pytest.raises(InvalidInputError, match="needs a limit"):
        latency()
    with pytest.raises(InvalidInputError, match="p99 'fast'"):
        latency(p99="fast")
    with pytest.raises(InvalidInputError, match="name of a metric"):
        metric("")


def test_a_gate_on_a_metric_that_no_step_produced_names_those_there_are() -> None:
    with pytest.raises(MetricMissingError) as error:
        check_gates("credit", [metric("auc") >= 0.7], {"f1": 0.5, "recall": 0.3})
    assert error.value.message == (
        "the gate 'auc >= 0.7' of 'credit' needs the metric 'auc', which no step produced; the metrics are f1, recall"
    )
    with pytest.raises(MetricMissingError, match="there are no metrics"):
        check_gates("credit", [not_worse_than_champion("auc")], {})


def test_metrics_may_be_numpy_numbers() -> None:
    assert check_metrics("m", {"a": np.float32(0.5), "b": 1, "c": np.array(2.0)}) == {"a": 0.5, "b": 1.0, "c": 2.0}


def test_every_bad_metric_is_told_at_once() -> None:
    bad = {"auc": float("nan"), "f1": "0.7", 3: 1.0, "r2": None, "mae": np.array([1, 2]), "ok": 1.0}
    with pytest.raises(MetricsInvalidError) as error:
        check_metrics("credit", bad)
    for part in ("'auc' is nan", "'f1' is '0.7'", "the name 3", "'r2' is None", "'mae'"):
        assert part in error.value.message
    with pytest.raises(MetricsInvalidError, match="they are a list and not a dict"):
        check_metrics("credit", [0.5])


def test_a_plan_survives_json_and_knows_models_without_gates() -> None:
    gates = (metric("auc") >= 0.7, not_worse_than_champion("auc", by="1%"), latency(p99="20ms"))
    plan = GatePlan.gather({"credit": (gates, "risk-officer")})
    assert from_json(to_json(plan), GatePlan) == plan
    assert plan.of("credit") == ModelGates(gates=gates, approval="risk-officer")
    assert plan.of("other") == ModelGates()
