"""Counts of many parts of a frame at once: what `Profile.count` gives for each, in one pass over each column.

A replay seals few rows an hour and many hours at a time; counting hour by hour would cost ten times as much.
"""

from collections.abc import Sequence
from sys import float_info

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flyball.domain.data.profiles import ColumnCounts, ColumnProfile, Counts, Profile

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def count_parts(profile: Profile, frame: pl.DataFrame, lengths: Sequence[int]) -> list[Counts]:
    """Count consecutive parts of a frame, each as `Profile.count` counts it.

    Args:
        profile: The cells.
        frame: The rows, part after part, with all columns of the profile.
        lengths: How many rows each part has, at least 1.
    """
    part_of = np.repeat(np.arange(len(lengths)), lengths)
    columns = {
        name: _count_column(column, frame.get_column(name), part_of, lengths)
        for name, column in profile.columns.items()
    }
    return [
        Counts(rows=length, columns={name: counts[part] for name, counts in columns.items()})
        for part, length in enumerate(lengths)
    ]


def sum_counts(parts: Sequence[Counts]) -> Counts | None:
    """Return the counts of all parts over one profile, as ``+`` would one after the other; None without parts."""
    if not parts:
        return None
    if len(parts) == 1:
        return parts[0]
    columns = {name: _sum_column([part.columns[name] for part in parts]) for name in parts[0].columns}
    return Counts(rows=sum(part.rows for part in parts), columns=columns)


def _sum_column(parts: Sequence[ColumnCounts]) -> ColumnCounts:
    lows = [part.low for part in parts if part.low is not None]
    highs = [part.high for part in parts if part.high is not None]
    return ColumnCounts(
        cells=tuple(map(sum, zip(*[part.cells for part in parts], strict=True))),
        nulls=sum([part.nulls for part in parts]),
        outside=sum([part.outside for part in parts]),
        total=_capped(sum([part.total for part in parts])),
        squares=_capped(sum([part.squares for part in parts])),
        finite=sum([part.finite for part in parts]),
        low=min(lows, default=None),
        high=max(highs, default=None),
    )


def _count_column(
    column: ColumnProfile, values: pl.Series, part_of: Ints, lengths: Sequence[int]
) -> list[ColumnCounts]:
    if column.kind == "numeric":
        return _count_numbers(column, values, part_of, lengths)
    if column.kind == "instant":
        places = np.where(values.is_null().to_numpy(), -1, 0)
        cells, nulls = _count_cells(places, part_of, len(lengths), 1)
        return [
            ColumnCounts(cells=tuple(of_part), nulls=missing)
            for of_part, missing in zip(cells.tolist(), nulls.tolist(), strict=True)
        ]
    return _count_categories(column, values, part_of, lengths)


def _count_cells(places: Ints, part_of: Ints, parts: int, cells: int) -> tuple[Ints, Ints]:
    """Return ``(parts, cells)`` counts and ``(parts,)`` missing ones; a place of -1 is missing."""
    counted = np.bincount(part_of * (cells + 1) + places + 1, minlength=parts * (cells + 1))
    table = counted.reshape(parts, cells + 1)
    return table[:, 1:], table[:, 0]


def _count_categories(
    column: ColumnProfile, values: pl.Series, part_of: Ints, lengths: Sequence[int]
) -> list[ColumnCounts]:
    known: dict[str | None, int] = {name: place for place, name in enumerate(column.categories)}
    known[None], rest = -1, len(column.categories)
    texts = values if values.dtype == pl.String else values.cast(pl.String, strict=False)
    places = np.array([known.get(text, rest) for text in texts.to_list()], dtype=np.int64)
    cells, nulls = _count_cells(places, part_of, len(lengths), rest + 1)
    had_rest = bool(column.cells and column.cells[-1])
    return [
        ColumnCounts(cells=tuple(of_part), nulls=missing, outside=0 if had_rest else of_part[-1])
        for of_part, missing in zip(cells.tolist(), nulls.tolist(), strict=True)
    ]


def _count_numbers(
    column: ColumnProfile, values: pl.Series, part_of: Ints, lengths: Sequence[int]
) -> list[ColumnCounts]:
    parts = len(lengths)
    numbers: Floats = values.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    places = np.where(np.isnan(numbers), -1, np.searchsorted(column.edges, numbers, side="left"))
    cells, nulls = _count_cells(places, part_of, parts, len(column.edges) + 1)
    low = -np.inf if column.min is None else column.min
    high = np.inf if column.max is None else column.max
    is_outside = (numbers < low) | (numbers > high)
    is_finite = np.isfinite(numbers)
    finite = numbers[is_finite]
    with np.errstate(over="ignore"):
        totals = np.bincount(part_of[is_finite], weights=finite, minlength=parts)
        squares = np.bincount(part_of[is_finite], weights=np.square(finite), minlength=parts)
    sizes = np.asarray(lengths, dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    counted = np.bincount(part_of[is_finite], minlength=parts).tolist()
    lows = np.minimum.reduceat(np.where(is_finite, numbers, np.inf), starts).tolist()
    highs = np.maximum.reduceat(np.where(is_finite, numbers, -np.inf), starts).tolist()
    outside = np.bincount(part_of[is_outside], minlength=parts).tolist()
    return [
        ColumnCounts(
            cells=tuple(of_part),
            nulls=int(nulls[part]),
            outside=outside[part],
            total=_capped(totals[part]),
            squares=_capped(squares[part]),
            finite=counted[part],
            low=lows[part] if counted[part] else None,
            high=highs[part] if counted[part] else None,
        )
        for part, of_part in enumerate(cells.tolist())
    ]


def _capped(value: float) -> float:
    """Keep a sum finite: JSON has no infinity."""
    return max(-float_info.max, min(float(value), float_info.max))
