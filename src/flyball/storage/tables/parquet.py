"""Parquet files: one, or many with the same columns."""

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl

from flyball.core.errors import InvalidInputError
from flyball.storage.tables.csv import first_line
from flyball.storage.tables.sources import DataFile, SourceUnreadableError

_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def with_partitions(paths: Sequence[Path], root: Path) -> list[DataFile]:
    """Read the columns that folders named ``year=2026`` stand for."""
    found: list[dict[str, str]] = []
    for path in paths:
        folders = path.relative_to(root).parts[:-1] if path.is_relative_to(root) else ()
        pairs = [folder.partition("=") for folder in folders if "=" in folder]
        found.append({name: unquote(value) for name, _, value in pairs})
    texts = {
        name for values in found for name, value in values.items() if not (value.isdecimal() or value == _NO_VALUE)
    }
    return [
        DataFile(path, {name: _typed(value, name in texts) for name, value in values.items()})
        for path, values in zip(paths, found, strict=True)
    ]


def scan_parquet(
    files: Sequence[DataFile], *, what: str, schema: pl.Schema | None = None, checked: bool = False
) -> pl.LazyFrame:
    """Scan files as one frame, in their order; the columns of partitions come last.

    Args:
        files: Files with the same columns and types.
        what: The table, for errors.
        schema: All columns of the table, where files may lack some or have narrower types (Delta); such columns are
            null there. Without it all files must have the same.
        checked: Whether the files are known to have the same columns.

    Raises:
        SourceUnreadableError: A file is cut off or is no Parquet file.
        InvalidInputError: The files differ in their columns or types.
    """
    if schema is None and not checked:
        require_same_columns(files, what)
    groups: list[tuple[DataFile, list[Path]]] = []
    for file in files:
        if groups and groups[-1][0].partition == file.partition:
            groups[-1][1].append(file.path)
        else:
            groups.append((file, [file.path]))
    frames = [_scan_group(file, paths, schema) for file, paths in groups]
    frame = frames[0] if len(frames) == 1 else pl.concat(frames, how="vertical_relaxed")
    return frame if schema is None else frame.select(schema.names())


def read_schema(path: Path, what: str) -> pl.Schema:
    """Return the columns of one file.

    Raises:
        SourceUnreadableError: It is cut off or is no Parquet file.
    """
    try:
        return pl.Schema(pl.read_parquet_schema(path))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise SourceUnreadableError(what, path, first_line(error)) from error


def _scan_group(file: DataFile, paths: list[Path], schema: pl.Schema | None) -> pl.LazyFrame:
    if schema is None:
        constants = {name: pl.lit(value) for name, value in file.partition.items()}
        return pl.scan_parquet(paths, glob=False, hive_partitioning=False).with_columns(**constants)
    stored = pl.Schema({name: dtype for name, dtype in schema.items() if name not in file.partition})
    frame = pl.scan_parquet(
        paths,
        glob=False,
        hive_partitioning=False,
        schema=stored,
        missing_columns="insert",
        extra_columns="ignore",
        cast_options=pl.ScanCastOptions(
            integer_cast="upcast", float_cast="upcast", datetime_cast=["nanosecond-downcast", "convert-timezone"]
        ),
    )
    return frame.with_columns(**{name: _constant(value, schema[name]) for name, value in file.partition.items()})


def _constant(value: Any, dtype: pl.DataType) -> pl.Expr:
    # A stored partition went through JSON, which has no dates.
    if isinstance(value, str) and isinstance(dtype, pl.Datetime):
        return pl.lit(datetime.fromisoformat(value), dtype=dtype)
    if isinstance(value, str) and dtype == pl.Date:
        return pl.lit(date.fromisoformat(value), dtype=dtype)
    return pl.lit(value).cast(dtype)


def require_same_columns(files: Sequence[DataFile], what: str) -> None:
    """Refuse files that do not all have the columns of the first.

    Raises:
        SourceUnreadableError: One is cut off or is no Parquet file.
        InvalidInputError: One differs in its columns or types.
    """
    first = read_schema(files[0].path, what)
    for file in files[1:]:
        other = read_schema(file.path, what)
        if other == first and file.partition.keys() == files[0].partition.keys():
            continue
        differing = sorted(name for name in {*first, *other} if first.get(name) != other.get(name))
        raise InvalidInputError(
            f"the {what} has files with different columns: {file.path.name!r} and {files[0].path.name!r} differ in "
            f"{', '.join(differing) or 'their order'}",
            hint="Write all files with the same columns and types, or keep them as a Delta table.",
        )


def _typed(value: str, is_text: bool) -> int | str | None:
    if value == _NO_VALUE:
        return None
    return value if is_text else int(value)
