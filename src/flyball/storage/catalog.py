"""What tables there are, of which columns, and their rows page by page: for whoever takes everything along."""

import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import msgspec

from flyball.storage.db import Transaction
from flyball.storage.schema import migration_names, read_statements

# What says which migrations a database has seen is not content.
_BOOKKEEPING = ("schema_migration",)
_FIRST_PAGE = 1_000
_MOST_ROWS = 200_000


class Column(msgspec.Struct, frozen=True):
    """A column; ``kind`` is INTEGER, REAL, TEXT or BLOB."""

    name: str
    kind: str


class TableShape(msgspec.Struct, frozen=True, kw_only=True):
    """A table.

    Attributes:
        key: The columns that its rows are told apart and sorted by; all of them where it has no primary key.
        has_key: Whether it has a primary key, so that no two rows are the same.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    has_key: bool


@cache
def list_shapes() -> tuple[TableShape, ...]:
    """Return every table, by name: what the migrations make, whatever database keeps it."""
    connection = sqlite3.connect(":memory:")
    try:
        for name in migration_names():
            for statement in read_statements(name):
                connection.execute(statement)
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        return tuple(_shape(connection, name) for (name,) in rows if name not in _BOOKKEEPING)
    finally:
        connection.close()


def read_pages(tx: Transaction, shape: TableShape, target_bytes: int) -> Iterator[list[tuple[Any, ...]]]:
    """Yield all rows of a table by its key, in pages of about so many bytes.

    The pages depend on the rows alone, so the same rows come in the same pages from any database.
    """
    names = ", ".join(column.name for column in shape.columns)
    key = ", ".join(shape.key)
    places = [[column.name for column in shape.columns].index(name) for name in shape.key]
    # Without a key rows may be the same: they come once, with their number.
    select, group = (names, "") if shape.has_key else (f"{names}, count(*)", f" GROUP BY {names}")
    limit, last = _FIRST_PAGE, None
    while True:
        where, params = "", list[Any]()
        if last is not None:
            where, params = f" WHERE ({key}) > ({', '.join('?' * len(places))})", last
        rows = tx.tuples(f"SELECT {select} FROM {shape.name}{where}{group} ORDER BY {key} LIMIT ?", [*params, limit])
        if rows:
            yield rows if shape.has_key else [row[:-1] for row in rows for _ in range(row[-1])]
        if len(rows) < limit:
            return
        last = [rows[-1][place] for place in places]
        size = sum(_size(row) for row in rows)
        limit = max(1, min(_MOST_ROWS, limit * target_bytes // max(size, 1)))


def insert_rows(tx: Transaction, shape: TableShape, rows: Sequence[tuple[Any, ...]]) -> None:
    """Add rows, whose values are in the order of the table's columns."""
    names = ", ".join(column.name for column in shape.columns)
    marks = ", ".join("?" * len(shape.columns))
    tx.execute_many(f"INSERT INTO {shape.name} ({names}) VALUES ({marks})", rows)


def clear_table(tx: Transaction, shape: TableShape) -> None:
    """Remove all rows."""
    tx.execute(f"DELETE FROM {shape.name}")


def count_rows(tx: Transaction, shape: TableShape) -> int:
    """Return how many rows a table has."""
    return int(tx.value(f"SELECT count(*) FROM {shape.name}"))


def _shape(connection: sqlite3.Connection, name: str) -> TableShape:
    # A column of a result: place, name, type, whether it must not be NULL, default, place in the primary key from 1.
    found = connection.execute(f"PRAGMA table_info({name})").fetchall()
    columns = tuple(Column(row[1], row[2].upper()) for row in found)
    key = tuple(row[1] for row in sorted((row for row in found if row[5]), key=lambda row: row[5]))
    return TableShape(
        name=name, columns=columns, key=key or tuple(column.name for column in columns), has_key=bool(key)
    )


def _size(row: tuple[Any, ...]) -> int:
    return sum(len(value) if isinstance(value, str | bytes) else 8 for value in row)
