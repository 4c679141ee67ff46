"""A view's history is computed once, and functions whose results could not be trusted are refused by name."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Literal

import polars as pl
import pytest

from flyball.core.errors import FlyballError
from flyball.domain.data.tables import Entity, Table
from flyball.domain.features.histories import FeatureFunctionError, LooksAheadError, ViewHistory, compute_history
from flyball.domain.features.point_in_time import USABLE
from flyball.domain.features.views import FeatureView, features

_START = datetime(2026, 1, 1, tzinfo=UTC)
_ROWS = pl.LazyFrame(
    {
        "customer": [1, 1, 1, 2, 2, 1],
        "at": [_START + timedelta(days=day) for day in (1, 2, 3, 1, 4, 8)],
        "recorded": [_START + timedelta(days=day) for day in (1, 6, 4, 1, 4, 8)],
        "amount": [10.0, 20.0, 30.0, 5.0, 6.0, 40.0],
    }
)


def _day(number: int) -> datetime:
    return _START + timedelta(days=number)


def _view(
    function: Callable[[pl.LazyFrame], pl.LazyFrame],
    *,
    known: str | None = None,
    late: Literal["exact", "wait"] = "exact",
) -> FeatureView:
    table = Table("payments.csv", entity=Entity("customer"), time="at", known=known, name="payments")
    return FeatureView("spending", table, function, None, late=late)


def _last_of_equals(history: ViewHistory) -> pl.DataFrame:
    return history.until().unique(["customer", USABLE], keep="last", maintain_order=True)


def _total(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.sort("at").select("customer", "at", total=pl.col("amount").cum_sum().over("customer"))


def test_a_running_total_has_a_row_for_each_change() -> None:
    history = compute_history(_view(_total), _ROWS)
    assert history.columns.names == ["total"]
    assert history.newest(_day(3)).sort("customer").rows() == [(1, _day(3), _day(3), 60.0), (2, _day(1), _day(1), 5.0)]
    assert history.newest(_day(4), after=_day(3)).rows() == [(2, _day(4), _day(4), 11.0)]
    assert history.newest(_day(9), after=_day(8)).height == 0


def test_a_late_row_goes_into_a_total_from_when_it_was_known_and_holds_back_no_newer_one() -> None:
    history = compute_history(_view(_total, known="recorded"), _ROWS)
    own = _last_of_equals(history).filter(pl.col("customer") == 1).select("at", USABLE, "total").rows()
    assert own == [
        (_day(1), _day(1), 10.0),
        (_day(3), _day(4), 40.0),
        (_day(3), _day(6), 60.0),
        (_day(8), _day(8), 100.0),
    ]


def test_with_late_wait_newer_rows_wait_for_the_late_one() -> None:
    history = compute_history(_view(_total, known="recorded", late="wait"), _ROWS)
    own = _last_of_equals(history).filter(pl.col("customer") == 1).select("at", USABLE, "total").rows()
    assert own == [(_day(1), _day(1), 10.0), (_day(3), _day(6), 60.0), (_day(8), _day(8), 100.0)]


def test_of_results_for_one_time_the_last_known_wins() -> None:
    rows = pl.LazyFrame(
        {
            "customer": [1, 1, 1],
            "at": [_day(1)] * 3,
            "recorded": [_day(5), _day(2), _day(3)],
            "amount": [1, 2, 3],
        }
    )
    history = compute_history(_view(lambda rows: rows, known="recorded"), rows)
    own = _last_of_equals(history).select("at", USABLE, "amount").rows()
    assert own == [(_day(1), _day(2), 2), (_day(1), _day(3), 3), (_day(1), _day(5), 1)]


def test_windows_labelled_by_their_end_are_fine_and_by_their_start_look_ahead() -> None:
    def windows(label: str) -> Callable[[pl.LazyFrame], pl.LazyFrame]:
        def spending(rows: pl.LazyFrame) -> pl.LazyFrame:
            grouped = rows.sort("at").group_by_dynamic(
                "at", every="5d", group_by="customer", label=label, closed="left", start_by="datapoint"
            )
            return grouped.agg(pl.col("amount").sum())

        return spending

    days = [_day(number) for number in range(12)]
    rows = pl.LazyFrame({"customer": [1] * 12, "at": days, "amount": [1.0] * 12})
    assert compute_history(_view(windows("right")), rows).until().height
    with pytest.raises(LooksAheadError, match="'spending' looks into the future: its 'amount' at 2026-01-06"):
        compute_history(_view(windows("left")), rows)


@pytest.mark.parametrize(
    "feature",
    [
        pl.col("amount") - pl.col("amount").mean(),
        pl.col("amount").shift(-1).over("customer"),
        pl.col("amount").rank(),
        (pl.col("at").max() - pl.col("at")).dt.total_days(),
    ],
)
def test_values_that_need_later_rows_are_refused(feature: pl.Expr) -> None:
    with pytest.raises(LooksAheadError, match="looks into the future: its 'feature'"):
        compute_history(_view(lambda rows: rows.select("customer", "at", feature=feature)), _ROWS)


def test_the_newest_row_of_each_entity_alone_is_a_history_too() -> None:
    last = _view(lambda rows: rows.group_by("customer").agg(pl.col("at").max(), pl.len().alias("payments")))
    assert compute_history(last, _ROWS).newest(_day(9)).sort("customer")["payments"].to_list() == [4, 2]


def test_dates_count_as_their_midnight_and_small_types_are_widened() -> None:
    rows = pl.LazyFrame({"customer": [1], "at": [_day(1)], "amount": [2.0]})
    view = _view(
        lambda rows: rows.select(
            "customer",
            pl.col("at").dt.date(),
            small=pl.col("amount").cast(pl.Int8),
            kind=pl.lit("a").cast(pl.Categorical),
            single=pl.col("amount").cast(pl.Float32),
            day=pl.lit(date(2026, 1, 1)),
        )
    )
    history = compute_history(view, rows)
    assert history.until().select(history.columns.names).schema == history.columns.to_polars()
    assert history.until()["at"].to_list() == [_day(1)]


def test_the_function_gets_the_rows_oldest_first() -> None:
    def spending(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.rolling("at", period="7d", group_by="customer").agg(pl.col("amount").sum())

    history = compute_history(_view(spending), _ROWS.reverse())
    assert history.newest(_day(9)).sort("customer")["amount"].to_list() == [90.0, 11.0]


def test_an_empty_table_has_an_empty_history() -> None:
    history = compute_history(_view(_total), _ROWS.clear())
    assert history.newest(_day(9)).height == 0
    assert history.columns.names == ["total"]


def _fails(rows: pl.LazyFrame) -> pl.LazyFrame:
    raise ValueError("no such shop")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_fails, "'spending' failed: ValueError: no such shop"),
        (lambda rows: rows.select("nothing"), "'spending' failed: ColumnNotFoundError"),
        (lambda rows: None, "'spending' returned nothing instead of a LazyFrame"),
        (lambda rows: 3, "'spending' returned int instead of a LazyFrame"),
        (lambda rows: rows.select("at", "amount"), "no column 'customer', the key of table 'payments'"),
        (lambda rows: rows.select("customer", "amount"), "no column 'at', the time of table 'payments'"),
        (lambda rows: rows.select("customer", "at"), "returned no feature"),
        (lambda rows: rows.with_columns(every=pl.concat_list("amount")), "'every' has the type List"),
    ],
)
def test_an_unfit_function_is_named_with_what_is_wrong(
    function: Callable[[pl.LazyFrame], pl.LazyFrame], message: str
) -> None:
    with pytest.raises(FlyballError, match=message) as caught:
        compute_history(_view(function), _ROWS)
    assert isinstance(caught.value, FeatureFunctionError) == ("List" not in message)
    assert caught.value.hint


def test_a_function_that_changes_whom_rows_are_about_is_refused() -> None:
    view = _view(lambda rows: rows.with_columns(pl.col("customer") + 100))
    with pytest.raises(FeatureFunctionError, match="changed the rows' identity: it returned"):
        compute_history(view, _ROWS)


def test_a_view_over_a_view_computes_from_its_rows_as_they_were_known() -> None:
    total = _view(_total, known="recorded")

    @features(total)
    def change(rows: pl.LazyFrame) -> pl.LazyFrame:
        before = pl.col("total").shift(1, fill_value=0.0).over("customer")
        return rows.select("customer", "at", change=pl.col("total") - before)

    history = compute_history(change, _ROWS)
    own = _last_of_equals(history).filter(pl.col("customer") == 1).select("at", USABLE, "change").rows()
    assert own == [
        (_day(1), _day(1), 10.0),
        (_day(3), _day(4), 30.0),
        (_day(8), _day(8), 40.0),
    ]
    assert change.parent is total
    assert change.table is total.table


def test_a_view_over_a_view_that_looks_ahead_is_refused() -> None:
    ahead = features(_view(_total), name="ahead")(
        lambda rows: rows.with_columns(next=pl.col("total").shift(-1).over("customer"))
    )
    with pytest.raises(LooksAheadError):
        compute_history(ahead, _ROWS)
