"""A Delta table of what was taken from a stream; each commit says how far every partition was taken."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import polars as pl

from flyball.core.clock import monotonic_s
from flyball.core.errors import ConflictError
from flyball.core.files import holding_lock
from flyball.storage.tables.sources import SourceUnreadableError

LOCK = "intake.lock"
_LOCK_WAIT_S = 600.0
_LOCK_POLL_S = 0.05
_MOST_FILES = 64
"""Beyond, many small files are made a few large ones."""
_KEPT = timedelta(days=1)
"""For how long files that were made into larger ones stay, for those who read them still."""


class ColumnTypeChangedError(ConflictError):
    """A column that was taken with one type is declared with another."""

    code = "data/column-type-changed"

    def __init__(self, what: str, column: str, before: str, now: str) -> None:
        super().__init__(
            f"column {column!r} of the {what} was taken as {before} and is declared as {now} now",
            hint="Take the change of types= back, or give the table another name, under which all is read anew.",
        )


class TakenTable:
    """Appends rows once.

    Args:
        path: Its folder.
        schema: The columns of rows that are appended.
        what: The table, for errors.

    Raises:
        ColumnTypeChangedError: It has a column with another type.
        SourceUnreadableError: It is damaged.
    """

    def __init__(self, path: Path, schema: pl.Schema, what: str) -> None:
        self.path = path
        self._schema = schema
        self._what = what
        self._table = self._open()

    @property
    def exists(self) -> bool:
        """Whether anything was recorded."""
        return self._table is not None

    @property
    def has_rows(self) -> bool:
        """Whether any row was taken."""
        return self._table is not None and len(self._table.file_uris()) > 0

    def offset(self, partition: int) -> int | None:
        """Return the offset at which a partition goes on; None if nothing of it was ever taken."""
        if self._table is None:
            return None
        found = self._table.transaction_version(_application(partition))
        return None if found is None else int(found)

    def append(self, rows: Sequence[tuple[Any, ...]], offsets: Mapping[int, int]) -> None:
        """Add rows and say how far partitions are taken by then, both or neither.

        Args:
            rows: Values in the order of the schema. Those of ``kafka_partition`` and ``kafka_offset`` tell which were
                added before a process was killed; they are left out.
            offsets: By partition.

        Raises:
            ConflictError: Somebody else has added to it meanwhile.
        """
        from deltalake import CommitProperties, Transaction, write_deltalake
        from deltalake.exceptions import CommitFailedError

        frame = pl.DataFrame(rows, schema=self._schema, orient="row")
        done = {partition: self.offset(partition) for partition in offsets}
        seen = pl.col("kafka_offset") < pl.col("kafka_partition").replace_strict(
            {partition: offset or 0 for partition, offset in done.items()}, default=0, return_dtype=pl.Int64
        )
        moved = {partition: offset for partition, offset in offsets.items() if (done[partition] or -1) < offset}
        commit = [Transaction(_application(partition), offset) for partition, offset in moved.items()]
        try:
            write_deltalake(
                str(self.path) if self._table is None else self._table,
                frame.filter(~seen) if rows else frame,
                mode="append",
                schema_mode="merge",
                commit_properties=CommitProperties(app_transactions=commit),
            )
        except CommitFailedError as error:
            raise ConflictError(f"the {self._what} is taken by another process", hint="Try again.") from error
        self._table = self._open()

    def tidy(self) -> None:
        """Make one large file of many small ones, now and then."""
        if self._table is not None and len(self._table.file_uris()) > _MOST_FILES:
            self._table.optimize.compact()
            self._table.vacuum(
                retention_hours=int(_KEPT.total_seconds() // 3600), enforce_retention_duration=False, dry_run=False
            )

    def _open(self) -> Any:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        try:
            table = DeltaTable(str(self.path)) if self.path.exists() else None
        except TableNotFoundError:
            return None  # a process was killed before its first commit
        except DeltaError as error:
            raise SourceUnreadableError(self._what, self.path, str(error)) from error
        if table is not None:
            stored = pl.Schema(table.schema())
            for name, dtype in self._schema.items():
                if name in stored and stored[name] != dtype:
                    raise ColumnTypeChangedError(self._what, name, str(stored[name]), str(dtype))
        return table


def _application(partition: int) -> str:
    return f"flyball/{partition}"


@contextmanager
def holding_stream(keep: Path) -> Iterator[None]:
    """Be the only one that takes messages into a table, or copies what was taken; wait for others.

    Raises:
        ConflictError: Another process has been at it for ten minutes.
    """
    deadline = monotonic_s() + _LOCK_WAIT_S
    while True:
        try:
            lock: Any = holding_lock(keep / LOCK, held_message=f"another process takes messages into {keep.name!r}")
            lock.__enter__()
            break
        except ConflictError:
            if monotonic_s() > deadline:
                raise
            Event().wait(_LOCK_POLL_S)
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def list_streams(folder: Path) -> list[Path]:
    """Return the folders of the tables that come from streams."""
    return sorted(lock.parent for lock in folder.glob(f"*/{LOCK}"))
