"""How values are distributed: counts over a few cells, which add up across windows, workers and time.

A profile fixes the cells once, on the training data, and travels with the model; live rows are then only counted.
Numbers have at most ten cells of about equal shares (their own cell for each value where there are at most ten values),
text has a cell for each of its twenty commonest values and one for the rest. Missing values are counted apart.
"""

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from flyball.core.errors import UnknownNameError

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_MOST_CELLS = 10
_MOST_CATEGORIES = 20


class ColumnCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of one column over a profile's cells; ``+`` gives the counts of both parts.

    Attributes:
        cells: Rows in each cell.
        nulls: Rows without a value; NaN is none.
        outside: Rows beyond the range of the profile's data, or of a category that it did not have.
        total: The sum of the finite numbers.
        squares: The sum of their squares.
        finite: How many they are.
        low: The least of them.
        high: The greatest of them.
    """

    cells: tuple[int, ...]
    nulls: int = 0
    outside: int = 0
    total: float = 0.0
    squares: float = 0.0
    finite: int = 0
    low: float | None = None
    high: float | None = None

    @property
    def n(self) -> int:
        """All rows, with and without a value."""
        return sum(self.cells) + self.nulls

    @property
    def mean(self) -> float | None:
        """The mean of the finite numbers; None for text, and where there are none."""
        return self.total / self.finite if self.finite else None

    @property
    def std(self) -> float | None:
        """The standard deviation of the finite numbers, of the rows as a population."""
        mean = self.mean
        return None if mean is None else math.sqrt(max(self.squares / self.finite - mean * mean, 0.0))

    def __add__(self, other: "ColumnCounts") -> "ColumnCounts":
        lows = [counts.low for counts in (self, other) if counts.low is not None]
        highs = [counts.high for counts in (self, other) if counts.high is not None]
        return ColumnCounts(
            cells=tuple(one + two for one, two in zip(self.cells, other.cells, strict=True)),
            nulls=self.nulls + other.nulls,
            outside=self.outside + other.outside,
            total=_capped(self.total + other.total),
            squares=_capped(self.squares + other.squares),
            finite=self.finite + other.finite,
            low=min(lows, default=None),
            high=max(highs, default=None),
        )


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of several columns over one profile's cells; ``+`` gives the counts of both parts."""

    rows: int
    columns: dict[str, ColumnCounts]

    def __add__(self, other: "Counts") -> "Counts":
        columns = {name: counts + other.columns[name] for name, counts in self.columns.items()}
        return Counts(rows=self.rows + other.rows, columns=columns)


