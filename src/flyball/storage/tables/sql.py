"""Tables of databases: a query's rows, streamed into one Parquet file through an ADBC driver."""

import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from flyball.core.errors import BackendUnavailableError, InvalidInputError, PluginError
from flyball.core.hashing import digest_value
from flyball.storage.tables.csv import first_line
from flyball.storage.tables.port import Asked, DigestFiles, Found
from flyball.storage.tables.sources import DataFile, stat_token
from flyball.storage.tables.urls import ANY, DRIVERS, expand, mask, sqlite_path

_PART = r'(?:[A-Za-z_][\w$]*|"[^"]+")'
_NAME = re.compile(rf"{_PART}(?:\.{_PART}){{0,2}}")
_PLAIN_COLUMN = re.compile(r"[a-z_][a-z0-9_]*")
# Names of times and keys that are words of SQL, in every database that quotes names in the standard's way.
_RESERVED = {
    *("all", "asc", "case", "check", "default", "desc", "end", "from", "group", "limit", "offset", "order", "table"),
    *("to", "unique", "user", "when"),
}


class DatabaseUnreachableError(BackendUnavailableError):
    """A database of a table does not answer."""

    code = "data/database-unreachable"

    def __init__(self, what: str, url: str, reason: str) -> None:
        super().__init__(
            f"the {what} cannot be read: {mask(url)} does not answer ({reason})",
            hint="See that the database runs and that the URL's host, user and password are right; then try again.",
        )


class QueryRefusedError(InvalidInputError):
    """A database refuses a table's query."""

    code = "data/query-refused"

    def __init__(self, what: str, query: str, reason: str) -> None:
        super().__init__(f"the query of the {what} was refused: {reason}", hint=f"Correct sql= of the table: {query}")


class DriverMissingError(PluginError):
    """The driver of a database is not installed."""

    code = "data/driver-missing"

    def __init__(self, what: str, driver: str, install: str) -> None:
        super().__init__(
            f"the {what} needs the driver {driver!r}, which is not installed", hint=f"Install it: {install}"
        )


class DatabaseSource:
    """See `TableSource`.

    Args:
        asked: The declaration.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    def fingerprint(self) -> str:
        """See `TableSource.fingerprint`. How many rows there are and the newest instant; of SQLite its files' state."""
        asked = self._asked
        local = sqlite_path(asked.source, asked.root)
        if local is not None and local.exists():
            logs = [local, local.with_name(local.name + "-wal")]
            return digest_value([stat_token(file) for file in logs if file.exists()])
        newest = None if asked.newest is None else _quoted(asked.newest, asked.source)
        statement = count_rows(asked.sql, newest)
        return digest_value(fetch_one(asked.source, statement, root=asked.root, what=asked.what))

    def open(self, scratch: Path, digest_files: DigestFiles) -> Found:
        """See `TableSource.open`."""
        asked = self._asked
        statement = select_rows(asked.sql, [_quoted(name, asked.source) for name in asked.order])
        fetch_rows(asked.source, statement, scratch, root=asked.root, what=asked.what)
        return Found("parquet", scratch, [DataFile(scratch, {})])


def _quoted(column: str, source: str) -> str:
    """Return a column's name as SQL has it: one with capitals or spaces would be another without quotes.

    Other drivers than ours may be of databases where double quotes make a text.
    """
    if source.startswith(ANY) or (_PLAIN_COLUMN.fullmatch(column) and column not in _RESERVED):
        return column
    return '"' + column.replace('"', '""') + '"'


def select_rows(sql: str, order: Sequence[str] = ()) -> str:
    """Return the statement that reads a table or a query: rows in a known order wherever one was declared."""
    text = sql.strip().rstrip(";").strip()
    query = f"SELECT * FROM {text}" if _NAME.fullmatch(text) else text
    if not order or re.search(r"\border\s+by\b(?![^()]*\))", text, re.IGNORECASE):
        return query
    return f"SELECT * FROM ({query}) AS flyball_rows ORDER BY {', '.join(order)}"


