"""What a table's source is: something that tells cheaply whether it has changed, and gives its rows as files."""

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

import polars as pl

from flyball.storage.tables.sources import DataFile, Kind

DigestFiles = Callable[[list[Path]], list[str]]


class Asked(NamedTuple):
    """What a declaration says of its source.

    Attributes:
        source: A path or a URL, as it is written.
        root: Where relative paths start.
        what: The table, for errors.
        keep: A folder of the table's own, for sources that keep what they took.
        files: Of a folder: which of its files are rows.
        sql: Of a database: a table's name, or a query.
        order: The columns by which rows are in a known order.
        newest: The column that tells the newest row.
        types: Declared types of columns.
        time_zone: The zone of times that name none.
        version: Of a versioned source: which one, as a number or an instant.
        has_times: Whether the times of files are columns that the declaration uses.
    """

    source: str
    root: Path
    what: str
    keep: Path
    files: str = ""
    sql: str = ""
    order: tuple[str, ...] = ()
    newest: str | None = None
    types: Mapping[str, str] = {}
    time_zone: str | None = None
    version: int | datetime | None = None
    has_times: bool = False

    @property
    def path(self) -> Path:
        """The source as a path."""
        return self.root / Path(self.source).expanduser()


class Found(NamedTuple):
    """The files that hold a source's rows at one moment.

    Attributes:
        kind: Their format.
        path: Where they lie.
        files: They; of a Delta table those that are active.
        schema: All columns of a Delta table.
        version: The version of a Delta table whose rows only a Delta reader can tell.
        members: Files that rows are about, to be kept with them.
    """

    kind: Kind
    path: Path
    files: list[DataFile]
    schema: pl.Schema | None = None
    version: int | None = None
    members: Mapping[str, Path] = {}


class TableSource(Protocol):
    """One table's source. Made by an entry point of the group ``flyball.tables``, which is called with `Asked`."""

    def fingerprint(self) -> str:
        """Return a token that changes when the rows do; cheap enough to be asked for every second.

        Raises:
            NotFoundError: There is no source.
            BackendUnavailableError: It does not answer.
        """
        ...

    def open(self, scratch: Path, digest_files: DigestFiles) -> Found:
        """Return the files of the present rows; the same files for the same rows.

        Args:
            scratch: The name of a file to be, for rows that must be fetched; it is removed when they were read.
            digest_files: Returns the digests of files.

        Raises:
            NotFoundError: There is no source.
            BackendError: It is damaged or does not answer.
            InvalidInputError: The declaration does not fit it.
        """
        ...


Opener = Callable[[Asked], TableSource]
