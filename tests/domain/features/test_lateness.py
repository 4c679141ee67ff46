"""At any instant a view says what its function makes of the rows known then, however late rows become known."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyball.domain.data.tables import Entity, Table
from flyball.domain.features import lateness
from flyball.domain.features.histories import compute_history
from flyball.domain.features.lateness import TooManyLateRowsError
from flyball.domain.features.views import FeatureView

_START = datetime(2026, 1, 1, tzinfo=UTC)
_TIME = pl.Datetime("us", "UTC")
_SCHEMA = {"customer": pl.Int64, "shop": pl.String, "at": _TIME, "recorded": _TIME, "amount": pl.Int64}
_KEYS = ["customer", "shop"]

Row = dict[str, Any]
Function = Callable[[pl.LazyFrame], pl.LazyFrame]


def _day(number: int) -> datetime:
    return _START + timedelta(days=number)


_rows = st.lists(
    st.fixed_dictionaries(
        {
            "customer": st.integers(1, 2),
            "shop": st.sampled_from("ab"),
            "at": st.integers(0, 9).map(_day),
            "recorded": st.integers(0, 12).map(_day),
            "amount": st.integers(0, 99),
        }
    ),
    max_size=14,
)
_once = _rows.map(lambda rows: list({(row["customer"], row["shop"], row["at"]): row for row in rows}.values()))


def _doubled(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.select(*_KEYS, "at", value=pl.col("amount") * 2)


def _large(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.filter(pl.col("amount") > 30).select(*_KEYS, "at", "recorded", value="amount")


def _total(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.select(*_KEYS, "at", value=pl.col("amount").cum_sum().over(_KEYS))


def _total_with_known(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(value=pl.col("amount").cum_sum().over(_KEYS))


def _recent(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.rolling("at", period="3d", group_by=_KEYS).agg(value=pl.col("amount").sum())


def _since_the_last(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.select(*_KEYS, "at", value=pl.col("amount") - pl.col("amount").shift().over(_KEYS))


def _view(function: Function) -> FeatureView:
    table = Table("payments.csv", entity=Entity(*_KEYS), time="at", known="recorded", name="payments")
    return FeatureView("spending", table, function, None)


def _frame(rows: list[Row]) -> pl.LazyFrame:
    return pl.DataFrame(rows, schema=_SCHEMA).lazy()


def _said_at(function: Function, rows: list[Row], instant: datetime) -> dict[tuple[Any, ...], Any]:
    """Run the function over nothing but what was known, and look at the newest row of each entity."""
    known = [row for row in rows if row["at"] <= instant and row["recorded"] <= instant]
    said = function(_frame(sorted(known, key=lambda row: row["at"]))).collect().sort("at", maintain_order=True)
    return {tuple(row[key] for key in _KEYS): row["value"] for row in said.iter_rows(named=True)}


@settings(deadline=None, max_examples=60)
@given(
    rows=_once.filter(bool),
    function=st.sampled_from([_doubled, _large, _total, _total_with_known, _recent, _since_the_last]),
)
def test_a_view_says_at_any_time_what_its_function_makes_of_the_rows_known_then(
    rows: list[Row], function: Function
) -> None:
    history = compute_history(_view(function), _frame(rows))
    for day in range(13):
        newest = history.newest(_day(day))
        said = {tuple(row[key] for key in _KEYS): row["value"] for row in newest.iter_rows(named=True)}
        assert said == _said_at(function, rows, _day(day)), f"on day {day}"


@settings(deadline=None, max_examples=60)
@given(before=_once.filter(bool), after=_once)
def test_what_becomes_known_later_changes_nothing_that_was_said_before(before: list[Row], after: list[Row]) -> None:
    until = max(row["recorded"] for row in before)
    taken = {(row["customer"], row["shop"], row["at"]) for row in before}
    later = [row for row in after if row["recorded"] > until and (row["customer"], row["shop"], row["at"]) not in taken]
    one, both = compute_history(_view(_recent), _frame(before)), compute_history(_view(_recent), _frame(before + later))
    for day in range((until - _START).days + 1):
        said = [history.newest(_day(day)).sort(_KEYS).select(*_KEYS, "at", "value") for history in (one, both)]
        assert said[0].equals(said[1])


@settings(deadline=None, max_examples=60)
@given(rows=_rows.filter(bool))
def test_of_corrections_for_one_time_the_last_known_by_then_counts(rows: list[Row]) -> None:
    history = compute_history(_view(_doubled), _frame(rows))
    for day in range(13):
        said = {
            tuple(row[key] for key in _KEYS): row["value"] for row in history.newest(_day(day)).iter_rows(named=True)
        }
        known = [row for row in rows if row["at"] <= _day(day) and row["recorded"] <= _day(day)]
        ordered = sorted(known, key=lambda row: (row["at"], row["recorded"]))
        assert said == {tuple(row[key] for key in _KEYS): row["amount"] * 2 for row in ordered}


def test_values_that_use_other_entities_wait_until_all_of_theirs_are_known() -> None:
    def share(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.select(*_KEYS, "at", value=pl.col("amount") / pl.col("amount").cum_sum())

    rows = [
        {"customer": 1, "shop": "a", "at": _day(1), "recorded": _day(1), "amount": 1},
        {"customer": 2, "shop": "a", "at": _day(2), "recorded": _day(9), "amount": 1},
        {"customer": 1, "shop": "a", "at": _day(3), "recorded": _day(8), "amount": 2},
        {"customer": 1, "shop": "a", "at": _day(4), "recorded": _day(4), "amount": 4},
    ]
    history = compute_history(_view(share), _frame(rows))
    assert history.newest(_day(8))["value"].to_list() == [1.0]
    assert history.newest(_day(9)).sort("customer")["value"].to_list() == [0.5, 0.5]


def test_too_many_late_rows_are_refused_by_name_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lateness, "_MOST_STATES", 3)
    rows = [
        {"customer": 1, "shop": "a", "at": _day(10 - day), "recorded": _day(20 + day), "amount": 1} for day in range(9)
    ]
    with pytest.raises(TooManyLateRowsError, match="'spending' would be computed for up to 8 states") as caught:
        compute_history(_view(_total), _frame(rows))
    assert 'late="wait"' in caught.value.hint
