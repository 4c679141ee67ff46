"""What changed between two sets of rows of a table: rows, columns, distributions."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import polars as pl

from flyball.domain.data.instants import to_utc
from flyball.domain.data.profiles import ColumnProfile, Profile
from flyball.domain.data.reports import Report
from flyball.domain.data.rules import encode_rules
from flyball.domain.data.schemas import Schema, dtype_name, polars_dtype
from flyball.domain.data.wording import format_number, plain_value

_EXAMPLES = 5
_ROWS, _MARK, _AFTER = "__rows", "__mark", "__after"


class ChangedValue(msgspec.Struct, frozen=True, kw_only=True):
    """One value that changed: of which row, from what to what."""

    key: dict[str, Any]
    column: str
    before: Any
    after: Any


class RowChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows came, went and changed.

    Attributes:
        key: What identified rows; empty where rows could only be compared as a whole, so that a changed row counts as
            one that went and one that came.
        added: How many came.
        removed: How many went.
        changed: How many are there before and after, with other values.
        columns: In how many rows each column changed.
        examples: The first changed values.
    """

    key: tuple[str, ...]
    added: int
    removed: int
    changed: int = 0
    columns: dict[str, int] = {}
    examples: tuple[ChangedValue, ...] = ()


class ColumnChange(msgspec.Struct, frozen=True, kw_only=True):
    """How one column's distribution moved.

    Attributes:
        column: Its name.
        moved: How large a share of the rows lies elsewhere: the total variation distance over the cells of the
            earlier profile, 0 to 1.
        nulls: The share of missing values, before and after.
        mean: The mean of numbers, before and after.
        cells: What each cell holds: an interval or a value.
        shares: The share of each cell, before and after.
    """

    column: str
    moved: float
    nulls: tuple[float, float]
    mean: tuple[float | None, float | None]
    cells: tuple[str, ...]
    shares: tuple[tuple[float, float], ...]


class TableDiff(msgspec.Struct, frozen=True, kw_only=True):
    """What changed between two sets of rows of one table.

    Attributes:
        table: The table's name.
        before: What the earlier rows are, in words.
        after: What the later rows are.
        rows: How many rows there are, before and after.
        schema: Columns added, removed or retyped, in words.
        changes: Which rows came, went and changed.
        columns: How the distributions moved, the most moved first.
    """

    table: str
    before: str
    after: str
    rows: tuple[int, int]
    schema: list[str]
    changes: RowChanges
    columns: tuple[ColumnChange, ...]


def diff_frames(
    before: pl.LazyFrame, after: pl.LazyFrame, *, table: str, names: tuple[str, str], key: Sequence[str] = ()
) -> TableDiff:
    """Compare two sets of rows.

    Args:
        before: The earlier ones.
        after: The later ones.
        table: The table's name.
        names: What to call both.
        key: What identifies a row; where it does not, rows are compared as a whole.
    """
    schemas = Schema.of(before), Schema.of(after)
    mutual = [
        name
        for name in schemas[0].names
        if name in schemas[1] and schemas[0].get(name).dtype == schemas[1].get(name).dtype
    ]
    rows = tuple(frame.select(pl.len()).collect().item() for frame in (before, after))
    return TableDiff(
        table=table,
        before=names[0],
        after=names[1],
        rows=(rows[0], rows[1]),
        schema=schemas[0].changes_to(schemas[1]),
        changes=_row_changes(*_alike(before, after, mutual), [name for name in key if name in mutual], mutual),
        columns=_column_changes(before, after, mutual),
    )


def _alike(before: pl.LazyFrame, after: pl.LazyFrame, mutual: list[str]) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """Give columns of one kind one type: Polars neither joins nor hashes those of 32 bits with those of 64."""
    schemas = before.collect_schema(), after.collect_schema()
    differing = [name for name in mutual if schemas[0][name] != schemas[1][name]]
    casts: list[list[pl.Expr]] = [[], []]
    for name in differing:
        for side, schema in enumerate(schemas):
            kind = dtype_name(name, schema[name])
            if kind == "datetime":
                casts[side].append(to_utc(name, schema[name]))
            else:
                # Of all whole numbers, also those of 64 bits without a sign.
                casts[side].append(pl.col(name).cast(pl.Int128() if kind == "int" else polars_dtype(kind)))
    return before.with_columns(casts[0]), after.with_columns(casts[1])


