"""Aggregates over windows say at any time what the rows in the window that were known then add up to."""

import statistics
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyball.core.errors import FlyballError
from flyball.domain.data.tables import Entity, Table
from flyball.domain.features import tiles as tiles_module
from flyball.domain.features.aggregates import FUNCTIONS, AggregatedView, aggregate
from flyball.domain.features.histories import compute_history
from flyball.domain.features.tiles import aggregate_tiles, tiles_of

_START = datetime(2026, 1, 1, tzinfo=UTC)
_TIME = pl.Datetime("us", "UTC")
_SCHEMA = {"customer": pl.Int64, "shop": pl.String, "at": _TIME, "recorded": _TIME, "amount": pl.Int64}
_EVERY = timedelta(hours=6)
_WINDOWS = {"1d": timedelta(days=1), "3d": timedelta(days=3)}

Row = dict[str, Any]


def _hour(number: int) -> datetime:
    return _START + timedelta(hours=number)


def _view(*, known: str | None = "recorded", keys: tuple[str, ...] = ("customer",)) -> AggregatedView:
    table = Table("payments.csv", entity=Entity(*keys), time="at", known=known, name="payments")
    return aggregate(table, {"amount": FUNCTIONS}, over=list(_WINDOWS), name="spending", every="6h")


_rows = st.lists(
    st.fixed_dictionaries(
        {
            "customer": st.integers(1, 2) | st.none(),
            "shop": st.sampled_from("ab"),
            "at": st.integers(0, 60).map(_hour),
            "recorded": st.integers(0, 100).map(_hour),
            "amount": st.integers(-9, 9) | st.none(),
        }
    ),
    max_size=12,
)


def _frame(rows: list[Row]) -> pl.LazyFrame:
    return pl.DataFrame(rows, schema=_SCHEMA).lazy()


def _expected(rows: list[Row], customer: int, instant: datetime, length: timedelta) -> dict[str, Any]:
    """Look at every row in the window that ends at the last boundary."""
    end = _START + (instant - _START) // _EVERY * _EVERY
    inside = [
        row
        for row in rows
        if row["customer"] == customer
        and end - length < row["at"] <= end
        and max(row["at"], row["recorded"]) <= instant
        and row["amount"] is not None
    ]
    values = [row["amount"] for row in inside]
    newest = max((row["at"] for row in inside), default=None)
    return {
        "sum": sum(values),
        "count": len(values),
        "count_distinct": len(set(values)),
        "mean": statistics.mean(values) if values else None,
        "min": min(values, default=None),
        "max": max(values, default=None),
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "last": {row["amount"] for row in inside if row["at"] == newest},
    }


@settings(deadline=None, max_examples=60)
@given(rows=_rows.filter(bool), hours=st.lists(st.integers(0, 200), min_size=1, max_size=6))
def test_windows_hold_what_the_rows_known_then_add_up_to(rows: list[Row], hours: list[int]) -> None:
    history = compute_history(_view(), _frame(rows))
    for hour in hours:
        said = {row["customer"]: row for row in history.newest(_hour(hour)).iter_rows(named=True)}
        for customer in (1, 2):
            for window, length in _WINDOWS.items():
                expected = _expected(rows, customer, _hour(hour), length)
                if customer not in said:
                    assert expected["count"] == 0
                    continue
                found = {name: said[customer][f"amount_{name}_{window}"] for name in FUNCTIONS}
                assert found.pop("last") in (expected.pop("last") or {None})
                assert found == pytest.approx(expected)


@settings(deadline=None, max_examples=40)
@given(before=_rows.filter(bool), after=_rows)
def test_tiles_of_two_parts_add_up_to_those_of_the_whole(before: list[Row], after: list[Row]) -> None:
    view = _view(keys=("customer", "shop"))
    full = aggregate_tiles(view, tiles_of(view, _frame(before + after)))
    added = aggregate_tiles(view, pl.concat([tiles_of(view, _frame(before)), tiles_of(view, _frame(after))]))
    names = [name for name in full.columns if "_last_" not in name]  # of rows at one time either is the last
    at = ["at", "customer", "shop"]
    assert full.select(at).sort(at).equals(added.select(at).sort(at))
    one, other = full.select(names).sort(at), added.select(names).sort(at)
    for name in set(names) - set(at):
        assert one[name].to_list() == pytest.approx(other[name].to_list())


def test_many_tiles_are_taken_in_chunks_with_the_same_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {
            "customer": number % 7,
            "shop": "a",
            "at": _hour(number),
            "recorded": _hour(number + number % 5),
            "amount": number,
        }
        for number in range(300)
    ]
    whole = compute_history(_view(), _frame(rows)).until()
    monkeypatch.setattr(tiles_module, "_PAIRS_AT_ONCE", 100)
    assert compute_history(_view(), _frame(rows)).until().equals(whole)


def test_values_change_when_rows_leave_a_window() -> None:
    rows = [{"customer": 1, "shop": "a", "at": _hour(1), "recorded": _hour(1), "amount": 5}]
    history = compute_history(_view(known=None), _frame(rows))
    said = history.until().select("at", "amount_sum_1d", "amount_sum_3d", "amount_mean_1d").rows()
    assert said == [(_hour(6), 5, 5, 5.0), (_hour(30), 0, 5, None), (_hour(78), 0, 0, None)]


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"amount": "median"}, {}, "no function of fb.aggregate is named 'median'"),
        ({}, {}, "'spending' aggregates nothing"),
        ({"amount": "sum"}, {"over": "90m"}, "the window '90m' of 'spending' is no multiple of every='1h'"),
    ],
)
def test_what_cannot_be_aggregated_is_refused_when_it_is_declared(
    columns: dict[str, str], options: dict[str, Any], message: str
) -> None:
    table = Table("payments.csv", entity=Entity("customer"), time="at", name="payments")
    with pytest.raises(FlyballError, match=message):
        aggregate(table, columns, **{"over": "7d", "name": "spending", **options})


@pytest.mark.parametrize(
    ("columns", "message"),
    [({"amuont": "sum"}, "'amuont'"), ({"shop": "sum"}, "cannot make the sum of 'shop', which is String")],
)
def test_a_column_that_is_not_there_or_no_number_is_named(columns: dict[str, str], message: str) -> None:
    table = Table("payments.csv", entity=Entity("customer"), time="at", name="payments")
    with pytest.raises(FlyballError, match=message):
        compute_history(aggregate(table, columns, over="7d", name="spending"), _frame([]))
