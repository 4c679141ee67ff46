"""Many rows as arrays: PostgreSQL keeps what it would keep of the rows one by one."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyball.storage.db import Database
from flyball.storage.postgresql_rows import as_arrays
from tests.servers import PostgresqlServer

_INSERT = "INSERT INTO thing (name, size, weight, note) VALUES (?, ?, ?, ?)"
_PUT = (
    f"{_INSERT} ON CONFLICT (name) DO UPDATE SET size = excluded.size, weight = excluded.weight, note = excluded.note"
)
_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6) | st.sampled_from(
    ["", "NULL", '"', "\\", '\\"', "{}", "a,b", "{a}", " a ", "'", "?", "$1", "\n"]
)
_SIZES = st.integers(-(2**63), 2**63 - 1)
_ROWS = st.lists(
    st.tuples(_TEXTS, _SIZES | st.none() | st.booleans(), st.floats() | st.none(), _TEXTS | st.none()), max_size=8
)


@pytest.fixture(scope="module")
def db(postgresql_server: PostgresqlServer) -> Database:
    made = Database(postgresql_server.new_database())
    with made.begin() as tx:
        tx.execute("CREATE TABLE thing (name TEXT PRIMARY KEY, size BIGINT, weight DOUBLE PRECISION, note TEXT)")
    return made


def keep(db: Database, sql: str, rows: Sequence[Sequence[Any]], *, together: bool) -> list[tuple[Any, ...]]:
    with db.begin() as tx:
        tx.execute("DELETE FROM thing")
        if together:
            tx.execute_many(sql, rows)
        else:
            for row in rows:
                tx.execute(sql, row)
        kept = tx.tuples("SELECT name, size, weight, note FROM thing ORDER BY name")
    return [(*row[:2], "NaN" if row[2] is not None and math.isnan(row[2]) else row[2], row[3]) for row in kept]


@given(_ROWS)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_kept_together_is_what_is_kept_one_by_one(db: Database, rows: list[tuple[Any, ...]]) -> None:
    for sql in (_PUT, f"{_INSERT} ON CONFLICT DO NOTHING"):
        assert keep(db, sql, rows, together=True) == keep(db, sql, rows, together=False)


def test_rows_that_would_change_each_other_go_one_by_one() -> None:
    twice = [("a", 1, 1.0, None), ("a", 2, 2.0, None)]
    assert as_arrays(_PUT, twice) is None
    assert as_arrays(f"{_INSERT} ON CONFLICT DO NOTHING", twice) is not None


def test_a_column_without_values_and_one_of_several_kinds() -> None:
    text, arrays = as_arrays(_INSERT, [("a", 1, None, None), ("b", None, None, None)]) or ("", [])
    assert text.endswith("SELECT c0, c1, NULL, NULL FROM unnest(?::text[], ?::bigint[]) AS given (c0, c1)")
    assert arrays == ['{"a","b"}', "{1,NULL}"]
    assert as_arrays(_INSERT, [("a", 1, 1.0, None), ("b", 1, 1, None)]) is None


def test_what_is_no_insertion_of_a_row_goes_one_by_one() -> None:
    assert as_arrays("UPDATE thing SET size = ? WHERE name = ?", [(1, "a"), (2, "b")]) is None
    assert as_arrays("INSERT INTO thing (name, size) VALUES (?, 0)", [("a",), ("b",)]) is None
