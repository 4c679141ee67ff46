"""Compares what a function says about the same entities and times over different rows."""

from collections.abc import Sequence

import polars as pl

# Sums over more rows may differ in their last digits: against the value, and where it is near 0 against the column.
_TOLERANCE, _NOISE = 1e-6, 1e-9
PRESENT = "\0present"
"""The column of `differing` that is null where the other result has no such row."""
_OTHER, _NUMBER = "\0other", "\0number"


def differing(one: pl.DataFrame, other: pl.DataFrame, *, at: Sequence[str], features: Sequence[str]) -> pl.LazyFrame:
    """Return where two results differ: ``at``, `PRESENT` and, for each feature, whether it differs.

    Rows that share their keys and time with another row of the same result are not compared.

    Args:
        one: Every row of it is looked for in the other.
        other: A result with at least the same columns.
        at: Keys and time.
        features: What is compared; a row missing in ``other`` has nulls.
    """
    beside = other.lazy().select(*at, *features, pl.lit(True).alias(PRESENT)).unique(at, keep="none")
    return (
        one.lazy()
        .unique(at, keep="none")
        .join(beside, on=list(at), how="left", suffix=_OTHER)
        .select(*at, PRESENT, *(_differs(name, one.schema[name]).alias(name) for name in features))
        .filter(pl.any_horizontal(pl.col(PRESENT).is_null(), *features))
    )


def same_values(one: pl.DataFrame, other: pl.DataFrame, *, at: Sequence[str], features: Sequence[str]) -> bool:
    """Tell whether every row of one result is in the other, with the same values; False if none can be compared."""
    if one.height == other.height and one.select(at).equals(other.select(at)):
        number = pl.int_range(pl.len()).alias(_NUMBER)
        one, other, at = one.with_columns(number), other.with_columns(number), [_NUMBER]
    if not one.height or one.select(pl.struct(at).is_unique().any()).item() is False:
        return False
    return differing(one, other, at=at, features=features).head(1).collect().is_empty()


def _differs(name: str, dtype: pl.DataType) -> pl.Expr:
    one, other = pl.col(name), pl.col(f"{name}{_OTHER}")
    differs = one.ne_missing(other)
    if dtype.is_float():
        limit = _TOLERANCE * pl.max_horizontal(one.abs(), other.abs()) + _NOISE * one.abs().max()
        differs &= ((one - other).abs() <= limit).fill_null(False).not_()
    return differs
