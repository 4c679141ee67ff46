"""CSV files, typed by all of their rows."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from flyball.core.errors import InvalidInputError
from flyball.storage.tables.sources import SourceUnreadableError


def scan_csv(paths: Sequence[Path], *, nulls: Sequence[str], what: str) -> pl.LazyFrame:
    """Scan CSV files with a header; the types are those that fit every row, dates stay text.

    Args:
        paths: Files with the same columns.
        nulls: Texts that mean that a value is missing, besides the empty one.
        what: The table, for errors.

    Raises:
        SourceUnreadableError: A file is empty, is not UTF-8, or its rows do not fit its header.
        InvalidInputError: The files differ in their columns, or a header names a column twice.
    """
    header: list[str] = []
    for path in paths:
        names = _header(path, what)
        if header and names != header:
            raise InvalidInputError(
                f"the {what} has files with different columns: {path.name!r} and {paths[0].name!r}",
                hint="Give all files the same header.",
            )
        header = names
    try:
        guessed = pl.scan_csv(list(paths), null_values=[*nulls] or None, infer_schema_length=None, glob=False)
        # With the types said, Polars does not look through the files for them again.
        return pl.scan_csv(list(paths), null_values=[*nulls] or None, schema=guessed.collect_schema(), glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SourceUnreadableError(what, paths[0], first_line(error)) from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error of Polars; the rest advises on Polars' own options."""
    return str(error).strip().partition("\n")[0]


def _header(path: Path, what: str) -> list[str]:
    try:
        row = pl.read_csv(path, has_header=False, n_rows=1, infer_schema=False, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SourceUnreadableError(what, path, first_line(error)) from error
    names = [str(name or "") for name in row.row(0)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInputError(
            f"the {what} has the column {twice[0]!r} more than once in {path.name!r}",
            hint="Rename the columns in the file's first line.",
        )
    return names
