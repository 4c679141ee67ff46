"""Expectations over a whole table: one lazy pass of Polars, whatever the number of rules."""

import math
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from flyball.domain.data.reports import Report, RuleResult
from flyball.domain.data.row_checks import is_instant, is_within
from flyball.domain.data.rules import (
    AtLeast,
    AtMost,
    Between,
    IsIn,
    Limit,
    Matches,
    NotNull,
    OfType,
    RowsAtLeast,
    RowsAtMost,
    Rule,
    Unique,
    describe_violation,
    plain_value,
)
from flyball.domain.data.schemas import DType, dtype_name

TableCheck = Callable[[pl.LazyFrame], Report]
_ALL = pl.lit(True)
_NONE = pl.lit(False)


def compile_table(rules: Sequence[Rule]) -> TableCheck:
    """Make the check of a table.

    Returns:
        A function from a frame to its report, one result for each rule in declared order. Every rule about a column
        that the frame lacks is broken in all rows.
    """
    checked = tuple(rules)

    def check(frame: pl.LazyFrame) -> Report:
        schema = frame.collect_schema()
        broken = {
            number: expression
            for number, rule in enumerate(checked)
            if (expression := broken_rows(rule, schema)) is not None
        }
        quarantining = [broken[number] for number in broken if checked[number].severity == "quarantine"]
        counts = frame.select(
            pl.len().alias("rows"),
            *(expression.sum().alias(str(number)) for number, expression in broken.items()),
            *([pl.any_horizontal(quarantining).sum().alias("quarantined")] if quarantining else []),
        ).collect()
        found = counts.row(0, named=True)
        # Values are only looked for where there is something to find: tables that pass are read once.
        values = _first_values(frame, {n: (checked[n], test) for n, test in broken.items() if found[str(n)]})
        results = [
            _result(rule, found["rows"], found.get(str(number)), values.get(number), rule.column in schema)
            for number, rule in enumerate(checked)
        ]
        return Report(rows=found["rows"], results=tuple(results), quarantined=found.get("quarantined") or 0)

    return check


def _first_values(frame: pl.LazyFrame, broken: dict[int, tuple[Rule, pl.Expr]]) -> dict[int, Any]:
    if not broken:
        return {}
    firsts = [pl.col(rule.column).filter(test).first().alias(str(number)) for number, (rule, test) in broken.items()]
    found = frame.select(firsts).collect().row(0, named=True)
    return {number: found[str(number)] for number in broken}


def rows_to_keep(rules: Sequence[Rule], schema: pl.Schema) -> pl.Expr:
    """Return the filter that leaves out rows which break a rule of severity ``quarantine``."""
    broken = [
        expression
        for rule in rules
        if rule.severity == "quarantine"
        and rule.column in schema
        and (expression := broken_rows(rule, schema)) is not None
    ]
    return ~pl.any_horizontal(broken).fill_null(False) if broken else _ALL


def broken_rows(rule: Rule, schema: pl.Schema) -> pl.Expr | None:
    """Return what is true where a row breaks the rule, false or null elsewhere; None for rules about the table."""
    if isinstance(rule, RowsAtLeast | RowsAtMost) or rule.column not in schema:
        return None
    column, dtype = pl.col(rule.column), schema[rule.column]
    kept: pl.Expr
    match rule:
        case NotNull():
            return column.is_null()
        case Unique():
            return column.is_not_null() & ~column.is_first_distinct()
        case Between(low=low, high=high):
            kept = _bounded(column, dtype, low, high)
        case AtLeast(limit=limit):
            kept = _bounded(column, dtype, limit, None)
        case AtMost(limit=limit):
            kept = _bounded(column, dtype, None, limit)
        case IsIn(values=values):
            kept = _listed(column, dtype, values)
        case Matches(pattern=pattern):
            kept = _matching(column, dtype, pattern)
        case OfType(dtype=wanted):
            kept = _typed(rule.column, column, dtype, wanted)
    return column.is_not_null() if kept is _NONE else ~kept


def _bounded(column: pl.Expr, dtype: pl.DataType, low: Limit | None, high: Limit | None) -> pl.Expr:
    if isinstance(low, datetime) or isinstance(high, datetime):
        return _bounded_in_time(column, dtype, low, high)
    if dtype.is_integer():
        return _bounded_integers(column, dtype, low, high)
    if not (dtype.is_float() or dtype.is_decimal()):
        return _NONE
    numbers = column if dtype == pl.Float64 else column.cast(pl.Float64)
    if high is None:
        # Polars orders NaN above every number; here it is outside every range.
        return numbers.is_not_nan() & (numbers >= _as_float(low, math.ceil))
    kept = numbers <= _as_float(high, math.floor)
    return kept if low is None else kept & (numbers >= _as_float(low, math.ceil))


def _as_float(limit: Any, towards: Callable[[float], int]) -> float:
    """Return the limit as a float such that comparing floats with it gives what comparing exactly would."""
    value = float(limit)
    if towards is math.ceil and value < limit:
        return math.nextafter(value, math.inf)
    if towards is math.floor and value > limit:
        return math.nextafter(value, -math.inf)
    return value


def _bounded_integers(column: pl.Expr, dtype: pl.DataType, low: Any, high: Any) -> pl.Expr:
    # Limits are rounded to integers of the column's range: comparing as floats would be wrong above 2^53.
    least, greatest = _integer_range(dtype)
    lower = least if low is None else math.ceil(low)
    upper = greatest if high is None else math.floor(high)
    if lower > greatest or upper < least:
        return _NONE
    kept = _ALL
    if lower > least:
        kept = column >= pl.lit(lower, dtype=dtype)
    if upper < greatest:
        above = column <= pl.lit(upper, dtype=dtype)
        kept = above if kept is _ALL else kept & above
    return kept


