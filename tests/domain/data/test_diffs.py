"""What changed between two sets of rows, and what is proposed from one."""

from datetime import datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flyball.domain.data.diffs import diff_frames
from flyball.domain.data.inferring import propose_expectations
from flyball.domain.data.table_checks import compile_table

ROWS = st.dictionaries(
    st.integers(0, 8), st.tuples(st.none() | st.integers(0, 2), st.sampled_from(["a", "b"])), max_size=8
)


def frame_of(rows: dict[int, tuple[int | None, str]]) -> pl.LazyFrame:
    values = [(key, *value) for key, value in rows.items()]
    return pl.DataFrame(values, schema={"id": pl.Int64, "x": pl.Int64, "s": pl.String}, orient="row").lazy()


@settings(deadline=None, max_examples=80)
@given(ROWS, ROWS)
def test_rows_that_came_went_and_changed_are_those_of_a_plain_comparison(
    before: dict[int, tuple[int | None, str]], after: dict[int, tuple[int | None, str]]
) -> None:
    diff = diff_frames(frame_of(before), frame_of(after), table="t", names=("one", "two"), key=["id"])
    changed = [key for key in before.keys() & after.keys() if before[key] != after[key]]
    assert (diff.changes.added, diff.changes.removed) == (
        len(after.keys() - before.keys()),
        len(before.keys() - after.keys()),
    )
    assert diff.changes.changed == len(changed)
    assert diff.changes.columns.get("x", 0) == sum(before[key][0] != after[key][0] for key in changed)
    whole = diff_frames(frame_of(before), frame_of(after), table="t", names=("one", "two"))
    assert whole.changes.added == len(after.items() - before.items())
    assert whole.changes.removed == len(before.items() - after.items())


def test_columns_that_came_and_distributions_that_moved() -> None:
    before = pl.DataFrame({"x": [1, 2, 3, 4], "y": ["a", "a", "b", None], "gone": [1, 1, 1, 1]}).lazy()
    after = pl.DataFrame({"x": [1, 2, 3, 4], "y": ["c", "c", "b", "b"], "new": [1.0] * 4}).lazy()
    diff = diff_frames(before, after, table="t", names=("one", "two"))
    assert diff.schema == ["column 'new' was added", "column 'gone' was removed"]
    assert [(change.column, change.moved) for change in diff.columns] == [("y", 0.75), ("x", 0.0)]
    assert diff.columns[0].nulls == (0.25, 0.0)


NARROW = {
    "whole": (pl.Int32, pl.Int64),
    "sign": (pl.Int8, pl.UInt64),
    "measured": (pl.Float32, pl.Float64),
    "text": (pl.Categorical, pl.String),
    "exact": (pl.Decimal(10, 2), pl.Float64),
}


@pytest.mark.parametrize("key", ["whole", "text", ""])
def test_the_same_values_in_a_wider_type_are_no_change(key: str) -> None:
    values = {"whole": [1, 2, None], "sign": [0, 1, 2], "measured": [0.5, None, 2.0], "text": ["a", "b", "c"]}
    values["exact"] = [1.25, 2.5, None]
    before, after = (
        pl.DataFrame({name: pl.Series(values[name]).cast(types[side]) for name, types in NARROW.items()}).with_columns(
            at=pl.Series([datetime(2026, 1, 1)] * 3, dtype=pl.Datetime(unit)).dt.replace_time_zone(zone)
        )
        for side, (unit, zone) in enumerate([("ns", None), ("us", "UTC")])
    )
    diff = diff_frames(before.lazy(), after.lazy(), table="t", names=("one", "two"), key=[key] if key else [])
    assert (diff.changes.added, diff.changes.removed, diff.changes.changed) == (0, 0, 0)
    assert diff.schema == []


_NAMES = ["mark", "rows", "mark_right", "id_right", "x after", "value", "count", "number", "len", "literal", "index"]


