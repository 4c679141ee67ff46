"""Rules that measure a table: the value to compute in the same pass as all others, and what it means."""

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import polars as pl

from flyball.core.durations import format_duration, format_instant
from flyball.core.errors import InvalidInputError
from flyball.domain.data.instants import is_instant_dtype, to_utc
from flyball.domain.data.languages import guess_language
from flyball.domain.data.polars_expressions import read_expression
from flyball.domain.data.row_rules import Expression
from flyball.domain.data.rules import Rule, columns_of, is_measured
from flyball.domain.data.surroundings import Surroundings
from flyball.domain.data.table_rules import (
    Aggregate,
    Fresh,
    Language,
    Mix,
    NullShare,
    RowsAtLeast,
    RowsAtMost,
    format_share,
)
from flyball.domain.data.wording import format_value, plain_value

_TEXTS_READ = 20_000  # enough that the most frequent words no longer change
_WORDS_READ = 60


class Verdict(NamedTuple):
    """What a measured value means: whether the rule holds, the value in words and as JSON can carry it."""

    holds: bool
    words: str
    value: Any


class Measure(NamedTuple):
    """What to compute over a table, and how to judge it by the value and the number of rows."""

    value: pl.Expr
    judge: Callable[[Any, int], Verdict]


def measure_of(rule: Rule, schema: pl.Schema, around: Surroundings) -> Measure | None:
    """Return the measure of a rule; None for rules about rows, and where the table lacks a column."""
    if not is_measured(rule) or any(name not in schema for name in columns_of(rule)):
        return None
    match rule:
        case RowsAtLeast() | RowsAtMost():
            return Measure(pl.len(), lambda rows, _: Verdict(True, "", rows))
        case NullShare():
            return _null_share(rule)
        case Fresh():
            return _fresh(rule, schema[rule.column], around.now)
        case Aggregate():
            return _aggregate(rule, schema[rule.column])
        case Mix():
            return _mix(rule, around)
        case Language():
            return _language(rule, schema[rule.column])
        case Expression():
            kept = read_expression(rule).all()
            return Measure(kept, lambda value, _: Verdict(value is not False, "", None))
    return None


def _wrong_kind(dtype: pl.DataType, wanted: str) -> Measure:
    words = f"it holds {dtype}, not {wanted}"
    return Measure(pl.lit(None), lambda _, __: Verdict(False, words, str(dtype)))


def _null_share(rule: NullShare) -> Measure:
    def judge(nulls: int, rows: int) -> Verdict:
        share = nulls / rows if rows else 0.0
        return Verdict(share <= rule.share, f"{format_share(share)} are ({nulls:,} of {rows:,})", share)

    return Measure(pl.col(rule.column).null_count(), judge)


def _fresh(rule: Fresh, dtype: pl.DataType, now: datetime | None) -> Measure:
    if not is_instant_dtype(dtype):
        return _wrong_kind(dtype, "instants")
    if now is None:
        raise InvalidInputError(f"{rule.column} {rule.demand}: the present is not known here")
    present = now

    def judge(newest: datetime | None, _: int) -> Verdict:
        if newest is None:
            return Verdict(False, "there is none", None)
        age = present - newest
        whole = format_duration(type(age)(seconds=int(age.total_seconds()))) if age.total_seconds() >= 1 else "0s"
        words = f"the newest is {format_instant(newest)}, {whole} old"
        return Verdict(age <= rule.within, words, format_instant(newest))

    return Measure(to_utc(rule.column, dtype).max(), judge)


def _aggregate(rule: Aggregate, dtype: pl.DataType) -> Measure:
    column = pl.col(rule.column)
    if rule.statistic != "distinct":
        if not (dtype.is_numeric() or dtype == pl.Boolean):
            return _wrong_kind(dtype, "numbers")
        column = column.cast(pl.Float64)
    if dtype.is_float() or rule.statistic != "distinct":
        column = column.fill_nan(None)
    match rule.statistic:
        case "quantile":
            value = column.quantile(rule.quantile or 0.0, "linear")
        case "distinct":
            value = column.drop_nulls().n_unique()
        case statistic:
            value = getattr(column, statistic)()

    def judge(found: float | None, _: int) -> Verdict:
        if found is None:
            return Verdict(False, "there is no value", None)
        is_low = rule.low is not None and not found >= rule.low
        is_high = rule.high is not None and not found <= rule.high
        return Verdict(not (is_low or is_high), f"it is {format_value(found)}", plain_value(found))

    return Measure(value, judge)


def _mix(rule: Mix, around: Surroundings) -> Measure:
    shares = dict(rule.shares) or dict(around.shares(rule.snapshot, rule.column))

    def judge(counted: list[dict[str, Any]] | None, _: int) -> Verdict:
        counts = {str(row["value"]): int(row["count"]) for row in counted or ()}
        total = sum(counts.values())
        if not total:
            return Verdict(False, "there is no value", None)
        distance, furthest = _distance(counts, total, shares)
        # What a sample of this size differs by on average if nothing has changed: the mean absolute deviation of a
        # normal variable is its standard deviation times the root of 2/pi.
        chance = 0.5 * sum(math.sqrt(2 * p * (1 - p) / (math.pi * total)) for p in shares.values())
        now, then = counts.get(furthest, 0) / total, shares.get(furthest, 0.0)
        words = (
            f"it differs by {format_share(distance)}: {furthest!r} has {format_share(now)} instead of "
            f"{format_share(then)}"
        )
        return Verdict(distance <= rule.within + chance, words, distance)

    counted = pl.col(rule.column).cast(pl.String).alias("value").drop_nulls().value_counts().implode()
    return Measure(counted, judge)


def _distance(counts: Mapping[str, int], total: int, shares: Mapping[str, float]) -> tuple[float, str]:
    differences = {name: abs(counts.get(name, 0) / total - shares.get(name, 0.0)) for name in {*counts, *shares}}
    furthest = max(sorted(differences), key=lambda name: differences[name])
    return sum(differences.values()) / 2, furthest


def _language(rule: Language, dtype: pl.DataType) -> Measure:
    if dtype != pl.String:
        return _wrong_kind(dtype, "text")
    texts = pl.col(rule.column).drop_nulls().head(_TEXTS_READ).str.to_lowercase()
    words = texts.str.extract_all(r"\p{L}+").explode(empty_as_null=False, keep_nulls=False)
    counted = words.alias("word").value_counts(sort=True).head(_WORDS_READ).implode()

    def judge(found: list[dict[str, Any]] | None, _: int) -> Verdict:
        counts = {row["word"]: int(row["count"]) for row in found or () if row["word"]}
        language = guess_language(counts)
        told = "that cannot be told from its words" if language is None else f"its words are {language!r}"
        return Verdict(language == rule.language, told, language)

    return Measure(counted, judge)
