"""Columns and their types, in words that people, requests and frames share."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from flyball.core.errors import UnknownNameError
from flyball.domain.data.schemas import Field, Schema, SchemaMismatchError, UnsupportedColumnError

FRAME = pl.DataFrame(
    {
        "i": pl.Series([1], dtype=pl.UInt8),
        "f": pl.Series([1.5], dtype=pl.Float32),
        "s": pl.Series(["a"], dtype=pl.Categorical),
        "b": [True],
        "t": [datetime(2026, 1, 1, tzinfo=UTC)],
        "d": [date(2026, 1, 1)],
    }
)


def test_a_frame_has_a_schema_in_six_words() -> None:
    schema = Schema.of(FRAME, nullable={"i": False})
    assert [(field.name, field.dtype, field.nullable) for field in schema.fields] == [
        ("i", "int", False),
        ("f", "float", True),
        ("s", "string", True),
        ("b", "bool", True),
        ("t", "datetime", True),
        ("d", "date", True),
    ]


def test_a_column_without_a_word_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedColumnError, match="column 'x' has the type List"):
        Schema.of(pl.DataFrame({"x": [[1]]}))


def test_a_frame_is_fitted_in_order_and_type() -> None:
    schema = Schema.of(FRAME).only(["t", "f", "i"])
    fitted = schema.fit(FRAME.with_columns(pl.col("t").dt.replace_time_zone(None).dt.cast_time_unit("ms")))
    assert fitted.schema == schema.to_polars()
    assert fitted.row(0) == (datetime(2026, 1, 1, tzinfo=UTC), 1.5, 1)


def test_what_does_not_fit_is_told_together() -> None:
    with pytest.raises(SchemaMismatchError) as caught:
        Schema.of(FRAME).fit(pl.DataFrame({"i": ["x"], "f": [2], "s": [3], "b": [True], "d": [date(2026, 1, 1)]}))
    assert caught.value.problems == [
        "column 'i' is String and cannot be read as int",
        "column 's' is Int64 and cannot be read as string",
        "column 't' is missing",
    ]


def test_changes_are_told_in_words() -> None:
    before = Schema((Field(name="a", dtype="int"), Field(name="b", dtype="int")))
    after = Schema((Field(name="c", dtype="int"), Field(name="b", dtype="float", nullable=False)))
    assert before.changes_to(after) == [
        "column 'c' was added",
        "column 'a' was removed",
        "column 'b' changed from int to float",
    ]
    assert before.changes_to(Schema(before.fields[::-1])) == []


def test_an_unknown_column_has_a_close_name() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'income'"):
        Schema((Field(name="income", dtype="int"),)).get("incme")


def test_wrong_values_of_a_request_are_told_by_column() -> None:
    schema = Schema((Field(name="a", dtype="int"), Field(name="t", dtype="datetime"), Field(name="d", dtype="date")))
    with pytest.raises(SchemaMismatchError, match="'a' holds a value that is not an int; column 't'"):
        schema.frame([{"a": "x", "t": 3, "d": "2026-01-01"}])
    frame = schema.frame([{"a": 1, "t": "2026-01-01T02:00:00+02:00", "d": date(2026, 1, 1)}, {}])
    assert frame.row(0) == (1, datetime(2026, 1, 1, tzinfo=UTC), date(2026, 1, 1))
    assert frame.row(1) == (None, None, None)
    assert timedelta() == frame["t"][0] - datetime(2026, 1, 1, tzinfo=UTC)
