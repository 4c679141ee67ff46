"""Many rows at once are kept as one by one, whatever their number."""

from pathlib import Path

import pytest

from flyball.storage.db import Database, of_many_rows
from tests.servers import PostgresqlServer

INSERT = "INSERT INTO place (row, name) VALUES (?, ?)"


@pytest.fixture(params=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if request.param == "sqlite":
        made = Database(f"sqlite:///{tmp_path / 'a.db'}", is_durable=False)
    else:
        server: PostgresqlServer = request.getfixturevalue("postgresql_server")
        made = Database(server.new_database())
    with made.begin() as tx:
        tx.execute("CREATE TABLE place (row BIGINT PRIMARY KEY, name TEXT)")
    return made


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 99, 100, 257])
def test_every_row_is_kept_once(db: Database, count: int) -> None:
    rows = [(row, f"n{row}") for row in range(count)]
    with db.begin() as tx:
        tx.execute_many(INSERT, rows)
        tx.execute_many(f"{INSERT} ON CONFLICT DO NOTHING", [(row, "again") for row, _ in rows])
    with db.read() as tx:
        assert tx.tuples("SELECT row, name FROM place ORDER BY row") == rows
    db.close()


@pytest.mark.parametrize("count", [2, 10, 123])
def test_of_rows_that_change_the_same_row_the_last_one_stays(db: Database, count: int) -> None:
    with db.begin() as tx:
        tx.execute_many(
            f"{INSERT} ON CONFLICT (row) DO UPDATE SET name = excluded.name", [(1, f"n{row}") for row in range(count)]
        )
    with db.read() as tx:
        assert tx.tuples("SELECT row, name FROM place") == [(1, f"n{count - 1}")]
    db.close()


def test_statements_that_are_not_one_row_of_marks_stay_as_they_are() -> None:
    assert of_many_rows("UPDATE place SET name = ? WHERE row = ?", 2) is None
    assert of_many_rows("INSERT INTO place (row, name) VALUES (?, lower(?))", 2) is None
    assert of_many_rows("INSERT INTO place (row, name) VALUES (?, 'VALUES (?)')", 2) is None
    assert of_many_rows(INSERT, 2) == "INSERT INTO place (row, name) VALUES (?, ?), (?, ?)"
