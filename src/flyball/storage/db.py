"""The metadata database: plain SQL over SQLite, transactions that are durable when they return.

SQL is written once, in the rooms' ``store.py``, in the dialect that SQLite and PostgreSQL share; `docs/decisions`
says why there is no SQLAlchemy between (its import alone takes most of an unchanged run's time).
"""

import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from flyball.core.errors import BackendError, BackendUnavailableError, InvalidInputError

Row = sqlite3.Row
Params = Sequence[Any] | Mapping[str, Any]
_BUSY_TIMEOUT_MS = 30_000


class Transaction:
    """One unit of work: everything in it becomes durable together, or nothing does."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, params: Params = ()) -> int:
        """Run one statement and return how many rows it changed."""
        return self._connection.execute(sql, params).rowcount

    def execute_many(self, sql: str, params: Sequence[Params]) -> None:
        """Run one statement for each set of parameters."""
        self._connection.executemany(sql, params)

    def insert(self, sql: str, params: Params = ()) -> int:
        """Run an INSERT and return the number that the database gave the row."""
        return int(self._connection.execute(sql, params).lastrowid or 0)

    def rows(self, sql: str, params: Params = ()) -> list[Row]:
        """Return all rows of a query; columns are read by name."""
        return self._connection.execute(sql, params).fetchall()

    def tuples(self, sql: str, params: Params = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query as plain tuples: for tens of thousands of them, where names would cost time."""
        cursor = self._connection.cursor()
        cursor.row_factory = None
        return cursor.execute(sql, params).fetchall()

    def row(self, sql: str, params: Params = ()) -> Row | None:
        """Return the first row of a query, or None."""
        found: Row | None = self._connection.execute(sql, params).fetchone()
        return found

    def value(self, sql: str, params: Params = ()) -> Any:
        """Return the first column of the first row, or None."""
        found = self.row(sql, params)
        return None if found is None else found[0]


class Database:
    """Opens transactions on one database. Safe to share between threads and across a fork.

    Args:
        url: ``sqlite:///PATH``. The file and its schema are made, and older schemas upgraded, on first use.
        is_durable: Whether a committed transaction survives a power cut; it survives the process in any case.

    Raises:
        InvalidInputError: The URL names no known kind of database.
        BackendError: The file is not a database, or was written by a newer release.
    """

    def __init__(self, url: str, *, is_durable: bool = True) -> None:
        scheme, _, path = url.partition(":///")
        if scheme != "sqlite" or not path:
            raise InvalidInputError(f"{url!r} is not a database Flyball can open", hint="Write it as sqlite:///PATH.")
        self.url = url
        self._path = Path(path)
        self._synchronous = "FULL" if is_durable else "NORMAL"
        self._local = threading.local()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _migrate(self._connection())
        except sqlite3.DatabaseError as error:
            raise BackendError(
                f"{path!r} cannot be opened as a database: {error}",
                hint="Restore it from a backup, or choose another folder with --home.",
            ) from error

    @contextmanager
    def begin(self) -> Iterator[Transaction]:
        """Open a write transaction; it is durable when the block ends, and undone if the block raises.

        Only one write transaction runs at a time; others wait for it.

        Raises:
            BackendUnavailableError: Another process kept the database busy for 30 seconds, or the disk is full.
        """
        connection = self._connection()
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise BackendUnavailableError(f"the database is busy: {error}") from error
        try:
            yield Transaction(connection)
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            _undo(connection)
            if "full" in str(error) or "locked" in str(error) or "I/O" in str(error):
                raise BackendUnavailableError(f"the database could not be written: {error}") from error
            raise
        except BaseException:
            _undo(connection)
            raise

    @contextmanager
    def joining(self, tx: Transaction | None) -> Iterator[Transaction]:
        """Work within ``tx`` where one is open already, so that two rooms' changes become durable together."""
        if tx is not None:
            yield tx
            return
        with self.begin() as own:
            yield own

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Open a read transaction: every query in the block sees the same state.

        Inside a write transaction of the same thread it is part of that one, and sees what it has written.
        """
        connection = self._connection()
        if connection.in_transaction:
            yield Transaction(connection)
            return
        connection.execute("BEGIN")
        try:
            yield Transaction(connection)
        finally:
            _undo(connection)

    def close(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def _connection(self) -> sqlite3.Connection:
        # SQLite forbids carrying a connection across a fork, so it belongs to a thread of a process.
        if getattr(self._local, "pid", None) != os.getpid():
            self._local.connection, self._local.pid = None, os.getpid()
        connection: sqlite3.Connection | None = self._local.connection
        if connection is None:
            connection = sqlite3.connect(self._path, isolation_level=None, timeout=_BUSY_TIMEOUT_MS / 1000)
            connection.row_factory = sqlite3.Row
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA case_sensitive_like = ON")  # as in PostgreSQL
            self._local.connection = connection
        return connection


def _undo(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to this release, one numbered file after the other, all in one transaction."""
    files = sorted(
        (entry for entry in resources.files("flyball.storage.migrations").iterdir() if entry.name.endswith(".sql")),
        key=lambda entry: entry.name,
    )
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == len(files):
        return
    if version > len(files):
        raise BackendError(
            f"the database has schema {version}, newer than this release knows ({len(files)})",
            hint="Install the release of Flyball that wrote it, or a newer one.",
        )
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for file in files[version:]:
            for statement in file.read_text(encoding="utf-8").split(";\n"):
                if statement.strip():
                    connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(files)}")
        connection.execute("COMMIT")
    except BaseException:
        _undo(connection)
        raise
