"""Computes request features: the same function over training rows and over live requests."""

from collections.abc import Sequence

import polars as pl

from flyball.core.errors import InvalidInputError
from flyball.domain.data.schemas import Schema
from flyball.domain.features.histories import FeatureFunctionError, call
from flyball.domain.features.views import RequestFeatures

_SAMPLE = 50  # rows on which a function is run again to see whether rows depend on each other


class ColumnClashError(InvalidInputError):
    """Two sources give a training set a column of one name."""

    code = "features/column-clash"

    def __init__(self, column: str, first: str, second: str) -> None:
        super().__init__(
            f"column {column!r} comes from {first} and from {second}",
            hint="Rename it in one of the functions, or leave the table's own out with drop=[...].",
        )


def add_request_features(functions: Sequence[RequestFeatures], rows: pl.DataFrame) -> pl.DataFrame:
    """Return the columns that functions add to the fields of requests, in the order of the functions.

    Args:
        functions: Each gets the same rows; none sees what another adds.
        rows: One row a request: the columns of the training set's `request_schema`.

    Raises:
        FeatureFunctionError: A function raises, loses, repeats, reorders or changes rows, or adds nothing.
        ColumnClashError: Two functions add a column of one name.
    """
    origins: dict[str, str] = {}
    frames: list[pl.DataFrame] = []
    for function in functions:
        frames.append(added_columns(function, rows))
        claim_columns(origins, frames[-1].columns, f"request features {function.name!r}")
    return pl.concat(frames, how="horizontal") if frames else pl.DataFrame()


def added_columns(function: RequestFeatures, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the columns that one function adds. See `add_request_features`."""
    result = call(function.name, function.function, rows.lazy())
    if result.height != rows.height:
        raise FeatureFunctionError(
            function.name,
            f"returned {result.height:,} rows for {rows.height:,}",
            hint="Return the same rows with added columns; filter, join, explode and group_by change them.",
        )
    for column in result.columns:
        if column in rows.columns and not result[column].equals(rows[column], null_equal=True):
            raise FeatureFunctionError(
                function.name,
                f"returned the rows in another order, or changed column {column!r}",
                hint="Keep the order, and give what you compute a new name.",
            )
    added = result.select(name for name in result.columns if name not in rows.columns)
    if not added.width:
        raise FeatureFunctionError(
            function.name, "added no column", hint="Add one with: return rows.with_columns(name=…)"
        )
    return added.cast(Schema.of(added).to_polars())


def claim_columns(origins: dict[str, str], columns: Sequence[str], origin: str) -> None:
    """Note where columns come from.

    Raises:
        ColumnClashError: One of them comes from elsewhere already.
    """
    for column in columns:
        if column in origins:
            raise ColumnClashError(column, origins[column], origin)
        origins[column] = origin


def check_rows_are_independent(functions: Sequence[RequestFeatures], rows: pl.DataFrame) -> None:
    """Run functions on a few rows in another order: each row's features must be the same as among all rows.

    A function that averages over its rows, say, gives another answer in a live request, which is one row.

    Raises:
        FeatureFunctionError: They are not.
    """
    if rows.height < 2:
        return
    some = list(range(0, rows.height, max(2, rows.height // _SAMPLE)))[:_SAMPLE][::-1]
    for function in functions:
        among_all = added_columns(function, rows)[some]
        alone = added_columns(function, rows[some])
        for column in among_all.columns:
            if column not in alone.columns or not _is_same(among_all[column], alone[column]):
                raise FeatureFunctionError(
                    function.name,
                    f"computes {column!r} of a row from other rows, but a live request has only its own",
                    hint="Compute each row from its own columns, or declare it as a feature view with @fb.features.",
                )


def _is_same(one: pl.Series, other: pl.Series) -> bool:
    if one.dtype != other.dtype:
        return bool(one.null_count() == len(one) or other.null_count() == len(other))
    if one.dtype.is_float():
        differs = one.ne_missing(other) & ~((one - other).abs() <= 1e-9 * one.abs()).fill_null(False)
        return not differs.any()
    return one.equals(other, null_equal=True)
