"""A point-in-time join equals what one finds by looking at each row alone."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyball.domain.features import point_in_time
from flyball.domain.features.point_in_time import USABLE, Timelines, join_point_in_time

_START = datetime(2026, 1, 1, tzinfo=UTC)
_TIME = pl.Datetime("us", "UTC")
_KEYS = {"customer": pl.Int64, "shop": pl.String}

Row = dict[str, Any]


def _day(number: int | None) -> datetime | None:
    return None if number is None else _START + timedelta(days=number)


_days = st.one_of(st.none(), st.integers(0, 8).map(_day))
_keys = {
    "customer": st.one_of(st.none(), st.integers(1, 2)),
    "shop": st.one_of(st.none(), st.sampled_from("ab")),
}
_spines = st.lists(st.fixed_dictionaries({**_keys, "asked_at": _days}), max_size=8)
_features = st.lists(
    st.fixed_dictionaries({**_keys, "time": _days, "known": _days, "value": st.integers(0, 99) | st.none()}),
    max_size=12,
)


def _frame(rows: list[Row], **dtypes: Any) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={**_KEYS, **dtypes})


def _newest(asked: Row, rows: list[Row], by: list[str], has_known: bool, ttl: timedelta | None) -> Row | None:
    """Look at every feature row for one spine row."""
    best: Row | None = None
    for row in rows:
        if asked["asked_at"] is None or row["time"] is None or (has_known and row["known"] is None):
            continue
        if any(asked[key] is None or asked[key] != row[key] for key in by):
            continue
        if row["time"] > asked["asked_at"] or (has_known and row["known"] > asked["asked_at"]):
            continue

        def rank(row: Row) -> tuple[datetime, ...]:
            return (row["time"], row["known"]) if has_known else (row["time"],)

        if best is None or rank(row) >= rank(best):
            best = row
    if best is not None and ttl is not None and asked["asked_at"] - best["time"] > ttl:
        return None
    return best


@settings(deadline=None, max_examples=300)
@given(
    spine=_spines,
    rows=_features,
    by=st.sampled_from([["customer"], ["customer", "shop"]]),
    has_known=st.booleans(),
    ttl=st.one_of(st.none(), st.integers(1, 5).map(lambda days: timedelta(days=days))),
)
def test_each_row_gets_the_newest_row_known_at_its_time(
    spine: list[Row], rows: list[Row], by: list[str], has_known: bool, ttl: timedelta | None
) -> None:
    joined = join_point_in_time(
        _frame(spine, asked_at=_TIME),
        _frame(rows, time=_TIME, known=_TIME, value=pl.Int64),
        by=by,
        time="asked_at",
        feature_time="time",
        columns=["value"],
        known="known" if has_known else None,
        ttl=ttl,
        event_time="value_time",
    )
    found = [_newest(asked, rows, by, has_known, ttl) for asked in spine]
    assert joined.drop("value", "value_time").rows(named=True) == spine
    assert joined["value"].to_list() == [row["value"] if row else None for row in found]
    assert joined["value_time"].to_list() == [row["time"] if row else None for row in found]


def test_a_late_row_does_not_hide_a_newer_one_that_was_known_before_it() -> None:
    rows = [
        {"customer": 1, "shop": "a", "time": _day(5), "known": _day(5), "value": 55},
        {"customer": 1, "shop": "a", "time": _day(2), "known": _day(7), "value": 27},
    ]
    joined = join_point_in_time(
        _frame([{"customer": 1, "shop": "a", "asked_at": _day(8)}], asked_at=_TIME),
        _frame(rows, time=_TIME, known=_TIME, value=pl.Int64),
        by=["customer"],
        time="asked_at",
        feature_time="time",
        columns=["value"],
        known="known",
    )
    assert joined["value"].to_list() == [55]


def test_a_row_counts_up_to_its_ttl_and_not_a_microsecond_longer() -> None:
    at = _START + timedelta(days=2)
    spine = [{"customer": 1, "shop": "a", "asked_at": at + timedelta(microseconds=late)} for late in (0, 1)]
    joined = join_point_in_time(
        _frame(spine, asked_at=_TIME),
        _frame([{"customer": 1, "shop": "a", "time": _START, "value": 7}], time=_TIME, value=pl.Int64),
        by=["customer"],
        time="asked_at",
        feature_time="time",
        columns=["value"],
        ttl=timedelta(days=2),
    )
    assert joined["value"].to_list() == [7, None]


@settings(deadline=None, max_examples=200)
@given(spine=_spines, rows=_features, as_of=st.integers(0, 9).map(_day))
def test_nothing_known_after_an_instant_is_used(spine: list[Row], rows: list[Row], as_of: datetime) -> None:
    frame = _frame(rows, time=_TIME, known=_TIME, value=pl.Int64)
    timelines = Timelines(frame, by=["customer"], time="time", known="known")
    found = timelines.find(_frame(spine, asked_at=_TIME), time="asked_at", as_of=as_of)
    then = [row for row in rows if all(row[name] is not None and row[name] <= as_of for name in ("time", "known"))]
    expected = [_newest(asked, then, ["customer"], True, None) for asked in spine]
    assert [None if number is None else rows[number] for number in found] == expected


@pytest.mark.parametrize("key", [pl.Int64, pl.UInt64, pl.Int8, pl.String])
@pytest.mark.parametrize("delays", [[1], [400], [0, 0, 0, 0, 0, 0, 0, 90], [0, 400]])
def test_however_late_rows_are_the_newest_known_is_found(
    key: Any, delays: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(point_in_time, "_PART", 37)
    rng = np.random.default_rng(0)
    at = rng.integers(0, 200, 400)
    known = at + rng.choice(delays, 400)
    who = rng.integers(0, 5, 400)
    rows = pl.DataFrame(
        {"who": who, "at": [_day(day) for day in at.tolist()], "known": [_day(day) for day in known.tolist()]}
    )
    rows = rows.with_columns(value=pl.int_range(400)).cast({"at": _TIME, "known": _TIME, "who": key})
    days = rng.integers(0, 700, 2_000)
    asked = rng.integers(0, 7, 2_000)
    spine = pl.DataFrame({"who": asked, "day": [_day(day) for day in days.tolist()]}).cast({"day": _TIME, "who": key})
    joined = join_point_in_time(
        spine, rows, by=["who"], time="day", feature_time="at", known="known", columns=["value"]
    )
    for number in range(2_000):
        there = (who == asked[number]) & (at <= days[number]) & (known <= days[number])
        best = max(np.flatnonzero(there), key=lambda row: (at[row], known[row], row), default=None)
        assert joined.item(number, "value") == best


@settings(deadline=None, max_examples=100)
@given(rows=_features)
def test_the_rows_that_are_ever_the_newest_rise_in_both_times(rows: list[Row]) -> None:
    frame = _frame(rows, time=_TIME, known=_TIME, value=pl.Int64)
    newest = Timelines(frame, by=["customer"], time="time", known="known").newest_in_turn()
    assert newest[USABLE].is_sorted()
    for group in newest.partition_by("customer"):
        assert group["time"].is_sorted()
