from pathlib import Path

import pytest

from flyball.core.errors import BackendError, InvalidInputError
from flyball.storage.db import Database


@pytest.fixture
def db(tmp_path: Path) -> Database:
    made = Database(f"sqlite:///{tmp_path / 'a.db'}")
    with made.begin() as tx:
        tx.execute("CREATE TABLE thing (name TEXT)")
    return made


def names(db: Database) -> list[str]:
    with db.read() as tx:
        return [row["name"] for row in tx.rows("SELECT name FROM thing ORDER BY name")]


def test_a_block_that_raises_leaves_nothing(db: Database) -> None:
    with pytest.raises(ValueError, match="no"), db.begin() as tx:
        tx.execute("INSERT INTO thing VALUES ('a')")
        raise ValueError("no")
    assert names(db) == []


def test_reading_inside_a_write_transaction_sees_it_and_does_not_end_it(db: Database) -> None:
    with db.begin() as tx:
        tx.execute("INSERT INTO thing VALUES ('a')")
        assert names(db) == ["a"]
        tx.execute("INSERT INTO thing VALUES ('b')")
    assert names(db) == ["a", "b"]


def test_an_error_of_a_read_inside_a_write_transaction_undoes_all_of_it(db: Database) -> None:
    with pytest.raises(ValueError, match="no"), db.begin() as tx:
        tx.execute("INSERT INTO thing VALUES ('a')")
        with db.read():
            raise ValueError("no")
    assert names(db) == []


def test_a_database_of_a_newer_release_or_of_another_kind_is_refused(tmp_path: Path, db: Database) -> None:
    with db.begin() as tx:
        tx.execute("PRAGMA user_version = 9999")
    db.close()
    with pytest.raises(BackendError, match="newer than this release"):
        Database(db.url)
    with pytest.raises(InvalidInputError, match="oracle"):
        Database("oracle:///a")
    (tmp_path / "b.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(BackendError, match=r"b\.db"):
        Database(f"sqlite:///{tmp_path / 'b.db'}")
