"""Counting parts at once gives what counting each part gives."""

import itertools
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import add

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyball.domain.data.profiles import Counts, Profile
from flyball.domain.monitoring.counting import count_parts, sum_counts

_START = datetime(2026, 3, 1, tzinfo=UTC)
_numbers = st.none() | st.floats(-1e300, 1e300) | st.sampled_from([0.0, 1.0, 2.0, float("nan"), float("inf")])
_texts = st.none() | st.text(max_size=2) | st.sampled_from(["car", "home"])
_rows = st.lists(st.tuples(_numbers, _texts, st.none() | st.booleans(), st.none() | st.integers(0, 9)), min_size=1)


def _frame(rows: list[tuple]) -> pl.DataFrame:
    number, text, flag, day = (list(column) for column in zip(*rows, strict=True))
    return pl.DataFrame(
        {
            "number": pl.Series(number, dtype=pl.Float64),
            "text": pl.Series(text, dtype=pl.String),
            "flag": pl.Series(flag, dtype=pl.Boolean),
            "at": pl.Series([None if n is None else _START + timedelta(days=n) for n in day], dtype=pl.Datetime("us")),
        }
    )


def _near(one: Counts, other: Counts) -> bool:
    assert one.rows == other.rows
    assert one.columns.keys() == other.columns.keys()
    for name, left in one.columns.items():
        right = other.columns[name]
        for field in left.__struct_fields__:
            mine, theirs = getattr(left, field), getattr(right, field)
            expected = pytest.approx(theirs, rel=1e-9) if field in ("total", "squares") and theirs else theirs
            assert mine == expected, (name, field)
    return True


@settings(deadline=None)
@given(_rows, _rows, st.data())
def test_parts_are_counted_as_one_by_one(trained: list[tuple], served: list[tuple], data: st.DataObject) -> None:
    profile = Profile.of(_frame(trained))
    frame = _frame(served)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(served) - 1)))) if len(served) > 1 else []
    edges = [0, *cuts, len(served)]
    lengths = [end - start for start, end in itertools.pairwise(edges)]
    parts = count_parts(profile, frame, lengths)
    assert len(parts) == len(lengths)
    for start, length, counts in zip(edges, lengths, parts, strict=False):
        assert _near(counts, profile.count(frame.slice(start, length)))
    total = sum_counts(parts)
    assert total is not None
    assert _near(total, reduce(add, parts))
    assert _near(total, profile.count(frame))


def test_no_parts_have_no_counts() -> None:
    assert sum_counts([]) is None