def _row_changes(before: pl.LazyFrame, after: pl.LazyFrame, key: list[str], mutual: list[str]) -> RowChanges:
    if key and not (_identifies(before, key) and _identifies(after, key)):
        key = []
    by = key or mutual
    if not by:  # no column is left to compare them by
        came, went = (frame.select(pl.len()).collect().item() for frame in (after, before))
        return RowChanges(key=(), added=came, removed=went)
    values = [name for name in mutual if name not in by]
    one, two = (frame.select(*by, _mark(values)) for frame in (before, after))
    if not key:
        counted = [frame.group_by(by).agg(pl.len().alias(_ROWS)) for frame in (one, two)]
        paired = counted[0].join(counted[1], on=by, how="full", nulls_equal=True, coalesce=True, suffix=_AFTER)
        more = pl.col(f"{_ROWS}{_AFTER}").fill_null(0).cast(pl.Int64) - pl.col(_ROWS).fill_null(0).cast(pl.Int64)
        found = paired.select(added=more.clip(0).sum(), removed=(-more).clip(0).sum()).collect()
        return RowChanges(key=(), added=int(found["added"][0]), removed=int(found["removed"][0]))
    added = two.join(one, on=by, how="anti", nulls_equal=True).select(pl.len()).collect().item()
    removed = one.join(two, on=by, how="anti", nulls_equal=True).select(pl.len()).collect().item()
    differing = (
        one.join(two, on=by, nulls_equal=True, suffix=_AFTER)
        .filter(pl.col(_MARK) != pl.col(f"{_MARK}{_AFTER}"))
        .select(by)
        .collect()
    )
    if not differing.height:
        return RowChanges(key=tuple(key), added=added, removed=removed)
    both = (
        before.select(mutual)
        .join(differing.lazy(), on=by, how="semi", nulls_equal=True)
        .join(after.select(mutual), on=by, nulls_equal=True, suffix=_AFTER)
        .collect()
    )
    columns, examples = {}, []
    for name in values:
        moved = both.filter(pl.col(name).ne_missing(pl.col(f"{name}{_AFTER}")))
        if moved.height:
            columns[name] = moved.height
            for row in moved.head(_EXAMPLES).iter_rows(named=True):
                identity = {part: plain_value(row[part]) for part in by}
                examples.append(
                    ChangedValue(
                        key=identity,
                        column=name,
                        before=plain_value(row[name]),
                        after=plain_value(row[f"{name}{_AFTER}"]),
                    )
                )
    commonest = dict(sorted(columns.items(), key=lambda pair: -pair[1]))
    return RowChanges(
        key=tuple(key),
        added=added,
        removed=removed,
        changed=differing.height,
        columns=commonest,
        examples=tuple(examples[:_EXAMPLES]),
    )


def _mark(values: list[str]) -> pl.Expr:
    return pl.struct(values).hash().alias(_MARK) if values else pl.lit(0, dtype=pl.UInt64).alias(_MARK)


def _identifies(frame: pl.LazyFrame, key: list[str]) -> bool:
    return not frame.select(pl.struct(key).is_duplicated().any()).collect().item()


def _column_changes(before: pl.LazyFrame, after: pl.LazyFrame, mutual: list[str]) -> tuple[ColumnChange, ...]:
    changes = []
    for name in mutual:
        earlier, later = before.select(name).collect(), after.select(name).collect()
        if not earlier.height or not later.height:
            continue
        profile = Profile.of(earlier).columns[name]
        counts = profile.count(later.get_column(name))
        then = [cell / earlier.height for cell in profile.cells]
        now = [cell / later.height for cell in counts.cells]
        nulls = profile.nulls / earlier.height, counts.nulls / later.height
        moved = (sum(abs(a - b) for a, b in zip(then, now, strict=True)) + abs(nulls[0] - nulls[1])) / 2
        changes.append(
            ColumnChange(
                column=name,
                moved=moved,
                nulls=nulls,
                mean=(profile.mean, counts.mean),
                cells=tuple(name_cells(profile)),
                shares=tuple(zip(then, now, strict=True)),
            )
        )
    return tuple(sorted(changes, key=lambda change: -change.moved))


def name_cells(profile: ColumnProfile) -> list[str]:
    """Return what each cell of a profile holds, in words."""
    if profile.kind == "categorical":
        return [*profile.categories, "others"]
    if profile.kind == "instant":
        return ["given"]
    edges = [format_number(edge) for edge in profile.edges]
    if not edges:
        return ["all"] * len(profile.cells)
    return [
        f"≤ {edges[0]}",
        *(f"{low} to {high}" for low, high in pairwise(edges)),
        f"> {edges[-1]}",
    ]


def diff_reports(before: Report, after: Report) -> list[str]:
    """Say in words which rules broke, hold again, came or went between two reports, and which break more or less."""
    then = {encode_rules([result.rule]): result for result in before.results}
    now = {encode_rules([result.rule]): result for result in after.results}
    said = []
    for rule, result in now.items():
        earlier = then.get(rule)
        name = f"{result.rule.column or 'the table'} {result.rule.demand}"
        if earlier is None:
            said.append(f"new: {result.message}")
        elif earlier.passed and not result.passed:
            said.append(f"broken: {result.message}")
        elif not earlier.passed and result.passed:
            said.append(f"holds again: {name}")
        elif earlier.violations != result.violations:
            said.append(f"changed: {result.message}; {earlier.violations:,} before")
    gone = [result for rule, result in then.items() if rule not in now]
    said.extend(f"no longer checked: {result.rule.column or 'the table'} {result.rule.demand}" for result in gone)
    return said