@pytest.mark.parametrize("key", [["id"], ["rows"], ["mark", "count"], []])
def test_columns_may_have_any_name(key: list[str]) -> None:
    before = pl.DataFrame({"id": [1, 2, 3], "x": [1, 2, 3]} | {name: [1, 2, 3] for name in _NAMES})
    after = before.with_columns(x=pl.Series([1, 2, 9]))
    diff = diff_frames(before.lazy(), after.lazy(), table="t", names=("one", "two"), key=key)
    changes = diff.changes
    assert (changes.added, changes.removed, changes.changed) == ((0, 0, 1) if key else (1, 1, 0))
    assert changes.columns == ({"x": 1} if key else {})
    assert propose_expectations(before.with_columns(count=pl.lit("a")), table="t").rules


def test_where_no_column_stayed_all_rows_went_and_came() -> None:
    before, after = pl.DataFrame({"x": [1, 2]}).lazy(), pl.DataFrame({"y": [1, 2, 3]}).lazy()
    diff = diff_frames(before, after, table="t", names=("one", "two"), key=["x"])
    assert (diff.changes.added, diff.changes.removed) == (3, 2)


COLUMNS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (pl.Int64, st.integers(-(2**53), 2**53) | st.integers(0, 5)),
    (pl.Float64, st.floats() | st.floats(-5, 5)),
    (
        pl.String,
        st.text(max_size=5)
        | st.from_regex(r"[A-Z]{2}-[0-9]{3}", fullmatch=True)
        | st.sampled_from(['a"b', "it's", "\\"]),
    ),
    (pl.Boolean, st.booleans()),
    (pl.Date, st.dates()),
]


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(COLUMNS).flatmap(
        lambda kind: st.tuples(st.just(kind[0]), st.lists(st.none() | kind[1], min_size=1, max_size=60))
    ),
    st.booleans(),
)
@example((pl.Float64, [5e-324, 5e-322]), False)
@example((pl.Float64, [-1.7e308, 1.7e308]), False)
@example((pl.UInt64, [2**63]), False)
@example((pl.Int64, [-(2**63), 2**63 - 1]), False)
@example((pl.String, ["x" * 100_000] * 40), False)
def test_what_is_proposed_holds_and_its_code_says_the_same(drawn: tuple[Any, list[Any]], is_key: bool) -> None:
    import flyball as fb

    frame = pl.DataFrame({'the "column"': pl.Series(drawn[1], dtype=drawn[0])})
    proposal = propose_expectations(frame, table="table", keys=frame.columns if is_key else ())
    assert len(proposal.code) < 5_000
    report = compile_table(proposal.rules)(frame.lazy())
    assert [result.message for result in report.violations] == []
    table = fb.Table("t.csv", name="table")
    exec(proposal.code, {"fb": fb, "table": table})
    assert table.expectations == proposal.rules


def test_what_is_proposed_of_usual_columns() -> None:
    frame = pl.DataFrame(
        {
            "id": range(200),
            "sku": [f"AB-{number:04d}" for number in range(200)],
            "size": ["s", "m", "l", "xl"] * 50,
            "term": [12, 24, 36, 60] * 50,
            "price": [number * 0.37 + 4 for number in range(200)],
            "note": ["the parcel was late and it was not what I wanted", None] * 100,
        }
    )
    assert (
        propose_expectations(frame, table="orders", keys=["id"]).code
        == """\
orders.expect(
    fb.rows_at_least(100),
    fb.column("id").not_null().unique(),
    fb.column("sku").not_null().matches(r"[A-Z]{2}\\-\\d{4}"),
    fb.column("size").not_null().is_in(["l", "m", "s", "xl"]),
    fb.column("term").not_null().is_in([12, 24, 36, 60]),
    fb.column("price").not_null().between(0, 97),
    fb.column("note").nulls_at_most(0.75).is_in(["the parcel was late and it was not what I wanted"]),
)
"""
    )
