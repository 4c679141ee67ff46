"""From a table's source to stored content, and from stored content back to rows."""

import base64
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import polars as pl

from flyball.core.encoding import to_plain
from flyball.core.files import sync_folder
from flyball.core.hashing import digest_value
from flyball.domain.data.code import identify_code
from flyball.domain.data.describing import (
    Source,
    added_to,
    describe,
    describe_grown,
    in_utc,
    instants_of,
    scan_one,
    telling_failures,
)
from flyball.domain.data.instants import is_instant_dtype, plan_instants
from flyball.domain.data.schemas import Schema
from flyball.domain.data.snapshots import (
    ColumnMissingError,
    Content,
    PrepareFailedError,
    SnapshotFile,
    SourceChangedError,
    TableEmptyError,
)
from flyball.domain.data.tables import Table
from flyball.storage.blobs import LocalBlobStore
from flyball.storage.tables.csv import first_line, scan_csv
from flyball.storage.tables.delta import scan_delta
from flyball.storage.tables.folders import DIGEST, FILE
from flyball.storage.tables.parquet import require_same_columns, scan_parquet
from flyball.storage.tables.sources import (
    DataFile,
    stat_token,
)

CheckSchema = Callable[[Schema], None]
_MOST_FILES = 32  # beyond, reading many small files costs more than storing the rows again
_ROWS_COMPARED = 250_000


def declaration_digest(table: Table, root: Path, digest_file: Callable[[Path], str]) -> str:
    """Return the identity of how a table's bytes become rows: formats, times and the code of ``prepare``."""
    code = identify_code(table.prepare, root, digest=digest_file).digest if table.prepare else ""
    extra = [value for value in (table.types, table.files, table.sql, table.time_zone) if value]
    return digest_value([table.time, table.known, table.time_format, list(table.nulls), code, *extra])


def content_id(source: Source, declaration: str) -> str:
    """Return the identity of a source's rows."""
    files = [[digest, to_plain(file.partition)] for digest, file in zip(source.digests, source.files, strict=True)]
    columns = [] if source.schema is None else [[name, str(dtype)] for name, dtype in source.schema.items()]
    return digest_value([source.kind, files, columns, source.version, declaration])


def store_content(
    source: Source, id_: str, blobs: LocalBlobStore, check_schema: CheckSchema, before: Content | None = None
) -> Content:
    """Read a source once, check it, and store its bytes.

    Args:
        source: What to read.
        id_: The content's identity.
        blobs: Where the bytes go.
        check_schema: Raises if the columns are not welcome; called before anything is stored.
        before: What the table held last, whose stored rows are used again where they are still its first ones.

    Raises:
        SourceUnreadableError: A file is cut off or corrupt.
        SourceChangedError: A file was written to meanwhile.
        ColumnMissingError: A key, time or known column is missing.
        TableEmptyError: There are no rows.
        InvalidInputError: A column's type is unknown, an instant cannot be read, or files differ in their columns.
    """
    added = added_to(source, before)
    frame = _scan(source, added)
    if _is_stored_as_it_lies(source, frame.collect_schema()):
        content = None
        if added is not None and before is not None:
            content = describe_grown(added, id_, _scan(added), frame, before)
        content = content or describe(source, id_, frame)
        check_schema(content.schema)
        files, arrow_schema = (
            _copy_files(source, blobs, before),
            "" if source.schema is None else _to_text(source.schema),
        )
        return msgspec.structs.replace(content, files=files, arrow_schema=arrow_schema)
    with _converted(source, frame, blobs) as path:
        content = describe(source, id_, scan_one(path))
        check_schema(content.schema)
        files = _shared_files(path, content, before, blobs) or (_adopt(path, content.rows, blobs),)
    return msgspec.structs.replace(content, files=files, stored="converted")


def _shared_files(
    path: Path, content: Content, before: Content | None, blobs: LocalBlobStore
) -> tuple[SnapshotFile, ...]:
    """Keep only the rows that came after those of an earlier content, where it begins with the same ones.

    A table that grows at its end, such as one of labels, so costs what was added and not its whole at each change.

    Returns:
        The earlier files and one with the rows that were added; nothing where the earlier rows are not the first ones.
    """
    if (
        before is None
        or before.stored != "converted"
        or not 0 < before.rows < content.rows
        or len(before.files) >= _MOST_FILES
        or not all(blobs.has(file.digest) for file in before.files)
    ):
        return ()
    old = scan_parquet([DataFile(blobs.path(file.digest), {}) for file in before.files], what="snapshot", checked=True)
    new = scan_one(path)
    if old.collect_schema() != new.collect_schema():
        return ()
    for start in range(0, before.rows, _ROWS_COMPARED):
        count = min(_ROWS_COMPARED, before.rows - start)
        if not old.slice(start, count).collect().equals(new.slice(start, count).collect()):
            return ()
    added = blobs.unfinished()
    try:
        new.slice(before.rows).sink_parquet(added, sync_on_close="all")
        return (*before.files, _adopt(added, content.rows - before.rows, blobs))
    finally:
        added.unlink(missing_ok=True)


def _adopt(path: Path, rows: int, blobs: LocalBlobStore) -> SnapshotFile:
    size_bytes, digest = path.stat().st_size, blobs.adopt(path)
    sync_folder(blobs.path(digest).parent)
    return SnapshotFile(digest=digest, size_bytes=size_bytes, rows=rows)


