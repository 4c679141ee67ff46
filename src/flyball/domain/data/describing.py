"""What a table's source holds, read once: its columns, how many rows, where nulls are, from when to when."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import polars as pl

from flyball.core.encoding import to_json, to_plain
from flyball.core.files import DiskFullError
from flyball.domain.data.instants import plan_instants, to_utc
from flyball.domain.data.schemas import Field, Schema
from flyball.domain.data.snapshots import Content, PrepareFailedError, TableEmptyError
from flyball.domain.data.tables import Table
from flyball.storage.tables.csv import first_line
from flyball.storage.tables.folders import FILE
from flyball.storage.tables.sources import DataFile, Kind, SourceUnreadableError


class Source(NamedTuple):
    """Where a table's rows come from, resolved at one moment.

    Attributes:
        table: The declaration.
        path: The source, absolute.
        kind: Its format.
        files: Its files; of a Delta table those that are active.
        digests: The digest of each file.
        tokens: The state of each file before it was digested.
        schema: All columns of a Delta table.
        version: The version of a Delta table whose rows only a Delta reader can tell.
    """

    table: Table
    path: Path
    kind: Kind
    files: list[DataFile]
    digests: list[str]
    tokens: list[str]
    schema: pl.Schema | None = None
    version: int | None = None


def added_to(source: Source, before: Content | None) -> Source | None:
    """Return the files by which a source has grown since it was read last; None where that is not all that it has."""
    if before is None or before.stored != "as it lay" or before.has_files or source.version is not None:
        return None
    left = Counter((file.digest, to_json(file.partition)) for file in before.files)
    new = []
    for file in zip(source.files, source.digests, source.tokens, strict=True):
        key = file[1], to_json({name: to_plain(value) for name, value in file[0].partition.items()})
        if left[key]:
            left[key] -= 1
        else:
            new.append(file)
    if not new or len(new) == len(source.files) or any(left.values()):
        return None
    files, digests, tokens = map(list, zip(*new, strict=True))
    return source._replace(files=files, digests=digests, tokens=tokens)


def instants_of(table: Table) -> tuple[str, ...]:
    """Return the columns that are read as instants."""
    return tuple(dict.fromkeys(column for column in (table.time, table.known) if column))


def in_utc(frame: pl.LazyFrame, instants: tuple[str, ...]) -> pl.LazyFrame:
    """Return a frame with its instants as microseconds in UTC."""
    if not instants:
        return frame
    schema = frame.collect_schema()
    return frame.with_columns(to_utc(column, schema[column]) for column in instants)


def scan_one(path: Path) -> pl.LazyFrame:
    """Scan one Parquet file as it is."""
    return pl.scan_parquet([path], glob=False, hive_partitioning=False)


@contextmanager
def telling_failures(source: Source) -> Iterator[None]:
    """Tell of what Polars fails at by the file, the table or its ``prepare``.

    Raises:
        DiskFullError: No space is left.
        PrepareFailedError: The table's ``prepare`` fails.
        SourceUnreadableError: A file is cut off or corrupt.
    """
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        if "No space left" in str(error):
            raise DiskFullError(source.path) from error
        if source.table.prepare is not None and not isinstance(error, OSError):
            raise PrepareFailedError(source.table.label, first_line(error)) from error
        place = _damaged(source)
        raise SourceUnreadableError(source.table.label, place, first_line(error)) from error


def _damaged(source: Source) -> Path:
    """Return the first file that cannot be read, of those that Polars read together."""
    if source.kind == "csv" or len(source.files) < 2:
        return source.files[0].path if source.files else source.path
    for file in source.files:
        try:
            scan_one(file.path).select(pl.all().null_count()).collect()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
            return file.path
    return source.path


def describe(source: Source, id_: str, frame: pl.LazyFrame) -> Content:
    """Read every value once: for the row count, for where nulls are, for the ranges of time, and to find damage."""
    table, instants = source.table, instants_of(source.table)
    with telling_failures(source):
        frame = in_utc(frame, instants)
        names = frame.collect_schema().names()
        read = frame.select(
            pl.len().alias("rows"),
            *(pl.col(name).null_count().alias(f"nulls {number}") for number, name in enumerate(names)),
            *(pl.col(name).min().alias(f"from {name}") for name in instants),
            *(pl.col(name).max().alias(f"to {name}") for name in instants),
        ).collect()
        found = read.row(0, named=True)
        if not found["rows"]:
            raise TableEmptyError(table.label, table.source)
        nullable = {name: found[f"nulls {number}"] > 0 for number, name in enumerate(names)}
        for column in instants:
            if nullable[column]:
                plan_instants(frame, column, time_format=None, what=table.label)
        schema = Schema.of(frame, nullable=nullable)
        if table.files:
            schema = Schema((*schema.fields, Field(name=FILE, dtype="string", nullable=False)))
    known = table.known or table.time
    return Content(
        id=id_,
        stored="as it lay",
        files=(),
        schema=schema,
        rows=found["rows"],
        instants=instants,
        time_from=found[f"from {table.time}"] if table.time else None,
        time_to=found[f"to {table.time}"] if table.time else None,
        known_from=found[f"from {known}"] if known else None,
        known_to=found[f"to {known}"] if known else None,
        has_files=bool(table.files),
    )


def describe_grown(added: Source, id_: str, rows: pl.LazyFrame, frame: pl.LazyFrame, before: Content) -> Content | None:
    """Describe a content that has grown by some files, reading only these.

    Args:
        added: The new files.
        id_: The content's identity.
        rows: Those of the new files.
        frame: All rows.
        before: What the others are known to hold.

    Returns:
        What `describe` would; None where only that can tell: the columns are others, or the new files are empty.
    """
    columns = Schema.of(in_utc(frame, before.instants)).fields
    known = [(field.name, field.dtype) for field in before.schema.fields]
    if [(field.name, field.dtype) for field in columns] != known:
        return None
    try:
        new = describe(added, id_, rows)
    except TableEmptyError:
        return None
    fields = [
        msgspec.structs.replace(field, nullable=field.nullable or old.nullable)
        for field, old in zip(new.schema.fields, before.schema.fields, strict=True)
    ]
    return msgspec.structs.replace(
        new,
        schema=Schema(tuple(fields)),
        rows=before.rows + new.rows,
        time_from=_either(min, before.time_from, new.time_from),
        time_to=_either(max, before.time_to, new.time_to),
        known_from=_either(min, before.known_from, new.known_from),
        known_to=_either(max, before.known_to, new.known_to),
    )


def _either(choose: Callable[[datetime, datetime], datetime], one: datetime | None, other: datetime | None) -> Any:
    return one or other if one is None or other is None else choose(one, other)
