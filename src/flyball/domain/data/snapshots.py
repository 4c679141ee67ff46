"""Immutable, identified states of tables."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from flyball.core.errors import ConflictError, InvalidInputError, NotFoundError, UnknownNameError
from flyball.domain.data.schemas import Schema


class SnapshotFile(msgspec.Struct, frozen=True, kw_only=True):
    """Stored bytes that a snapshot's rows are read from.

    Attributes:
        digest: The name of the blob.
        size_bytes: Its size.
        rows: How many rows it holds.
        partition: Values of columns that the rows share and the file does not hold.
    """

    digest: str
    size_bytes: int
    rows: int
    partition: dict[str, Any] = {}


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """All rows of a table's source at one moment, stored once; snapshots cut it by what was known when.

    Attributes:
        id: The digest of the source's bytes and of how the declaration reads them.
        files: Where the bytes are.
        stored: ``as it lay``: copies of the source's own files; ``converted``: one Parquet file made from them.
        schema: Columns as they are read.
        rows: How many there are.
        instants: The columns read as UTC instants, in the order time, known.
        time_from: The earliest of ``time``.
        time_to: The latest of ``time``.
        known_from: When the first row became known.
        known_to: When the last row became known.
        has_files: Whether each row is about a file, of which a blob named by the row's ``digest`` is kept.
        arrow_schema: For Delta tables, whose files may lack columns: an empty Arrow file with all columns, base 64.
    """

    id: str
    files: tuple[SnapshotFile, ...]
    stored: Literal["as it lay", "converted"]
    schema: Schema
    rows: int
    instants: tuple[str, ...] = ()
    time_from: datetime | None = None
    time_to: datetime | None = None
    known_from: datetime | None = None
    known_to: datetime | None = None
    arrow_schema: str = ""
    has_files: bool = False


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """An immutable, identified state of a table.

    Attributes:
        id: Equal for equal rows: the digest of the content and of the cut.
        table: The table's name.
        digest: The digest of the content, of which this snapshot has all or the first known rows.
        schema: Columns as they are read.
        rows: How many rows it has.
        time_from: The earliest event.
        time_to: The latest event.
        files: Where the bytes are.
        as_of: Rows that became known later are left out; None if that leaves out none.
        created_at: When it was first made.
        sample: Which share of the rows it has; see `samples`.
    """

    id: str
    table: str
    digest: str
    schema: Schema
    rows: int
    files: tuple[SnapshotFile, ...]
    created_at: datetime
    time_from: datetime | None = None
    time_to: datetime | None = None
    as_of: datetime | None = None
    sample: float = 1.0

    @property
    def size_bytes(self) -> int:
        """How many bytes its files have together."""
        return sum(file.size_bytes for file in self.files)


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """What a watched table held when it was last looked at.

    Attributes:
        table: Its name.
        fingerprint: The state of its source.
        content_id: The content that it had.
        rows: How many rows that has.
        files: In how many files.
    """

    table: str
    fingerprint: str
    content_id: str
    rows: int
    files: int


class SnapshotNotFoundError(NotFoundError):
    """There is no such snapshot."""

    code = "data/snapshot-not-found"

    def __init__(self, snapshot_id: str) -> None:
        super().__init__(f"no snapshot has the id {snapshot_id!r}", hint="Make one with: flyball snapshot TABLE")


class ColumnMissingError(UnknownNameError):
    """A table lacks a column that its declaration relies on."""

    code = "data/column-missing"

    def __init__(self, what: str, part: str, column: str, columns: list[str]) -> None:
        super().__init__(
            f"{part} column of the {what}",
            column,
            columns,
            hint=f"Correct {part}= of the table in the project file, or make the column in prepare=.",
        )


class TableEmptyError(InvalidInputError):
    """A table has no rows."""

    code = "data/table-empty"

    def __init__(self, what: str, source: str) -> None:
        super().__init__(f"the {what} has no rows at {source!r}", hint="Write its rows, or correct the table's source.")


class SchemaChangedError(ConflictError):
    """A table's columns are not those of its last snapshot."""

    code = "data/schema-changed"

    def __init__(self, table: str, changes: list[str]) -> None:
        super().__init__(
            f"the columns of the table {table!r} changed since its last snapshot: {'; '.join(changes)}",
            hint=f"If that is meant: flyball snapshot {table} --accept-schema-change; otherwise correct the source.",
        )
        self.changes = changes


class SourceChangedError(ConflictError):
    """A table's source was written to while it was read."""

    code = "data/source-changed"

    def __init__(self, what: str, source: str) -> None:
        super().__init__(
            f"the {what} was written to while it was read, at {source!r}", hint="Run it again when it is complete."
        )


class PrepareFailedError(InvalidInputError):
    """A table's own prepare function failed."""

    code = "data/prepare-failed"

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"prepare of the {what} failed: {reason}", hint="Correct the function in the project file.")
