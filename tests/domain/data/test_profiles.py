"""Profiles fix the cells, counts add up over them."""

import math
import sys
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyball.core.encoding import from_json, to_json
from flyball.core.errors import UnknownNameError
from flyball.domain.data.profiles import Counts, Profile

_numbers = st.none() | st.floats() | st.sampled_from([0.0, 1.0, math.nan, math.inf, -math.inf])
_rows = st.lists(
    st.tuples(
        _numbers,
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.integers(0, 3),
        st.none() | st.text(max_size=3),
        st.none() | st.booleans(),
    ),
    max_size=40,
)
_SCHEMA = {"float": pl.Float64, "int": pl.Int64, "few": pl.Int64, "text": pl.String, "bool": pl.Boolean}


def _frame(rows: list[tuple[object, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


@settings(deadline=None, max_examples=150)
@given(_rows, _rows, st.integers(0, 40))
def test_the_counts_of_parts_add_up_to_the_counts_of_the_whole(
    training: list[tuple[object, ...]], live: list[tuple[object, ...]], at: int
) -> None:
    profile = Profile.of(_frame(training))
    whole, parts = profile.count(_frame(live)), profile.count(_frame(live[:at])) + profile.count(_frame(live[at:]))
    assert whole.rows == parts.rows == len(live)
    for name, counts in whole.columns.items():
        other = parts.columns[name]
        exact = ("cells", "nulls", "outside", "finite", "low", "high", "n")
        assert [getattr(counts, field) for field in exact] == [getattr(other, field) for field in exact]
        assert counts.n == len(live)
        if counts.squares < 1e300:
            # Sums of floats depend on their order by a few units in the last place of the largest.
            assert abs(counts.total - other.total) <= 1e-12 * math.sqrt(counts.squares) * len(live)


@settings(deadline=None, max_examples=100)
@given(_rows)
def test_a_profile_counts_its_own_rows_in_its_own_cells_and_survives_json(rows: list[tuple[object, ...]]) -> None:
    frame = _frame(rows)
    profile = Profile.of(frame)
    counts = profile.count(frame)
    for name, column in profile.columns.items():
        assert column.cells == counts.columns[name].cells
        assert column.nulls == counts.columns[name].nulls
        assert column.n == len(rows)
        assert len(column.edges) <= 9
        assert len(column.categories) <= 20
    assert from_json(to_json(profile), Profile) == profile
    assert from_json(to_json(counts), Counts) == counts


def test_numbers_fall_into_ten_cells_of_equal_shares() -> None:
    column = Profile.of(pl.DataFrame({"x": range(1000)})).columns["x"]
    assert column.cells == (100,) * 10
    assert (column.mean, column.min, column.max) == (499.5, 0, 999)
    assert column.std == pytest.approx(288.675, abs=0.001)


def test_a_constant_may_be_the_least_number_there_is() -> None:
    profile = Profile.of(pl.DataFrame({"x": [-sys.float_info.max] * 3}))
    assert profile.columns["x"].cells == (3, 0)
    assert from_json(to_json(profile), Profile) == profile


def test_few_values_have_a_cell_each() -> None:
    profile = Profile.of(pl.DataFrame({"x": [0, 0, 1, 5]}))
    assert profile.columns["x"].cells == (2, 1, 1)
    assert profile.count(pl.DataFrame({"x": [5, 5, 0]})).columns["x"].cells == (1, 0, 2)


def test_leaving_a_constant_is_seen() -> None:
    profile = Profile.of(pl.DataFrame({"x": [7.0] * 5}))
    counts = profile.count(pl.DataFrame({"x": [6.9, 7.0, 7.1, 7.1]})).columns["x"]
    assert profile.columns["x"].cells == (0, 5, 0)
    assert counts.cells == (1, 1, 2)
    assert counts.outside == 3


def test_a_column_of_one_value_and_a_rare_few_separates_the_rare() -> None:
    column = Profile.of(pl.DataFrame({"x": [*range(20), *[100] * 980]})).columns["x"]
    assert column.cells[-1] == 980


def test_nan_is_missing_and_infinity_is_outside() -> None:
    profile = Profile.of(pl.DataFrame({"x": [1.0, 2.0, 3.0, math.nan, None]}))
    assert profile.columns["x"].nulls == 2
    assert profile.columns["x"].mean == 2.0
    counts = profile.count(pl.DataFrame({"x": [math.inf, -math.inf, math.nan, 2.0]})).columns["x"]
    assert (counts.cells, counts.nulls, counts.outside, counts.mean) == ((1, 1, 1), 1, 2, 2.0)


def test_unseen_categories_go_to_the_rest() -> None:
    profile = Profile.of(pl.DataFrame({"x": ["a", "a", "b", None]}))
    assert profile.columns["x"].categories == ("a", "b")
    counts = profile.count(pl.DataFrame({"x": ["a", "zebra", None, "b"]})).columns["x"]
    assert (counts.cells, counts.nulls, counts.outside) == ((1, 1, 1), 1, 1)


def test_more_than_twenty_categories_share_the_last_cell() -> None:
    profile = Profile.of(pl.DataFrame({"x": [str(number) for number in range(30)]}))
    assert profile.columns["x"].cells == (*[1] * 20, 10)
    assert profile.count(pl.DataFrame({"x": ["new"]})).columns["x"].outside == 0


def test_a_column_of_nothing_but_nulls() -> None:
    frame = pl.DataFrame({"number": [None, None], "text": [None, None]}, schema={"number": pl.Float64, "text": pl.Null})
    profile = Profile.of(frame)
    assert [column.nulls for column in profile.columns.values()] == [2, 2]
    counts = profile.count(pl.DataFrame({"number": [1.5], "text": ["a"]}))
    assert [column.cells for column in counts.columns.values()] == [(1,), (1,)]


def test_bools_are_categories() -> None:
    profile = Profile.of(pl.DataFrame({"x": [True, True, False]}))
    assert profile.columns["x"].categories == ("true", "false")


def test_a_missing_or_wrong_typed_live_column_is_missing_values() -> None:
    profile = Profile.of(pl.DataFrame({"x": [1.0, 2.0], "y": [1.0, 2.0], "z": ["a", "b"]}))
    counts = profile.count(pl.DataFrame({"y": ["2", "two"], "z": [1, 2]}))
    assert counts.columns["x"].nulls == 2
    assert (counts.columns["y"].cells, counts.columns["y"].nulls) == ((0, 1), 1)
    assert counts.columns["z"].cells == (0, 0, 2)


def test_of_instants_only_the_missing_are_counted() -> None:
    profile = Profile.of(pl.DataFrame({"at": [datetime(2026, 1, 1, tzinfo=UTC), None]}))
    assert (profile.columns["at"].cells, profile.columns["at"].nulls) == ((1,), 1)
    assert profile.count(pl.DataFrame({"at": ["2027-01-01"]})).columns["at"].cells == (1,)


def test_counting_no_rows() -> None:
    profile = Profile.of(pl.DataFrame({"x": [1.0, 2.0], "y": ["a", "b"]}))
    assert profile.count(pl.DataFrame()).columns["x"].cells == (0, 0)


def test_an_unknown_column_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'income'"):
        Profile.of(pl.DataFrame({"income": [1]}), ["incom"])


@pytest.mark.parametrize("name", ["count", "value", "proportion"])
def test_a_column_may_be_called_as_what_counts_it(name: str) -> None:
    frame = pl.DataFrame({name: ["a", "b", "a"]})
    assert Profile.of(frame).count(frame).columns[name].n == 3