def _integer_range(dtype: pl.DataType) -> tuple[int, int]:
    bits = int(str(dtype).removeprefix("U").removeprefix("Int"))
    if dtype.is_unsigned_integer():
        return 0, 2**bits - 1
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def _bounded_in_time(column: pl.Expr, dtype: pl.DataType, low: Any, high: Any) -> pl.Expr:
    if dtype == pl.String:
        return _by_value(column, is_within(low, high))
    if not isinstance(dtype, pl.Datetime | pl.Date):
        return _NONE
    instants = column.cast(pl.Datetime("us")) if dtype == pl.Date else column
    if getattr(dtype, "time_zone", None) is None:
        instants = instants.dt.replace_time_zone("UTC")
    kept = _ALL
    if low is not None:
        kept = instants >= pl.lit(low)
    if high is not None:
        kept = kept & (instants <= pl.lit(high))
    return kept


def _listed(column: pl.Expr, dtype: pl.DataType, values: Sequence[Any]) -> pl.Expr:
    if dtype == pl.Boolean:
        wanted: list[Any] = [value for value in values if isinstance(value, bool)]
    elif dtype.is_integer():
        least, greatest = _integer_range(dtype)
        numbers = [value for value in values if _is_number(value) and value == int(value)]
        wanted = [int(value) for value in numbers if least <= value <= greatest]
    elif dtype.is_float() or dtype.is_decimal():
        wanted = [float(value) for value in values if _is_number(value) and float(value) == value]
        column, dtype = column.cast(pl.Float64), pl.Float64()
    elif dtype_name("", dtype) == "string":
        wanted = [value for value in values if isinstance(value, str)]
        column, dtype = column.cast(pl.String), pl.String()
    else:
        wanted = []
    return column.is_in(pl.Series(wanted, dtype=dtype).implode()) if wanted else _NONE


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# Regular expressions that Rust's engine, which Polars runs, and Python's read alike: no look-around, references,
# possessive quantifiers, anchors or Unicode classes. Others are run by Python over the distinct values.
_PLAIN = r"[A-Za-z0-9 _@,:;/<>=!\"'#%&~-]|\\[dws.+*?()\[\]{}|^$/\\-]|\."
_CLASS = r"\[\^?(?:[A-Za-z0-9 _.,:;/@+*!?#%-](?!-)|[A-Za-z0-9]-[A-Za-z0-9]|\\[dws.\\\]\[-])+\]"
_QUANTIFIER = r"(?:[*+?]|\{\d{1,2}(?:,\d{0,2})?\})\??(?![*+?{])"
_PORTABLE = re.compile(rf"(?:(?:{_CLASS}|{_PLAIN}|\))(?:{_QUANTIFIER})?|\((?:\?:)?|\|)*")
_ASCII_CLASSES = {"d": "0-9", "w": "0-9A-Za-z_", "s": r" \t\n\r\f\v"}


def _matching(column: pl.Expr, dtype: pl.DataType, pattern: str) -> pl.Expr:
    if dtype_name("", dtype) != "string":
        return _NONE
    texts = column.cast(pl.String)
    if _PORTABLE.fullmatch(pattern):
        return texts.str.contains(rf"\A(?:{to_rust(pattern)})\z")
    match = re.compile(pattern, re.ASCII).fullmatch
    return _by_value(texts, lambda text: match(text) is not None)


def to_rust(pattern: str) -> str:
    r"""Write ``\d``, ``\w`` and ``\s`` out as their ASCII members; in Rust they would mean all of Unicode."""
    parts = re.findall(r"\\.|\[\^?|\]|[^\\\[\]]", pattern)
    written, is_in_class = [], False
    for part in parts:
        if part[0] == "[":
            is_in_class = True
        elif part == "]":
            is_in_class = False
        members = _ASCII_CLASSES.get(part[1:]) if part[0] == "\\" else None
        written.append(part if members is None else members if is_in_class else f"[{members}]")
    return "".join(written)


def _by_value(column: pl.Expr, holds: Callable[[str], bool]) -> pl.Expr:
    def test(texts: pl.Series) -> pl.Series:
        distinct = texts.unique().drop_nulls()
        kept = pl.Series([value for value in distinct if holds(value)], dtype=pl.String)
        return texts.is_in(kept.implode())

    return column.map_batches(test, return_dtype=pl.Boolean)


def _typed(name: str, column: pl.Expr, dtype: pl.DataType, wanted: DType) -> pl.Expr:
    found = dtype_name(name, dtype)
    if found == wanted or (wanted == "float" and found == "int") or (wanted == "datetime" and found == "date"):
        return _ALL
    if found == "string" and wanted in ("datetime", "date"):
        return _by_value(column.cast(pl.String), lambda text: is_instant(text, wanted))
    return _NONE


def _result(rule: Rule, rows: int, broken: int | None, value: Any, is_there: bool) -> RuleResult:
    if isinstance(rule, RowsAtLeast | RowsAtMost):
        holds = rows >= rule.rows if isinstance(rule, RowsAtLeast) else rows <= rule.rows
        message = f"the table {rule.demand}" if holds else describe_violation(rule, rows)
        return RuleResult(rule=rule, violations=0 if holds else 1, message=message, value=None if holds else rows)
    if not is_there:
        message = f"{rule.column} {rule.demand}, but the table has no such column"
        return RuleResult(rule=rule, violations=max(rows, 1), message=message)
    if not broken:
        return RuleResult(rule=rule, violations=0, message=f"{rule.column} {rule.demand}")
    message = f"{describe_violation(rule, value)} ({broken:,} of {rows:,} rows)"
    return RuleResult(rule=rule, violations=broken, message=message, value=plain_value(value))