def count_rows(sql: str, newest: str | None) -> str:
    """Return the statement that tells cheaply whether rows came: how many there are, and the newest instant."""
    latest = f", max({newest})" if newest else ""
    return f"SELECT count(*){latest} FROM ({select_rows(sql)}) AS flyball_rows"


def fetch_rows(source: str, statement: str, target: Path, *, root: Path, what: str) -> None:
    """Write a statement's rows into a Parquet file, batch by batch.

    Raises:
        DriverMissingError: The driver is not installed.
        DatabaseUnreachableError: The database does not answer.
        QueryRefusedError: It refuses the statement.
    """
    with _executed(source, statement, root, what) as cursor:
        try:
            _write(cursor.fetch_record_batch(), target)
        except cursor.adbc_error as error:
            raise QueryRefusedError(what, statement, first_line(error)) from error


def fetch_one(source: str, statement: str, *, root: Path, what: str) -> list[str]:
    """Return the first row of a statement, as text. See `fetch_rows`."""
    with _executed(source, statement, root, what) as cursor:
        return [str(value) for value in cursor.fetchone() or ()]


class _executed:  # noqa: N801  a context manager, used like a function
    def __init__(self, source: str, statement: str, root: Path, what: str) -> None:
        self._url, self._statement, self._what = expand(source, what), statement, what
        self._path = sqlite_path(self._url, root)
        self._connection: Any = None

    def __enter__(self) -> Any:
        connect, errors = _driver(self._url, self._path, self._what)
        try:
            self._connection = connect()
            cursor = self._connection.cursor()
        except errors as error:
            raise DatabaseUnreachableError(self._what, self._url, first_line(error)) from error
        try:
            cursor.execute(self._statement)
        except errors as error:
            cursor.close()
            self.__exit__()
            raise QueryRefusedError(self._what, self._statement, first_line(error)) from error
        cursor.adbc_error = errors
        self._cursor = cursor
        return cursor

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "_cursor"):
            self._cursor.close()
        self._connection.close()


def _driver(url: str, path: Path | None, what: str) -> tuple[Any, Any]:
    scheme, _, rest = url.partition("://")
    if scheme.startswith(ANY):
        name = scheme.removeprefix(ANY)
        module, install = "adbc_driver_manager", f"pip install {name.replace('_', '-')}"
    else:
        module, extra = DRIVERS[scheme]
        install = f"pip install 'flyball[{extra}]'"
    try:
        dbapi = import_module(f"{module}.dbapi")
        import_module("pyarrow.parquet")
    except ImportError as error:
        raise DriverMissingError(what, module, install) from error
    if scheme.startswith(ANY):
        return lambda: dbapi.connect(driver=name, db_kwargs={"uri": rest}), dbapi.Error
    if path is not None:
        if not path.exists():  # the driver would make an empty database
            raise DatabaseUnreachableError(what, url, f"there is no file at {str(path)!r}")
        return lambda: dbapi.connect(str(path)), dbapi.Error
    return lambda: dbapi.connect(rest if scheme == "snowflake" else url), dbapi.Error


def _write(reader: Any, target: Path) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    # PostgreSQL's NUMERIC arrives as text of a type that only says so; it is a number to everybody else.
    numeric = {n for n, field in enumerate(reader.schema) if getattr(field.type, "type_name", "") == "numeric"}
    schema = pa.schema([_plain(field, n in numeric) for n, field in enumerate(reader.schema)])
    with pq.ParquetWriter(target, schema, store_schema=False) as writer:
        for batch in reader:
            columns = [
                pc.cast(column.storage, pa.float64()) if n in numeric else getattr(column, "storage", column)
                for n, column in enumerate(batch.columns)
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def _plain(field: Any, is_numeric: bool) -> Any:
    import pyarrow as pa

    return pa.field(field.name, pa.float64() if is_numeric else getattr(field.type, "storage_type", field.type))
