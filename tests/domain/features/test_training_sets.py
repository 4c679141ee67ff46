"""Training sets hold the right columns and rows, and say where they come from."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flyball.core.errors import InvalidInputError, UnknownNameError
from flyball.domain.data.recording import recording
from flyball.domain.data.schemas import Field, Schema
from flyball.domain.data.tables import Entity, Table
from flyball.domain.features.assembling import EmptyTrainingSetError, assemble
from flyball.domain.features.histories import FeatureFunctionError, compute_history
from flyball.domain.features.plans import TrainingSetPlan, plan_training_set
from flyball.domain.features.requests import ColumnClashError
from flyball.domain.features.splits import EmptySplitError, split_rows
from flyball.domain.features.training_sets import TrainingLineage, TrainingSet, split, training_set
from flyball.domain.features.views import FeatureView, RequestFeatures, features, request_features

_START = datetime(2026, 1, 1, tzinfo=UTC)


def _day(number: float) -> datetime:
    return _START + timedelta(days=number)


_LATER = _day(20)
customer = Entity("customer_id")
applications = Table(
    "applications.csv", entity=customer, key="loan", time="applied_at", known="filed_at", name="applications"
)
payments = Table("payments.csv", entity=customer, time="paid_at", name="payments")
outcomes = Table("outcomes.csv", entity=customer, time="observed_at", name="outcomes")

_APPLICATIONS = pl.LazyFrame(
    {
        "loan": ["c", "a", "b", "d"],
        "customer_id": [1, 1, 2, 3],
        "applied_at": [_day(9), _day(3), _day(5), _day(1)],
        "filed_at": [_day(9), _day(3), _day(5), _day(1)],
        "income": [900, 300, None, 100],
        "amount": [9.0, 3.0, 5.0, 1.0],
    }
)
_PAYMENTS = pl.LazyFrame({"customer_id": [1, 1, 2], "paid_at": [_day(2), _day(4), _day(5)], "days": [20, 40, 50]})
_OUTCOMES = pl.LazyFrame(
    {
        "customer_id": [1, 1, 2, 3],
        "observed_at": [_day(4), _day(10), _day(11), _day(12)],
        "defaulted": [0, 1, 0, None],
    }
)


@features(payments)
def behaviour(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.select("customer_id", "paid_at", last_days="days")


@request_features(applications)
def affordability(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(share=pl.col("amount") / pl.col("income"))


def _plan(**arguments: Any) -> TrainingSetPlan:
    return plan_training_set(applications, **{"label": outcomes["defaulted"], **arguments})


def _build(plan: TrainingSetPlan, *, as_of: datetime = _LATER, spine: pl.LazyFrame = _APPLICATIONS) -> TrainingSet:
    lineage = TrainingLineage(
        spine="applications",
        snapshots={"applications": "s1"},
        views={view.name: "v1" for view in plan.views},
        ttls={view.name: view.ttl for view in plan.views},
        view_keys={view.name: view.keys for view in plan.views},
        request_features={},
        label_rule=plan.rule,
        as_of=as_of,
        since=plan.since,
    )
    histories = {view.name: compute_history(view, _PAYMENTS) for view in plan.views}
    labels = spine if plan.label.table is applications else _OUTCOMES
    return assemble(plan, spine=spine, labels=labels, histories=histories, lineage=lineage)


def test_rows_have_a_label_and_the_features_of_their_time_oldest_first() -> None:
    data = _build(_plan(features=[behaviour, affordability]))
    assert data.frame.rows(named=True) == [
        {
            "loan": "a",
            "customer_id": 1,
            "applied_at": _day(3),
            "income": 300,
            "amount": 3.0,
            "last_days": 20,
            "share": 0.01,
            "defaulted": 0,
        },
        {
            "loan": "b",
            "customer_id": 2,
            "applied_at": _day(5),
            "income": None,
            "amount": 5.0,
            "last_days": 50,
            "share": None,
            "defaulted": 0,
        },
        {
            "loan": "c",
            "customer_id": 1,
            "applied_at": _day(9),
            "income": 900,
            "amount": 9.0,
            "last_days": 40,
            "share": 0.01,
            "defaulted": 1,
        },
    ]
    assert data.feature_names == ["income", "amount", "last_days", "share"]
    assert data.X.columns == data.feature_names
    assert data.y.to_list() == [0, 0, 1]
    assert data.keys == ["loan", "customer_id"]
    assert data.facts.origins["last_days"] == "feature view 'behaviour'"


def test_the_request_schema_names_the_fields_of_a_live_request() -> None:
    data = _build(_plan(drop=["amount"]))
    assert data.request_schema == Schema(
        (
            Field(name="loan", dtype="string", nullable=False),
            Field(name="customer_id", dtype="int", nullable=False),
            Field(name="applied_at", dtype="datetime", nullable=True),
            Field(name="income", dtype="int", nullable=True),
        )
    )
    assert data.feature_names == ["income"]


def test_only_the_last_part_of_the_history_is_taken() -> None:
    assert _build(_plan(since="5d")).frame["loan"].to_list() == ["b", "c"]


def test_labels_known_later_than_as_of_are_not_used() -> None:
    assert _build(_plan(), as_of=_day(10)).frame["loan"].to_list() == ["a", "c"]


def test_no_label_at_all_is_told_with_the_number_of_rows() -> None:
    with pytest.raises(EmptyTrainingSetError, match=r"label in outcomes\.defaulted .*2026-01-02T00:00:00Z; .* 4 rows"):
        _build(_plan(), as_of=_day(1))


def test_a_label_of_the_spine_itself_is_no_field_of_a_request() -> None:
    data = _build(_plan(label=applications["amount"]))
    assert data.y.to_list() == [1.0, 3.0, 5.0, 9.0]
    assert "amount" not in data.feature_names
    assert "amount" not in data.request_schema


def test_a_saved_training_set_is_the_same_when_opened(tmp_path: Path) -> None:
    data = _build(_plan(features=[behaviour, affordability], since="100d"))
    data.save(tmp_path)
    opened = TrainingSet.load(tmp_path)
    assert opened.frame.equals(data.frame)
    assert opened.facts == data.facts
    assert opened.lineage.view_refs == data.lineage.view_refs


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        (["incme"], "no column to drop is named 'incme'; did you mean 'income'"),
        (["loan"], "'loan' cannot be dropped: it is the key"),
        (["applied_at"], "'applied_at' cannot be dropped: it is the time"),
    ],
)
def test_what_cannot_be_dropped_is_named(drop: list[str], message: str) -> None:
    with pytest.raises((UnknownNameError, InvalidInputError), match=message):
        _build(_plan(drop=drop))


def test_an_unknown_label_column_is_named_with_the_closest() -> None:
    with pytest.raises(
        UnknownNameError, match="no column of table 'outcomes' is named 'default'; did you mean 'defaulted'"
    ):
        _build(_plan(label=outcomes["default"]))


def _view(name: str, **columns: pl.Expr) -> FeatureView:
    return FeatureView(name, payments, lambda rows: rows.select("customer_id", "paid_at", **columns), None)


def _request(function: Callable[[pl.LazyFrame], pl.LazyFrame]) -> RequestFeatures:
    return RequestFeatures("ratios", applications, function)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            [_view("one", x=pl.col("days")), _view("two", x=pl.col("days"))],
            "'x' comes from feature view 'one' and from feature view 'two'",
        ),
        ([_view("one", income=pl.col("days"))], "'income' comes from table 'applications' and from feature view 'one'"),
        ([_view("one", applied_at=pl.col("days"))], "'applied_at' comes from the time and"),
        ([_view("one", defaulted=pl.col("days"))], r"'defaulted' comes from the label outcomes\.defaulted and"),
        (
            [_view("one", share=pl.col("days")), affordability],
            "'share' comes from feature view 'one' and from request features 'affordability'",
        ),
    ],
)
def test_two_columns_of_one_name_are_refused(parts: list[Any], message: str) -> None:
    with pytest.raises(ColumnClashError, match=message):
        _build(_plan(features=parts))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda rows: rows.filter(pl.col("amount") > 3).with_columns(x=1), "'ratios' returned 2 rows for 3"),
        (
            lambda rows: rows.sort("amount", descending=True).with_columns(x=1),
            "another order, or changed column 'loan'",
        ),
        (lambda rows: rows.with_columns(pl.col("amount") * 2, x=1), "changed column 'amount'"),
        (lambda rows: rows, "'ratios' added no column"),
        (lambda rows: rows.select(x=pl.col("amount") - pl.col("amount").mean()), "'x' of a row from other rows"),
        (lambda rows: rows.select(pl.col("amount").sort().alias("x").reverse()), "'x' of a row from other rows"),
        (lambda rows: rows.with_columns(x=pl.col("wage")), "'ratios' failed: ColumnNotFoundError"),
    ],
)
def test_a_request_function_keeps_rows_order_and_columns(
    function: Callable[[pl.LazyFrame], pl.LazyFrame], message: str
) -> None:
    with pytest.raises(FeatureFunctionError, match=message):
        _build(_plan(features=[_request(function)]))


def test_keys_of_another_type_are_refused_with_the_way_out() -> None:
    spine = _APPLICATIONS.with_columns(pl.col("customer_id").cast(pl.String))
    plan = _plan(label=applications["amount"], features=[behaviour])
    with pytest.raises(InvalidInputError, match="'customer_id' is Int64 in the one and String in the other"):
        _build(plan, spine=spine)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label": "defaulted"}, r"label='defaulted', which is no column.*outcomes\[\"defaulted\"\]"),
        ({"features": [len]}, "among its features"),
        ({"features": [behaviour, behaviour]}, "'behaviour' twice"),
        ({"drop": "income"}, r"drop='income' is not a list"),
        ({"since": "a while"}, "since of training_set 'a while' is not a duration"),
        (
            {"features": [RequestFeatures("other", payments, lambda rows: rows)]},
            "'other' computes request features of table 'payments'",
        ),
    ],
)
def test_what_was_asked_is_checked_before_anything_is_read(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        _plan(**arguments)
    assert caught.match(f"(?s){message}")


def test_outside_a_pipeline_the_calls_say_so() -> None:
    with pytest.raises(InvalidInputError, match="training_set was called outside a pipeline"):
        training_set(applications, label=outcomes["defaulted"])
    with pytest.raises(InvalidInputError, match="split was called outside a pipeline"):
        split(None, test="last 20%")


def test_in_a_pipeline_they_become_nodes() -> None:
    class Recorder:
        def record(self, operation: Any, inputs: Any) -> Any:
            return (operation.name, operation.outputs, dict(inputs))

    with recording(Recorder()):
        data = training_set(applications, label=outcomes["defaulted"], since="30d", drop=["income"])
        parts = split(data, test="random 10%", seed=7)
    assert data == ("training_set", 1, {"since": "30d", "drop": ["income"]})
    assert parts == ("split", 2, {"data": data, "test": "random 10%", "seed": 7})


def _days(*numbers: float) -> TrainingSet:
    data = _build(_plan())
    frame = pl.DataFrame({"applied_at": [_day(number) for number in numbers], "defaulted": [0] * len(numbers)})
    return data.with_rows(frame, part="")


def _parts(data: TrainingSet, test: str, **arguments: Any) -> tuple[list[float], list[float]]:
    return tuple(  # type: ignore[return-value]
        [(time - _START) / timedelta(days=1) for time in part.frame["applied_at"]]
        for part in split_rows(data, test, **arguments)
    )


def test_the_last_share_is_held_out_and_one_instant_is_never_divided() -> None:
    assert _parts(_days(*range(10)), "last 20%") == ([*range(8)], [8, 9])
    assert _parts(_days(1, 2, 3, 3, 3), "last 20%") == ([1, 2], [3, 3, 3])


def test_the_last_period_counts_back_from_the_newest_row() -> None:
    assert _parts(_days(1, 2, 3, 9, 10), "last 7d") == ([1, 2, 3], [9, 10])


def test_random_rows_are_the_same_for_the_same_seed() -> None:
    data = _days(*range(50))
    fit, held_out = _parts(data, "random 20%")
    assert len(held_out) == 10
    assert sorted(fit + held_out) == [*range(50)]
    assert (fit, held_out) == _parts(data, "random 20%")
    assert (fit, held_out) != _parts(data, "random 20%", seed=1)
    assert [part.facts.part for part in split_rows(data, "random 20%")] == ["all but random 20%", "random 20%"]


@pytest.mark.parametrize(
    ("days", "test", "message"),
    [
        ((1, 1, 1), "last 20%", "leaves no rows to fit: of its 3 rows too many are of 2026-01-02"),
        ((1, 3), "last 7d", "leaves no rows to fit: its rows span 2d"),
        ((1, 3), "random 20%", "leaves no rows to test with: it has only 2 rows"),
        ((), "last 20%", "leaves no rows on either side"),
    ],
)
def test_an_empty_side_is_refused(days: tuple[float, ...], test: str, message: str) -> None:
    with pytest.raises(EmptySplitError, match=message):
        split_rows(_days(*days), test)


@pytest.mark.parametrize("test", ["last", "20%", "first 20%", "last 120%", "random 30d", "last 0%", "last x%", 5])
def test_a_part_that_cannot_be_read_says_how_to_write_it(test: str) -> None:
    with pytest.raises(InvalidInputError):
        split(None, test=test)
