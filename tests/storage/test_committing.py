"""Group commit: each caller's work is kept or undone alone, and durable before its caller hears."""

import sqlite3
import threading
from pathlib import Path

import pytest

from flyball.core.errors import BackendUnavailableError
from flyball.storage.committing import GroupCommitter, commit_now, commit_together
from flyball.storage.db import Database, Transaction


@pytest.fixture
def db(tmp_path: Path) -> Database:
    db = Database(f"sqlite:///{tmp_path / 'test.db'}", is_durable=False)
    with db.begin() as tx:
        tx.execute("CREATE TABLE note (text TEXT PRIMARY KEY)")
    return db


def note(text: str, *, fails: bool = False) -> object:
    def work(tx: Transaction) -> str:
        tx.execute("INSERT INTO note (text) VALUES (?)", (text,))
        if fails:
            raise ValueError(text)
        return text

    return work


def read(db: Database) -> list[str]:
    with db.read() as tx:
        return [row[0] for row in tx.rows("SELECT text FROM note ORDER BY text")]


def test_a_piece_that_fails_is_undone_alone(db: Database) -> None:
    outcomes = commit_together(db, [note("a"), note("b", fails=True), note("c"), note("a")])  # type: ignore[list-item]
    assert [result for result, _ in outcomes] == ["a", None, "c", None]
    assert isinstance(outcomes[1][1], ValueError)
    assert isinstance(outcomes[3][1], sqlite3.IntegrityError)
    assert read(db) == ["a", "c"]
    db.close()


def test_a_piece_that_fails_by_itself_leaves_nothing(db: Database) -> None:
    assert isinstance(commit_together(db, [note("a", fails=True)])[0][1], ValueError)  # type: ignore[list-item]
    assert read(db) == []
    db.close()


def test_many_threads_write_at_once(db: Database) -> None:
    committer = GroupCommitter(db)
    kept: list[str] = []

    def work(thread: int) -> None:
        for number in range(50):
            name = f"{thread} {number}"
            future = committer.submit(note(name, fails=number % 7 == 0))  # type: ignore[arg-type]
            if future.exception() is None:
                kept.append(future.result())  # type: ignore[arg-type]

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    committer.close()
    assert read(db) == sorted(kept)
    assert len(kept) == 8 * 42
    db.close()


def test_a_database_that_cannot_be_written_fails_them_all(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy() -> None:
        raise BackendUnavailableError("it is busy")

    monkeypatch.setattr(db, "begin", busy)
    outcomes = commit_together(db, [note("a"), note("b")])  # type: ignore[list-item]
    assert [type(error) for _, error in outcomes] == [BackendUnavailableError] * 2
    db.close()


def test_what_need_not_wait_is_done_at_once_and_all_else_is_left(db: Database) -> None:
    assert commit_now(db, note("a")) == ("a", None)  # type: ignore[arg-type]
    result, error = commit_now(db, note("b", fails=True)) or ("", None)  # type: ignore[arg-type]
    assert (result, type(error)) == (None, ValueError)
    other = sqlite3.connect(db.url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert commit_now(db, note("c")) is None  # type: ignore[arg-type]
    other.execute("ROLLBACK")
    other.close()
    assert commit_now(db, note("c")) == ("c", None)  # type: ignore[arg-type]
    assert read(db) == ["a", "c"]
    db.close()


def test_a_closed_committer_takes_nothing(db: Database) -> None:
    committer = GroupCommitter(db)
    future = committer.submit(note("a"))  # type: ignore[arg-type]
    committer.close()
    assert future.result() == "a"
    with pytest.raises(RuntimeError, match="closed"):
        committer.submit(note("b"))  # type: ignore[arg-type]
    db.close()