class ColumnProfile(msgspec.Struct, frozen=True, kw_only=True):
    """The distribution of one column.

    Attributes:
        kind: ``numeric`` (cells are intervals), ``categorical`` (cells are values, the last one is for the rest), or
            ``instant`` (one cell: instants always move, only missing ones are of interest).
        n: All rows.
        nulls: Rows without a value; NaN is none.
        cells: Rows in each cell.
        edges: The upper limits of all numeric cells but the last; a limit belongs to the cell below it.
        categories: The values of categorical cells, commonest first.
        mean: Of the finite numbers, as are the next three.
        std: Of the rows as a population.
        min: The least.
        max: The greatest.
    """

    kind: Literal["numeric", "categorical", "instant"]
    n: int
    nulls: int
    cells: tuple[int, ...]
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    mean: float | None = None
    std: float | None = None
    min: float | None = None
    max: float | None = None

    def count(self, values: "pl.Series") -> ColumnCounts:
        """Count a column's values over the cells; values of another kind, such as text for numbers, are missing."""
        if self.kind == "numeric":
            return self._count_numbers(_to_numbers(values), len(values))
        if self.kind == "instant":
            return ColumnCounts(cells=(values.len() - values.null_count(),), nulls=values.null_count())
        return self._count_categories(values)

    def _count_numbers(self, numbers: "Floats", rows: int) -> ColumnCounts:
        import numpy as np

        cells = np.bincount(np.searchsorted(self.edges, numbers, side="left"), minlength=len(self.edges) + 1)
        finite = numbers[np.isfinite(numbers)]
        outside = 0
        if self.min is not None and self.max is not None:
            outside = int(np.count_nonzero((numbers < self.min) | (numbers > self.max)))
        with np.errstate(over="ignore"):
            total, squares = float(finite.sum()), float(np.square(finite).sum())
        return ColumnCounts(
            cells=tuple(cells.tolist()),
            nulls=rows - len(numbers),
            outside=outside,
            total=_capped(total),
            squares=_capped(squares),
            finite=len(finite),
            low=float(finite.min()) if len(finite) else None,
            high=float(finite.max()) if len(finite) else None,
        )

    def _count_categories(self, values: "pl.Series") -> ColumnCounts:
        texts = _to_texts(values).drop_nulls()
        found = dict(texts.alias("value").value_counts().iter_rows())
        known = [int(found.get(category, 0)) for category in self.categories]
        other = len(texts) - sum(known)
        # Where the training data had more categories than cells, the rest is no news.
        had_rest = bool(self.cells and self.cells[-1])
        return ColumnCounts(cells=(*known, other), nulls=len(values) - len(texts), outside=0 if had_rest else other)


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The distributions of some columns of one set of rows."""

    columns: dict[str, ColumnProfile]

    @classmethod
    def of(cls, frame: "pl.DataFrame", columns: Sequence[str] | None = None) -> "Profile":
        """Choose cells for columns of a frame, and count its rows in them.

        Args:
            frame: The rows, usually the training data.
            columns: Which columns; all by default.

        Raises:
            UnknownNameError: The frame has no such column.
        """
        names = frame.columns if columns is None else list(columns)
        for name in names:
            if name not in frame.columns:
                raise UnknownNameError("column", name, frame.columns)
        return cls(columns={name: _profile(frame.get_column(name)) for name in names})

    def count(self, frame: "pl.DataFrame") -> Counts:
        """Count rows over the cells; a column that the frame lacks is missing in every row."""
        import polars as pl

        absent = pl.Series([None], dtype=pl.Null)
        counted = {
            name: column.count(
                frame.get_column(name) if name in frame.columns else absent.new_from_index(0, frame.height)
            )
            for name, column in self.columns.items()
        }
        return Counts(rows=frame.height, columns=counted)


def _profile(values: "pl.Series") -> ColumnProfile:
    import polars as pl

    dtype = values.dtype
    empty: dict[str, Any] = {"n": 0, "nulls": 0, "cells": ()}
    if dtype.is_numeric():
        numbers = _to_numbers(values)
        finite = _finite(numbers)
        shape = ColumnProfile(
            kind="numeric",
            edges=_edges(finite),
            min=float(finite.min()) if len(finite) else None,
            max=float(finite.max()) if len(finite) else None,
            **empty,
        )
    elif isinstance(dtype, pl.Datetime | pl.Duration) or dtype in (pl.Date, pl.Time):
        shape = ColumnProfile(kind="instant", **empty)
    else:
        shape = ColumnProfile(kind="categorical", categories=_categories(_to_texts(values)), **empty)
    counts = shape.count(values)
    return msgspec.structs.replace(
        shape, n=len(values), nulls=counts.nulls, cells=counts.cells, mean=counts.mean, std=counts.std
    )


def _edges(finite: "Floats") -> tuple[float, ...]:
    import numpy as np

    distinct = np.unique(finite)
    if len(distinct) == 0:
        return ()
    if len(distinct) == 1:
        # A constant has a cell of its own between what is below and what is above it.
        value = float(distinct[0])
        below = math.nextafter(value, -math.inf)
        return (below, value) if math.isfinite(below) else (value,)
    if len(distinct) <= _MOST_CELLS:
        # Halves first: the sum of two large numbers may overflow.
        middles = distinct[:-1] / 2 + distinct[1:] / 2
        return tuple(np.unique(middles).tolist())
    shares = np.arange(1, _MOST_CELLS) / _MOST_CELLS
    limits = np.quantile(finite, shares, method="lower")
    # The greatest value would leave the last cell empty; the one before it gives that value a cell of its own.
    limits = np.where(limits == distinct[-1], distinct[-2], limits)
    return tuple(np.unique(limits).tolist())


def _categories(texts: "pl.Series") -> tuple[str, ...]:
    found = [(int(rows), str(text)) for text, rows in texts.drop_nulls().alias("value").value_counts().iter_rows()]
    commonest = sorted(found, key=lambda pair: (-pair[0], pair[1]))
    return tuple(text for _, text in commonest[:_MOST_CATEGORIES])


def _capped(value: float) -> float:
    """Keep a sum finite: JSON has no infinity."""
    return max(-sys.float_info.max, min(value, sys.float_info.max))


def _to_numbers(values: "pl.Series") -> "Floats":
    """Return the numbers that are there; NaN is none."""
    import numpy as np
    import polars as pl

    if not (values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.String, pl.Null)):
        values = pl.Series([None] * len(values), dtype=pl.Float64)
    numbers = values.cast(pl.Float64, strict=False).drop_nulls().to_numpy()
    found: Floats = numbers[~np.isnan(numbers)]
    return found


def _finite(numbers: "Floats") -> "Floats":
    import numpy as np

    found: Floats = numbers[np.isfinite(numbers)]
    return found


def _to_texts(values: "pl.Series") -> "pl.Series":
    import polars as pl

    return values if values.dtype == pl.String else values.cast(pl.String, strict=False)
