"""SQLite: one file, readers that never wait, one writer at a time."""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from flyball.core.errors import BackendError, BackendUnavailableError
from flyball.core.files import FileRefusedError
from flyball.storage.db import Params, of_many_rows
from flyball.storage.schema import BOOKKEEPING, counted_names, migration_names, missing_names, read_statements

_BUSY_TIMEOUT_MS = 30_000
_LENGTHS = (100, 10)
# SQLite begins its log of changes anew after 1,000 pages of 4 KB; a large transaction may come on top.
_ROOM_BYTES = 4_400_000
# What may pass, and what to do about it.
_PASSING = {
    sqlite3.SQLITE_FULL: "Free some space on its disk; what was told to be kept is kept.",
    sqlite3.SQLITE_IOERR: "See whether its disk is full or fails; what was told to be kept is kept.",
    sqlite3.SQLITE_BUSY: "Another process holds it; try again in a moment.",
    sqlite3.SQLITE_LOCKED: "Another process holds it; try again in a moment.",
}
_REFUSED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class SqliteTransaction:
    """See `Transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, params: Params = ()) -> int:
        """See `Transaction.execute`."""
        return self._connection.execute(sql, params).rowcount

    def send(self, sql: str, params: Params = ()) -> None:
        """See `Transaction.send`."""
        self._connection.execute(sql, params)

    def execute_many(self, sql: str, params: Sequence[Params]) -> None:
        """See `Transaction.execute_many`."""
        # Many rows in one statement are twice as fast. Of a few lengths only, so that each is prepared once.
        start = 0
        for length in _LENGTHS:
            text = of_many_rows(sql, length) if len(params) - start >= length else None
            while text is not None and len(params) - start >= length:
                values = [value for row in params[start : start + length] for value in row]
                self._connection.execute(text, values)
                start += length
        if start < len(params):
            self._connection.executemany(sql, params[start:])

    def rows(self, sql: str, params: Params = ()) -> list[Any]:
        """See `Transaction.rows`."""
        return self._connection.execute(sql, params).fetchall()

    def tuples(self, sql: str, params: Params = ()) -> list[tuple[Any, ...]]:
        """See `Transaction.tuples`."""
        cursor = self._connection.cursor()
        cursor.row_factory = None
        return cursor.execute(sql, params).fetchall()

    def row(self, sql: str, params: Params = ()) -> Any:
        """See `Transaction.row`."""
        return self._connection.execute(sql, params).fetchone()

    def value(self, sql: str, params: Params = ()) -> Any:
        """See `Transaction.value`."""
        found = self.row(sql, params)
        return None if found is None else found[0]


class SqliteBackend:
    """See `Database`; each thread has a connection of its own.

    Args:
        path: The file.
        is_durable: Whether a commit waits for the disk.
    """

    def __init__(self, path: Path, *, is_durable: bool) -> None:
        self._path = path
        self._synchronous = "FULL" if is_durable else "NORMAL"
        self._local = threading.local()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _migrate(self._connection())
        except sqlite3.DatabaseError as error:
            if _code(error) not in _DAMAGED:
                self._tell(error)
            raise BackendError(
                f"{str(path)!r} cannot be opened as a database: {error}",
                hint="Restore it from a backup, or choose another folder with --home.",
            ) from error

    @contextmanager
    def begin(self) -> Iterator[SqliteTransaction]:
        """See `Database.begin`."""
        try:
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.DatabaseError as error:
            self._tell(error)
            raise
        with self._committing(connection) as tx:
            yield tx

    def begin_now(self) -> AbstractContextManager[SqliteTransaction] | None:
        """See `Database.begin_now`."""
        connection = self._connection()
        connection.execute("PRAGMA busy_timeout = 0")
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return None
        finally:
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        return self._committing(connection)

    @contextmanager
    def _committing(self, connection: sqlite3.Connection) -> Iterator[SqliteTransaction]:
        """End an open transaction: keep what was done, or undo it if the block raises."""
        try:
            yield SqliteTransaction(connection)
            connection.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            _undo(connection)
            self._tell(error)
            raise
        except BaseException:
            _undo(connection)
            raise

    @contextmanager
    def read(self) -> Iterator[SqliteTransaction]:
        """See `Database.read`."""
        try:
            connection = self._connection()
            if connection.in_transaction:
                yield SqliteTransaction(connection)
                return
            connection.execute("BEGIN")
            try:
                yield SqliteTransaction(connection)
            finally:
                _undo(connection)
        except sqlite3.DatabaseError as error:
            self._tell(error)
            raise

    def _tell(self, error: sqlite3.DatabaseError) -> None:
        """Raise in words what is wrong with the file or its disk; what is wrong with a statement is left to others."""
        code = _code(error)
        path = str(self._path)
        if code in _PASSING:
            message = f"the database {path!r} could not be used: {error}"
            raise BackendUnavailableError(message, hint=_PASSING[code]) from error
        if code in _REFUSED:
            raise FileRefusedError(path, str(error)) from error
        if code in _DAMAGED:
            raise BackendError(
                f"the database {path!r} is damaged: {error}",
                hint="Restore it from a backup, or fill another home with: flyball import flyball ARCHIVE.",
            ) from error

    def make_room(self) -> None:
        """See `Database.make_room`."""
        self._connection()  # without another one, the log would go when that below is closed
        connection = self._open()
        try:
            connection.execute("PRAGMA busy_timeout = 0")
            # What fits no cache is written to the log before it is kept; undone, it leaves the log as long.
            connection.execute("PRAGMA cache_size = 10")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE room (content)")
            connection.execute(f"INSERT INTO room VALUES (zeroblob({_ROOM_BYTES}))")
        except sqlite3.OperationalError:
            pass  # the log will grow as it is written
        finally:
            _undo(connection)
            connection.close()

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
            connection = self._local.connection = self._open()
        return connection

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=_BUSY_TIMEOUT_MS / 1000)
        connection.row_factory = sqlite3.Row
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA case_sensitive_like = ON")  # as in PostgreSQL
        return connection


def _code(error: sqlite3.DatabaseError) -> int:
    # The upper bits tell finer kinds; a misuse of the module itself has no code.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _undo(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to this release, one numbered file after the other, all in one transaction."""
    known = migration_names()
    if not missing_names(known, _applied(connection) or ()):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        applied = _applied(connection)
        if applied is None:
            connection.execute(BOOKKEEPING)
            applied = counted_names(known, connection.execute("PRAGMA user_version").fetchone()[0])
            connection.executemany("INSERT INTO schema_migration (name) VALUES (?)", [(name,) for name in applied])
        for name in missing_names(known, applied):
            for statement in read_statements(name):
                connection.execute(statement)
            connection.execute("INSERT INTO schema_migration (name) VALUES (?)", (name,))
        connection.execute("COMMIT")
    except BaseException:
        _undo(connection)
        raise


def _applied(connection: sqlite3.Connection) -> list[str] | None:
    """Return the names of the files that were carried out; None where no table tells."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_migration'").fetchone():
        return None
    return [name for (name,) in map(tuple, connection.execute("SELECT name FROM schema_migration"))]
