"""Rows as they come in life: twice, without keys, from the future, in any order; training and online agree on them."""

import math
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.domain.features.test_feature_service import Home, _day, _open, _table, customer

from flyball.domain.data.snapshots import SchemaChangedError
from flyball.domain.features.histories import FeatureFunctionError, LooksAheadError
from flyball.domain.features.plans import plan_training_set
from flyball.domain.features.views import FeatureView

_NOW = _day(100)


def _amounts(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.select("customer_id", "paid_at", "amount")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    yield _open(tmp_path)


def _view(function: Any = _amounts, **declared: Any) -> FeatureView:
    return FeatureView("behaviour", _table("payments", entity=customer, time="paid_at", **declared), function, None)


def _write_asked(home: Home, keys: list[Any], *, day: float = 99) -> None:
    home.write("asked", {"customer_id": keys, "asked_at": [_day(day)] * len(keys), "label": [0] * len(keys)})


def _both_ways(home: Home, view: FeatureView, keys: list[Any]) -> list[Any]:
    """Return the feature of some entities, which is the same in a training set and online."""
    _write_asked(home, keys)
    asked = _table("asked", entity=customer, time="asked_at")
    trained = home.service.build_training_set(
        plan_training_set(asked, label=asked["label"], features=[view]), as_of=_NOW
    )
    home.service.materialise(view, _day(99))
    requests = [{"customer_id": key} for key in keys]
    online = home.service.complete(requests, [home.service.view_ref(view)], _day(99)).frame
    assert trained.X["amount"].equals(online["amount"], null_equal=True)
    assert len(trained) == len(keys)  # no row that was asked for is dropped or merged
    return list(trained.X["amount"])


def _payments(home: Home, *rows: tuple[Any, ...]) -> None:
    keys, days, amounts = map(list, zip(*rows, strict=True))
    home.write("payments", {"customer_id": keys, "paid_at": [_day(day) for day in days], "amount": amounts})


def test_of_rows_with_one_key_and_time_the_last_counts(home: Home) -> None:
    _payments(home, (1, 5, 1.0), (2, 5, 7.0), (1, 5, 2.0), (1, 4, 3.0))
    assert _both_ways(home, _view(), [1, 2, 1]) == [2.0, 7.0, 2.0]


def test_of_corrections_of_one_row_the_last_known_counts(home: Home) -> None:
    home.write(
        "payments",
        {
            "customer_id": [1, 1, 1],
            "paid_at": [_day(5)] * 3,
            "seen_at": [_day(8), _day(7), _day(6)],
            "amount": [1.0, 2.0, 3.0],
        },
    )
    assert _both_ways(home, _view(known="seen_at"), [1]) == [1.0]


def test_rows_without_a_key_are_nobodys_and_who_is_asked_without_one_has_nulls(home: Home) -> None:
    _payments(home, (None, 5, 1.0), (2, 5, 7.0))
    assert _both_ways(home, _view(), [None, 2, 3]) == [None, 7.0, None]


def test_the_order_of_rows_in_a_file_does_not_matter(home: Home) -> None:
    rows = [(key, day, float(day)) for day in (9, 3, 8, 1) for key in (2, 1)]
    _payments(home, *rows)
    found = _both_ways(home, _view(), [1, 2])
    _payments(home, *sorted(rows, key=lambda row: row[1]))
    assert _both_ways(home, _view(), [1, 2]) == found == [9.0, 9.0]


def test_rows_of_the_future_are_used_by_nobody_and_not_asked_for(home: Home) -> None:
    _payments(home, (1, 5, 1.0), (1, 99.5, 2.0), (1, 500, 3.0), (2, 500, 4.0))
    assert _both_ways(home, _view(), [1, 2]) == [1.0, None]
    _write_asked(home, [1, 2], day=300)
    asked = _table("asked", entity=customer, time="asked_at")
    plan = plan_training_set(asked, label=asked["label"], features=[_view()])
    with pytest.raises(Exception, match="no row of table 'asked' has a label") as caught:
        home.service.build_training_set(plan, as_of=_NOW)
    assert "the table has 0 rows then" in str(caught.value)


def test_a_number_that_is_none_stays_apart_from_a_missing_one(home: Home) -> None:
    _payments(home, (1, 5, math.nan), (2, 5, None), (3, 5, math.inf), (4, 5, 0.5))
    one, two, *others = _both_ways(home, _view(), [1, 2, 3, 4, 5])
    assert math.isnan(one)
    assert (two, others) == (None, [math.inf, 0.5, None])


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Asia/Kolkata"])
def test_times_of_several_zones_are_one_instant(home: Home, zone: str) -> None:
    _payments(home, (1, 5, 1.0), (1, 98.99, 2.0), (1, 99.01, 3.0))
    frame = pl.read_parquet(home.root / "payments.parquet")
    home.write("payments", frame.with_columns(pl.col("paid_at").dt.convert_time_zone(zone)).to_dict(as_series=True))
    assert _both_ways(home, _view(), [1]) == [2.0]


def test_columns_that_changed_since_are_refused_and_what_is_online_stays(home: Home) -> None:
    _payments(home, (1, 5, 1.0))
    view = _view()
    assert _both_ways(home, view, [1]) == [1.0]
    home.write("payments", {"customer_id": [1], "paid_at": [_day(6)], "amount": ["a lot"], "extra": [1]})
    with pytest.raises(SchemaChangedError, match=r"amount.*extra|extra.*amount"):
        home.service.materialise(view, _NOW)
    ref = home.service.view_ref(view)
    assert home.service.complete([{"customer_id": 1}], [ref], _day(99)).frame["amount"].to_list() == [1.0]
    home.service._data.snapshot(view.table, accept_schema_change=True)
    home.service.materialise(view, _NOW)
    assert home.service.complete([{"customer_id": 1}], [ref], _day(99)).frame["amount"].to_list() == ["a lot"]


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (lambda rows: rows.select("paid_at", "amount"), "returned no column 'customer_id'"),
        (lambda rows: rows.select("customer_id", "amount"), "returned no column 'paid_at'"),
        (lambda rows: rows.with_columns(pl.col("customer_id") + 1), "changed the rows' identity"),
        (lambda rows: rows.with_columns(pl.col("customer_id").cast(pl.String) + "x"), "changed the rows' identity"),
        (lambda rows: rows.with_columns(pl.col("paid_at") - timedelta(days=4)), "looks into the future: a row"),
    ],
    ids=["no key", "no time", "other key", "other type of key", "earlier time"],
)
def test_a_function_that_changes_what_rows_are_about_is_refused(home: Home, function: Any, problem: str) -> None:
    _payments(home, (1, 5, 1.0), (7, 6, 3.0), (1, 7, 3.0), (7, 9, 2.0))
    with pytest.raises((FeatureFunctionError, LooksAheadError), match=problem):
        home.service.materialise(_view(function), _NOW)
