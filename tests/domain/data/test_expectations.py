"""Expectations: how they are declared, and that a table and a live request are judged alike, in the same words."""

import math
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyball.core.errors import InvalidInputError
from flyball.domain.data.broken_rows import to_rust
from flyball.domain.data.expectations import ColumnRules, column, flatten, rows_at_least, rows_at_most
from flyball.domain.data.reports import ExpectationsFailedError, Report
from flyball.domain.data.row_checks import compile_row
from flyball.domain.data.rules import Rule, decode_rules, encode_rules, rule_name
from flyball.domain.data.table_checks import compile_table, rows_to_keep
from flyball.domain.data.tables import Table


def rules_of(*expectations: Rule | ColumnRules) -> tuple[Rule, ...]:
    return flatten(expectations, of="test")


def report_of(values: Any, *expectations: Rule | ColumnRules, dtype: Any = None) -> Report:
    frame = pl.DataFrame({"x": pl.Series(values, dtype=dtype)})
    return compile_table(rules_of(*expectations))(frame.lazy())


INTS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, -1, 2**53, 2**53 + 1])
FLOATS = st.floats() | st.sampled_from([0.0, 1.0, 2.0**53, math.nan, math.inf])
TEXTS = st.text(max_size=4) | st.sampled_from(
    ["a", "ab", "a1", "A-1", "2026-01-01", "2026-01-01T10:00:00Z", "ß", "a\n"]
)
INSTANTS = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
LIMITS = INTS | st.floats(allow_nan=False, allow_infinity=False)
PATTERNS = st.sampled_from(
    [
        r"[a-z]+",
        r"a.?",
        r"\d{2}-\w*",
        r"(?:a|b)*",
        r"[^a]*",
        r"\S+",
        r"a$",
        r".*",
        r"[A-Z]-\d",
        r"(a)\1",
        r"a*?1?",
        r"\w\s*",
    ]
)

COLUMNS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (pl.Int64, INTS),
    (pl.Int8, st.integers(-128, 127)),
    (pl.UInt64, st.integers(0, 2**64 - 1)),
    (pl.Float64, FLOATS),
    (pl.Float32, st.floats(width=32)),
    (pl.String, TEXTS),
    (pl.Boolean, st.booleans()),
    (pl.Datetime("us", "UTC"), INSTANTS),
    (pl.Date, st.dates(date(1900, 1, 1), date(2200, 1, 1))),
]


@st.composite
def row_rules(draw: st.DrawFn) -> Rule:
    chain = column("x")
    match draw(st.integers(0, 8)):
        case 0:
            chain = chain.not_null()
        case 1:
            chain = chain.between(*sorted([draw(LIMITS), draw(LIMITS)]))
        case 2:
            chain = chain.at_least(draw(LIMITS))
        case 3:
            chain = chain.at_most(draw(LIMITS))
        case 4:
            listed = TEXTS | INTS | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
            chain = chain.is_in(draw(st.lists(listed, min_size=1, max_size=5)))
        case 5:
            chain = chain.matches(draw(PATTERNS))
        case 6:
            chain = chain.of_type(draw(st.sampled_from(["int", "float", "string", "bool", "datetime", "date"])))
        case 7:
            chain = chain.between(*sorted([draw(INSTANTS), draw(INSTANTS)]))
        case 8:
            chain = chain.at_least(draw(INSTANTS))
    return chain.rules[0]


@st.composite
def columns(draw: st.DrawFn) -> pl.Series:
    dtype, values = draw(st.sampled_from(COLUMNS))
    return pl.Series("x", draw(st.lists(st.none() | values, max_size=8)), dtype=dtype, strict=False)


@settings(deadline=None, max_examples=400)
@given(columns(), row_rules())
def test_a_table_and_its_rows_are_judged_alike(values: pl.Series, rule: Rule) -> None:
    result = compile_table([rule])(values.to_frame().lazy()).results[0]
    check = compile_row([rule])
    violations = [found for row in values.to_frame().iter_rows(named=True) for found in check(row)]
    assert result.violations == len(violations)
    if violations:
        counted = f"{violations[0].message} ({len(violations):,} of {len(values):,} rows)"
        assert result.message == counted


@settings(deadline=None, max_examples=150)
@given(columns(), row_rules())
def test_the_rows_kept_are_those_that_break_no_quarantine_rule(values: pl.Series, rule: Rule) -> None:
    quarantine = decode_rules(encode_rules([rule]).replace(b'"severity":"fail"', b'"severity":"quarantine"'))
    frame = values.to_frame()
    report = compile_table(quarantine)(frame.lazy())
    kept = frame.filter(rows_to_keep(quarantine, frame.schema))
    check = compile_row(quarantine)
    assert kept.rows() == [row for row in frame.rows() if not check({"x": row[0]})] or _has_nan(frame)
    assert report.quarantined == frame.height - kept.height


def _has_nan(frame: pl.DataFrame) -> bool:
    return any(isinstance(value, float) and math.isnan(value) for value in frame["x"])


@settings(deadline=None, max_examples=100)
@given(st.lists(row_rules(), max_size=5))
def test_rules_survive_json(rules: list[Rule]) -> None:
    assert decode_rules(encode_rules(rules)) == rules