def _copy_files(source: Source, blobs: LocalBlobStore, before: Content | None) -> tuple[SnapshotFile, ...]:
    # A table of many files grows by a few: the others were counted when they came.
    counted = {file.digest: file.rows for file in before.files} if before is not None else {}
    copies = []
    for file, digest in zip(source.files, source.digests, strict=True):
        stored = digest if blobs.has(digest) else blobs.put_file(file.path)
        if stored != digest:
            raise SourceChangedError(source.table.label, str(source.path))
        place = blobs.path(digest)
        rows = counted.get(digest)
        if rows is None:
            rows = scan_one(place).select(pl.len()).collect().item()
        partition = {name: to_plain(value) for name, value in file.partition.items()}
        copies.append(SnapshotFile(digest=digest, size_bytes=place.stat().st_size, rows=rows, partition=partition))
    _require_unchanged(source)
    return tuple(copies)


def _require_unchanged(source: Source) -> None:
    try:
        is_same = [stat_token(file.path) for file in source.files] == source.tokens
    except FileNotFoundError:
        is_same = False
    if not is_same:
        raise SourceChangedError(source.table.label, str(source.path))


def read_content(content: Content, blobs: LocalBlobStore) -> pl.LazyFrame:
    """Return all rows of a content, in stored order, with instants in UTC.

    Raises:
        NotFoundError: Stored bytes are gone.
    """
    files = [DataFile(blobs.path(file.digest), file.partition) for file in content.files]
    schema = None
    if content.arrow_schema:
        schema = pl.read_ipc(base64.b64decode(content.arrow_schema)).schema
    frame = in_utc(scan_parquet(files, what="snapshot", schema=schema, checked=True), content.instants)
    if not content.has_files:
        return frame
    digest = pl.col(DIGEST)
    return frame.with_columns(
        pl.concat_str(pl.lit(f"{blobs.root}/"), digest.str.head(2), pl.lit("/"), digest).alias(FILE)
    )


def list_blobs(content: Content, blobs: LocalBlobStore) -> Iterator[str]:
    """Yield the digests of a content's blobs: of its files, and of the files that its rows are about."""
    for file in content.files:
        yield file.digest
        if content.has_files and blobs.has_file(file.digest):
            yield from pl.scan_parquet(blobs.path(file.digest)).select(DIGEST).unique().collect()[DIGEST]


def added_files(content: Content, before: Content) -> tuple[SnapshotFile, ...] | None:
    """Return the files of a content that an earlier one did not have; None where it is not that one and more files."""
    is_alike = content.stored == before.stored and content.schema.to_polars() == before.schema.to_polars()
    left = list(content.files)
    for file in before.files:
        if not is_alike or file not in left:
            return None
        left.remove(file)
    return tuple(left) or None


def _scan(source: Source, added: Source | None = None) -> pl.LazyFrame:
    table = source.table
    if source.kind == "csv":
        frame = scan_csv([file.path for file in source.files], nulls=table.nulls, what=table.label, types=table.types)
    elif source.version is not None:
        frame = scan_delta(source.path, source.version)
    elif not source.files:
        raise TableEmptyError(table.label, table.source)
    else:
        if added is not None and source.schema is None:
            paths = {file.path for file in added.files}
            old = next(file for file in source.files if file.path not in paths)
            require_same_columns([old, *added.files], table.label)
        frame = scan_parquet(source.files, what=table.label, schema=source.schema, checked=added is not None)
    frame = _prepare(table, frame)
    columns = frame.collect_schema().names()
    for column, part in table.required_columns.items():
        if column not in columns:
            raise ColumnMissingError(table.label, part, column, columns)
    return frame


def _prepare(table: Table, frame: pl.LazyFrame) -> pl.LazyFrame:
    if table.prepare is None:
        return frame
    try:
        prepared: object = table.prepare(frame)
        if isinstance(prepared, pl.DataFrame):
            prepared = prepared.lazy()
        if not isinstance(prepared, pl.LazyFrame):
            raise PrepareFailedError(table.label, f"it returned {type(prepared).__name__}, not a LazyFrame")
        prepared.collect_schema()
    except pl.exceptions.PolarsError as error:
        raise PrepareFailedError(table.label, first_line(error)) from error
    return prepared


def _is_stored_as_it_lies(source: Source, schema: pl.Schema) -> bool:
    if source.kind == "csv" or source.version is not None or source.table.prepare is not None:
        return False
    zone = source.table.time_zone
    return all(
        is_instant_dtype(schema[column]) and not _is_local(schema[column], zone) for column in instants_of(source.table)
    )


def _is_local(dtype: pl.DataType, zone: str | None) -> bool:
    return zone is not None and isinstance(dtype, pl.Datetime) and dtype.time_zone is None


@contextmanager
def _converted(source: Source, frame: pl.LazyFrame, blobs: LocalBlobStore) -> Iterator[Path]:
    """Write a frame as one Parquet file that is gone at the end unless the block took it over."""
    table, path, parsed = source.table, blobs.unfinished(), blobs.unfinished()
    try:
        with telling_failures(source):
            # The source is read once, here; what follows reads the Parquet file, which is much faster than text.
            frame.sink_parquet(path, sync_on_close="all")
            _require_unchanged(source)
            written = scan_one(path)
            # A table of no rows is refused as such, not for the types that Polars guesses for it.
            if not written.select(pl.len()).collect().item():
                raise TableEmptyError(table.label, table.source)
            Schema.of(written)
            instants = [
                plan_instants(written, column, time_format=table.time_format, what=table.label, zone=table.time_zone)
                for column in instants_of(table)
            ]
            if instants:
                written.with_columns(instants).sink_parquet(parsed, sync_on_close="all")
        yield parsed if instants else path
    finally:
        path.unlink(missing_ok=True)
        parsed.unlink(missing_ok=True)


def _to_text(schema: pl.Schema) -> str:
    written = io.BytesIO()
    pl.DataFrame(schema=schema).write_ipc(written)
    return base64.b64encode(written.getvalue()).decode()
