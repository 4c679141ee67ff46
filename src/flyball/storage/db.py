"""The metadata database: plain SQL over SQLite or PostgreSQL, transactions that are durable when they return.

SQL is written once, in the rooms' ``store.py``, in the dialect that both share; `docs/decisions` says why there is no
SQLAlchemy between (its import alone takes most of an unchanged run's time).
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from flyball.core.errors import InvalidInputError

Params = Sequence[Any]
POSTGRESQL_SCHEMES = ("postgresql", "postgres")
DATABASE_FILE = "flyball.db"
# Homes within a home: slices of its data, and lives lived again. What they do must not mix with what is.
_INNER_HOMES = ("samples", "replays")


_ROW_OF_VALUES = re.compile(r"\bVALUES (\([?, 0-9]+\))(?= ON CONFLICT|$)")


class Row(Protocol):
    """One row of a result: its columns by name or by place, in the order of the query."""

    def __getitem__(self, key: int | str, /) -> Any:
        """Return a column."""

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the columns' values."""

    def __len__(self) -> int:
        """Return how many columns there are."""

    def keys(self) -> list[str]:
        """Return the columns' names."""


class Transaction(Protocol):
    """One unit of work: everything in it becomes durable together, or nothing does."""

    def execute(self, sql: str, params: Params = ()) -> int:
        """Run one statement and return how many rows it changed."""

    def send(self, sql: str, params: Params = ()) -> None:
        """Run one statement; what waits for nobody's answer may fail later, by the commit at the latest."""

    def execute_many(self, sql: str, params: Sequence[Params]) -> None:
        """Run one statement for each set of parameters."""

    def rows(self, sql: str, params: Params = ()) -> list[Row]:
        """Return all rows of a query; columns are read by name."""

    def tuples(self, sql: str, params: Params = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query as plain tuples: for tens of thousands of them, where names would cost time."""

    def row(self, sql: str, params: Params = ()) -> Row | None:
        """Return the first row of a query, or None."""

    def value(self, sql: str, params: Params = ()) -> Any:
        """Return the first column of the first row, or None."""


class Backend(Protocol):
    """A kind of database."""

    def begin(self) -> AbstractContextManager[Transaction]:
        """See `Database.begin`."""

    def begin_now(self) -> AbstractContextManager[Transaction] | None:
        """See `Database.begin_now`."""

    def read(self) -> AbstractContextManager[Transaction]:
        """See `Database.read`."""

    def make_room(self) -> None:
        """See `Database.make_room`."""

    def close(self) -> None:
        """See `Database.close`."""


class Database:
    """Opens transactions on one database. Safe to share between threads and across a fork.

    Args:
        url: ``sqlite:///PATH`` or ``postgresql://USER:PASSWORD@HOST:PORT/NAME``. A file of SQLite is made on first
            use; the schema is made, and older schemas upgraded, in either.
        is_durable: Whether a committed transaction survives a power cut; it survives the process in any case.

    Raises:
        InvalidInputError: The URL names no known kind of database.
        BackendError: The file is not a database, or the schema was written by a newer release.
        BackendUnavailableError: The server does not answer, or lets nobody in by this URL.
    """

    def __init__(self, url: str, *, is_durable: bool = True) -> None:
        self.url = url
        self._backend = _open(url, is_durable)

    @property
    def is_file(self) -> bool:
        """Whether it is a file of this machine, which answers sooner than a thread can be asked to wait for it."""
        return self.url.startswith("sqlite:")

    def begin(self) -> AbstractContextManager[Transaction]:
        """Open a write transaction; it is durable when the block ends, and undone if the block raises.

        Only one write transaction runs at a time; others wait for it.

        Raises:
            BackendUnavailableError: Another process kept the database busy for 30 seconds, the disk is full, or the
                server has gone.
        """
        return self._backend.begin()

    def begin_now(self) -> AbstractContextManager[Transaction] | None:
        """Begin a write transaction as `begin` does, where no other one is open; what is returned must be entered.

        Returns:
            None where it would have to wait, and where the database is a server, for which everything waits.
        """
        return self._backend.begin_now()

    @contextmanager
    def joining(self, tx: Transaction | None) -> Iterator[Transaction]:
        """Work within ``tx`` where one is open already, so that two rooms' changes become durable together."""
        if tx is not None:
            yield tx
            return
        with self.begin() as own:
            yield own

    def read(self) -> AbstractContextManager[Transaction]:
        """Open a read transaction: every query in the block sees the same state.

        Inside a write transaction of the same thread it is part of that one, and sees what it has written.
        """
        return self._backend.read()

    def make_room(self) -> None:
        """Make the file of SQLite's log as long as it will become, for a process that commits often.

        To overwrite a file durably takes two thirds of the time of making it longer. The log goes when the last
        connection is closed: that of the calling thread is to stay open. Nothing is done where another process writes
        just now, or the disk is full.
        """
        self._backend.make_room()

    def close(self) -> None:
        """Close the connections that this thread can close."""
        self._backend.close()


@lru_cache(1024)
def of_many_rows(sql: str, count: int) -> str | None:
    """Return an insertion of one row as one of many; None where it is not written so that that can be done."""
    found = _ROW_OF_VALUES.search(sql)
    if found is None:
        return None
    return sql[: found.start(1)] + ", ".join([found[1]] * count) + sql[found.end(1) :]


def database_url(home: Path, configured: str) -> str:
    """Return where a home's metadata is: in the database that the settings name, else in a file of its own."""
    if configured and home.parent.name not in _INNER_HOMES:
        return configured
    return f"sqlite:///{home / DATABASE_FILE}"


def _open(url: str, is_durable: bool) -> Backend:
    scheme, _, rest = url.partition("://")
    if scheme in POSTGRESQL_SCHEMES:
        from flyball.storage.postgresql import PostgresqlBackend

        return PostgresqlBackend(url, is_durable=is_durable)
    if scheme != "sqlite" or not rest.startswith("/") or len(rest) < 2:
        shown = f"{scheme}://..." if "@" in rest else url  # it may hold a password
        raise InvalidInputError(
            f"{shown!r} is not a database Flyball can open",
            hint="Write it as sqlite:///PATH or postgresql://USER:PASSWORD@HOST:PORT/NAME.",
        )
    from flyball.storage.sqlite import SqliteBackend

    return SqliteBackend(Path(rest[1:]), is_durable=is_durable)