def test_a_violation_names_the_count_and_the_first_value() -> None:
    frame = pl.DataFrame({"bedrooms": [3, 33, -8, 2, -1]})
    report = compile_table(rules_of(column("bedrooms").at_least(0).at_most(20)))(frame.lazy())
    assert [result.message for result in report.results] == [
        "bedrooms must be at least 0, but -8 was given (2 of 5 rows)",
        "bedrooms must be at most 20, but 33 was given (1 of 5 rows)",
    ]
    assert [result.value for result in report.results] == [-8, 33]


@pytest.mark.parametrize(
    ("rules", "value", "words"),
    [
        (column("x").not_null(), None, "x must not be null, but null was given"),
        (column("x").between(0, 1e7), -8.0, "x must be between 0 and 10000000, but -8 was given"),
        (column("x").between(0, 0.5), math.nan, "x must be between 0 and 0.5, but NaN was given"),
        (column("x").between(0, 20), "many", "x must be between 0 and 20, but 'many' was given"),
        (column("x").at_least(1), True, "x must be at least 1, but true was given"),
        (column("x").is_in([12, 24]), 13, "x must be one of 12, 24, but 13 was given"),
        (column("x").is_in(["a"]), "b", "x must be one of 'a', but 'b' was given"),
        (column("x").matches("[a-z]+"), "A", "x must match [a-z]+, but 'A' was given"),
        (column("x").of_type("int"), 1.5, "x must be an int, but 1.5 was given"),
        (
            column("x").at_least("2026-01-01"),
            datetime(2025, 1, 1, tzinfo=UTC),
            "x must be at least 2026-01-01T00:00:00Z, but 2025-01-01T00:00:00Z was given",
        ),
    ],
)
def test_a_request_is_told_the_same_words(rules: ColumnRules, value: Any, words: str) -> None:
    assert [violation.message for violation in compile_row(rules_of(rules))({"x": value})] == [words]
    result = report_of([value], rules).results[0]
    assert result.message == f"{words} (1 of 1 rows)"


def test_an_instant_of_a_request_may_be_text() -> None:
    check = compile_row(rules_of(column("x").between("2026-01-01", "2026-12-31").of_type("datetime")))
    assert check({"x": "2026-03-01 14:05"}) == []
    assert [violation.rule for violation in check({"x": "yesterday"})] == ["between", "of_type"]


def test_rules_about_the_table_alone() -> None:
    report = report_of([1, 1, 2, None, None], column("x").unique(), rows_at_least(6), rows_at_most(4))
    assert [result.message for result in report.results] == [
        "x must be unique, but 1 was given more than once (1 of 5 rows)",
        "the table must have at least 6 rows, but has 5",
        "the table must have at most 4 rows, but has 5",
    ]
    assert compile_row(report.rules)({"x": 1}) == []
    assert report_of([1, 2], column("x").unique(), rows_at_least(2), rows_at_most(2)).passed


def test_only_fail_stops_and_quarantine_counts_rows_once() -> None:
    chains = (column("x").at_least(0).is_in([1, 2]).or_quarantine(), column("x").at_most(5).or_warn())
    report = report_of([1, -1, 9, 2, None], *chains)
    assert report.passed
    assert report.quarantined == 2
    assert [result.severity for result in report.violations] == ["quarantine", "quarantine", "warn"]
    report.require_passed()


def test_a_failed_report_stops_with_all_its_reasons() -> None:
    report = report_of([-1, None], column("x").at_least(0).not_null(), column("y").not_null())
    with pytest.raises(ExpectationsFailedError) as caught:
        report.require_passed()
    assert "breaks 3 of 3 expectations" in caught.value.message
    assert "x must be at least 0, but -1 was given (1 of 2 rows)" in caught.value.message
    assert "y must not be null, but the table has no such column" in caught.value.message


def test_rules_about_columns_that_a_request_does_not_carry_are_left_out() -> None:
    rules = rules_of(column("label").not_null(), column("x").not_null())
    assert [violation.column for violation in compile_row(rules, ["x", "z"])({})] == ["x"]


@pytest.mark.parametrize(
    "declare",
    [
        lambda: column(""),
        lambda: column("x").between(2, 1),
        lambda: column("x").between(0, math.inf),
        lambda: column("x").between("2026-01-01", 3),
        lambda: column("x").at_least("soon"),
        lambda: column("x").at_most(True),
        lambda: column("x").is_in([]),
        lambda: column("x").is_in("abc"),
        lambda: column("x").is_in([None]),
        lambda: column("x").matches("("),
        lambda: column("x").of_type("number"),  # type: ignore[arg-type]
        lambda: rows_at_least(-1),
        lambda: Table("a.csv").expect(column("x")),
        lambda: Table("a.csv").expect("x"),  # type: ignore[arg-type]
    ],
)
def test_a_declaration_that_cannot_be_meant_is_refused(declare: Any) -> None:
    with pytest.raises(InvalidInputError):
        declare()


def test_a_table_without_rows_breaks_only_rules_about_rows() -> None:
    report = report_of([], column("x").not_null().between(0, 1), rows_at_least(1), dtype=pl.Int64)
    assert [rule_name(result.rule) for result in report.violations] == ["rows_at_least"]


def test_ascii_classes_are_written_out_for_rust() -> None:
    assert to_rust(r"\d+[\w-]\.") == r"[0-9]+[0-9A-Za-z_-]\."
