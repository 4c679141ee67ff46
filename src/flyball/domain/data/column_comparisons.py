"""Comparing two columns of a table, with the outcome that `compare_values` has in every row."""

from typing import Any

import polars as pl

from flyball.domain.data.comparisons import OPERATORS, compare_values
from flyball.domain.data.instants import to_utc
from flyball.domain.data.row_rules import Compare, Comparison

_BEYOND_64_BITS = 2.0**100


def compare_columns(rule: Compare, schema: pl.Schema) -> pl.Expr | None:
    """Return what is true where a row keeps the rule; None where the columns' types never compare."""
    one, other = pl.col(rule.column), pl.col(rule.other)
    kinds = _kind(schema[rule.column]), _kind(schema[rule.other])
    holds = OPERATORS[rule.comparison]
    if kinds == ("bool", "bool"):
        return _as_expression(holds(one.cast(pl.Int8), other.cast(pl.Int8)))
    if kinds == ("int", "int"):
        return _as_expression(holds(one.cast(pl.Int128), other.cast(pl.Int128)))
    if kinds == ("float", "float"):
        one, other = one.cast(pl.Float64), other.cast(pl.Float64)
        return _as_expression(holds(one, other)) & one.is_not_nan() & other.is_not_nan()
    if kinds == ("int", "float"):
        return _int_to_float(one, other.cast(pl.Float64), rule.comparison)
    if kinds == ("float", "int"):
        turned: dict[Comparison, Comparison] = {
            "at least": "at most",
            "at most": "at least",
            "above": "below",
            "below": "above",
            "equal to": "equal to",
        }
        return _int_to_float(other, one.cast(pl.Float64), turned[rule.comparison])
    if kinds == ("instant", "instant"):
        one, other = to_utc(rule.column, schema[rule.column]), to_utc(rule.other, schema[rule.other])
        return _as_expression(holds(one, other))
    if set(kinds) <= {"text", "instant"}:
        return _by_pairs(rule)
    return None


def _as_expression(value: Any) -> pl.Expr:
    expression: pl.Expr = value
    return expression


def _kind(dtype: pl.DataType) -> str:
    if dtype.is_integer():
        return "int"
    if dtype.is_float() or dtype.is_decimal():
        return "float"
    kinds: dict[Any, str] = {
        pl.Boolean: "bool",
        pl.Datetime: "instant",
        pl.Date: "instant",
        pl.String: "text",
        pl.Categorical: "text",
        pl.Enum: "text",
    }
    return kinds.get(dtype.base_type(), "")


def _int_to_float(whole: pl.Expr, number: pl.Expr, comparison: Comparison) -> pl.Expr:
    # As floats, large integers would be rounded; so the float is rounded, to the side that changes nothing.
    whole = whole.cast(pl.Int128)
    finite = number.fill_nan(0.0).clip(-_BEYOND_64_BITS, _BEYOND_64_BITS)
    floor, ceiling = finite.floor().cast(pl.Int128), finite.ceil().cast(pl.Int128)
    kept = {
        "at least": whole >= ceiling,
        "at most": whole <= floor,
        "above": whole > floor,
        "below": whole < ceiling,
        "equal to": (whole == floor) & (whole == ceiling),
    }[comparison]
    return kept & number.is_not_nan()


def _by_pairs(rule: Compare) -> pl.Expr:
    compare = compare_values(rule.comparison)

    def test(pairs: pl.Series) -> pl.Series:
        known: dict[tuple[Any, Any], bool] = {}
        kept = []
        for pair in zip(pairs.struct.field("one"), pairs.struct.field("other"), strict=True):
            if pair not in known:
                known[pair] = compare(*pair)
            kept.append(known[pair])
        return pl.Series(kept, dtype=pl.Boolean)

    pairs = pl.struct(pl.col(rule.column).alias("one"), pl.col(rule.other).alias("other"))
    return pairs.map_batches(test, return_dtype=pl.Boolean)
