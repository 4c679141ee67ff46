"""Which rows of a table break a rule, as Polars expressions."""

import math
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from flyball.domain.data.column_comparisons import compare_columns
from flyball.domain.data.polars_expressions import read_expression
from flyball.domain.data.row_checks import is_instant, is_within
from flyball.domain.data.row_rules import (
    AtLeast,
    AtMost,
    Between,
    Compare,
    Expression,
    IsIn,
    Limit,
    Matches,
    NotNull,
    OfType,
)
from flyball.domain.data.rules import Rule, ValueRule, columns_of, is_measured
from flyball.domain.data.schemas import DType, dtype_name
from flyball.domain.data.surroundings import NOTHING, Surroundings
from flyball.domain.data.table_rules import Monotonic, References, Unique, UniqueTogether

_ALL = pl.lit(True)
_NONE = pl.lit(False)


def broken_rows(rule: Rule, schema: pl.Schema, around: Surroundings = NOTHING) -> pl.Expr | None:
    """Return what is true where a row breaks the rule, false or null elsewhere; None for rules about the table."""
    if is_measured(rule) or any(name not in schema for name in columns_of(rule)):
        return None
    column = pl.col(rule.column)
    match rule:
        case Unique():
            return column.is_not_null() & ~column.is_first_distinct()
        case UniqueTogether(columns=columns):
            return ~pl.struct(*columns).is_first_distinct()
        case Monotonic():
            return _out_of_order(rule)
        case References():
            return column.is_not_null() & ~_among(column, schema[rule.column], around.values(rule.table, rule.key))
        case Compare():
            kept = compare_columns(rule, schema)
            both = column.is_not_null() & pl.col(rule.other).is_not_null()
            return both if kept is None else both & ~kept
        case Expression():
            return ~read_expression(rule)
        case NotNull():
            return column.is_null()
        case Between() | AtLeast() | AtMost() | IsIn() | Matches() | OfType():
            kept = _kept(rule, column, schema[rule.column])
            return column.is_not_null() if kept is _NONE else ~kept
    return None


def _kept(rule: ValueRule, column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    match rule:
        case Between(low=low, high=high):
            return _bounded(column, dtype, low, high)
        case AtLeast(limit=limit):
            return _bounded(column, dtype, limit, None)
        case AtMost(limit=limit):
            return _bounded(column, dtype, None, limit)
        case IsIn(values=values):
            return _listed(column, dtype, values)
        case Matches(pattern=pattern):
            return _matching(column, dtype, pattern)
        case OfType(dtype=wanted):
            return _typed(rule.column, column, dtype, wanted)
    return _ALL


def _out_of_order(rule: Monotonic) -> pl.Expr:
    column = pl.col(rule.column)
    before = column.forward_fill().shift(1)
    if rule.direction == "increasing":
        broken = column <= before if rule.is_strict else column < before
    else:
        broken = column >= before if rule.is_strict else column > before
    return broken.over(*rule.by) if rule.by else broken


def _among(column: pl.Expr, dtype: pl.DataType, values: pl.Series) -> pl.Expr:
    if values.dtype == dtype:
        return column.is_in(values.implode())
    if values.dtype.is_integer() and dtype.is_integer():
        return column.cast(pl.Int128).is_in(values.cast(pl.Int128).implode())
    if values.dtype.is_numeric() and dtype.is_numeric():
        return column.cast(pl.Float64).is_in(values.cast(pl.Float64).implode())
    if isinstance(dtype, pl.Datetime) and isinstance(values.dtype, pl.Datetime):
        return column.dt.epoch("us").is_in(values.dt.epoch("us").implode())
    texts = (pl.Categorical, pl.Enum, pl.String)
    if dtype.base_type() in texts and values.dtype.base_type() in texts:
        return column.cast(pl.String).is_in(values.cast(pl.String).implode())
    return _NONE


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
