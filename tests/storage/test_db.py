import gc
import os
import resource
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flyball.core.errors import BackendError, BackendUnavailableError, InvalidInputError
from flyball.storage.committing import GroupCommitter, commit_together
from flyball.storage.db import Database, Transaction, database_url
from flyball.storage.postgresql import translate
from tests.servers import PostgresqlServer, postgresql


@pytest.fixture(params=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'a.db'}"
    else:
        url = request.getfixturevalue("postgresql_server").new_database()
    made = Database(url)
    with made.begin() as tx:
        tx.execute("CREATE TABLE thing (name TEXT PRIMARY KEY, size BIGINT, weight DOUBLE PRECISION)")
    yield made
    made.close()


def add(db: Database, name: str) -> None:
    with db.begin() as tx:
        tx.execute("INSERT INTO thing (name) VALUES (?)", (name,))


def names(db: Database) -> list[str]:
    with db.read() as tx:
        return [row["name"] for row in tx.rows("SELECT name FROM thing ORDER BY name")]


def test_room_is_made_for_commits_and_nothing_else_changes(tmp_path: Path, db: Database) -> None:
    add(db, "before")
    db.make_room()
    add(db, "after")
    assert names(db) == ["after", "before"]
    with db.begin() as tx:
        tx.execute("CREATE TABLE room (content TEXT)")  # no such table was left
    if db.url.startswith("sqlite"):
        assert (tmp_path / "a.db-wal").stat().st_size > 4_000_000
        assert (tmp_path / "a.db").stat().st_size < 1_000_000


def test_no_room_is_made_while_another_one_writes(db: Database) -> None:
    with db.begin() as tx:
        tx.execute("INSERT INTO thing (name) VALUES ('a')")
        db.make_room()
    assert names(db) == ["a"]


def test_a_block_that_raises_leaves_nothing(db: Database) -> None:
    with pytest.raises(ValueError, match="no"), db.begin() as tx:
        tx.execute("INSERT INTO thing (name) VALUES ('a')")
        raise ValueError("no")
    assert names(db) == []


def test_reading_inside_a_write_transaction_sees_it_and_does_not_end_it(db: Database) -> None:
    with db.begin() as tx:
        tx.execute("INSERT INTO thing (name) VALUES ('a')")
        assert names(db) == ["a"]
        tx.execute("INSERT INTO thing (name) VALUES ('b')")
    assert names(db) == ["a", "b"]


def test_an_error_of_a_read_inside_a_write_transaction_undoes_all_of_it(db: Database) -> None:
    with pytest.raises(ValueError, match="no"), db.begin() as tx:
        tx.execute("INSERT INTO thing (name) VALUES ('a')")
        with db.read():
            raise ValueError("no")
    assert names(db) == []


def test_a_read_sees_one_state_whatever_is_written_meanwhile(db: Database) -> None:
    add(db, "a")
    with db.read() as tx:
        assert tx.value("SELECT count(*) FROM thing") == 1
        writer = threading.Thread(target=add, args=(db, "b"))
        writer.start()
        writer.join()
        assert tx.value("SELECT count(*) FROM thing") == 1
    assert names(db) == ["a", "b"]


def test_rows_are_read_by_name_by_place_and_whole(db: Database) -> None:
    with db.begin() as tx:
        tx.execute_many(
            "INSERT INTO thing (name, size, weight) VALUES (?, ?, ?)",
            [("it's ?", 2**40, 0.1), ("null", None, None), ("true", True, 1e300)],
        )
        assert tx.execute("UPDATE thing SET size = size WHERE name <> '?'") == 3
    with db.read() as tx:
        rows = tx.rows("SELECT name, size, weight FROM thing WHERE name <> 'what?' ORDER BY name")
        assert [tuple(row) for row in rows] == [("it's ?", 2**40, 0.1), ("null", None, None), ("true", 1, 1e300)]
        assert (rows[0]["size"], rows[0][1], rows[0].keys(), len(rows[0])) == (
            2**40,
            2**40,
            ["name", "size", "weight"],
            3,
        )
        assert tx.tuples("SELECT size FROM thing WHERE name = ?", ("null",)) == [(None,)]
        assert tx.row("SELECT 1 FROM thing WHERE name = ?", ("none",)) is None
        assert tx.value("SELECT size FROM thing WHERE name = ?", ("none",)) is None


def test_many_rows_are_kept_and_a_later_one_replaces(db: Database) -> None:
    many = [(f"{number:06}", number) for number in range(25_001)]
    put = "INSERT INTO thing (name, size) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET size = excluded.size"
    keep = "INSERT INTO thing (name, size) VALUES (?, ?) ON CONFLICT (name) DO NOTHING"
    with db.begin() as tx:
        tx.execute_many("INSERT INTO thing (name, size) VALUES (?, ?)", many)
        tx.execute_many(put, [("000001", 7), ("000001", 8), ("new", 9)])
        tx.execute_many(keep, [("000001", 0), ("000002", 0), ("more", 1), ("more", 2)])
        tx.execute_many(keep, [])
        assert tx.value("SELECT count(*) FROM thing") == 25_003
        found = tx.rows(
            "SELECT name, size FROM thing WHERE name IN (?, ?, ?, ?) ORDER BY name", ("000001", "000002", "new", "more")
        )
    assert [tuple(row) for row in found] == [("000001", 8), ("000002", 2), ("more", 1), ("new", 9)]


def test_text_sorts_by_its_bytes_and_patterns_mind_case(db: Database) -> None:
    with db.begin() as tx:
        tx.execute(
            "CREATE TABLE word (text TEXT)" if "sqlite" in db.url else translate("CREATE TABLE word (text TEXT)")
        )
        tx.execute_many("INSERT INTO word VALUES (?)", [(word,) for word in ("b", "B", "a", "é", "Z", "_")])
        assert [row[0] for row in tx.rows("SELECT text FROM word ORDER BY text")] == ["B", "Z", "_", "a", "b", "é"]
        assert [row[0] for row in tx.rows("SELECT text FROM word WHERE text LIKE 'b%'")] == ["b"]


def test_one_writes_at_a_time_so_that_numbers_are_given_once(db: Database) -> None:
    def count_up() -> None:
        for _ in range(20):
            with db.begin() as tx:
                highest = int(tx.value("SELECT coalesce(max(size), 0) FROM thing"))
                tx.execute("INSERT INTO thing (name, size) VALUES (?, ?)", (f"n{highest}", highest + 1))
        db.close()

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with db.read() as tx:
        assert tx.value("SELECT max(size) FROM thing") == 80


def test_a_piece_of_a_group_that_fails_in_the_database_is_undone_alone(db: Database) -> None:
    committer = GroupCommitter(db)
    gate = threading.Event()
    first = committer.submit(lambda tx: gate.wait(5))
    put = "INSERT INTO thing (name) VALUES (?)"
    futures = [committer.submit(lambda tx, name=name: tx.execute(put, (name,))) for name in ("a", "a", "b")]
    gate.set()
    assert first.result(10)
    assert futures[0].exception(10) is None
    assert futures[1].exception(10) is not None
    assert futures[2].exception(10) is None
    committer.close()
    assert names(db) == ["a", "b"]


def test_a_failure_that_nobody_waited_for_undoes_all(db: Database) -> None:
    insert = "INSERT INTO thing (name) VALUES (?)"
    with pytest.raises(Exception, match=r"(?i)unique"), db.begin() as tx:
        tx.execute_many(insert, [("a",)])
        tx.execute_many(insert, [("a",)])
    assert names(db) == []
    add(db, "b")
    assert names(db) == ["b"]


def test_of_a_group_the_one_that_failed_is_told_though_nobody_waited(db: Database) -> None:
    def keep(name: str) -> Callable[[Transaction], str]:
        def work(tx: Transaction) -> str:
            tx.execute_many("INSERT INTO thing (name) VALUES (?)", [(name,)])
            return name

        return work

    outcomes = commit_together(db, [keep("a"), keep("b"), keep("a"), keep("c")])
    assert [result for result, _ in outcomes] == ["a", "b", None, "c"]
    assert "unique" in str(outcomes[2][1]).lower()
    assert names(db) == ["a", "b", "c"]


def test_a_fork_has_connections_of_its_own(db: Database) -> None:
    add(db, "a")
    child = os.fork()
    if child == 0:
        try:
            add(db, "b")
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    add(db, "c")
    assert names(db) == ["a", "b", "c"]


def test_connections_are_closed_with_a_database_that_is_part_of_a_circle(postgresql_server: PostgresqlServer) -> None:
    db = Database(postgresql_server.new_database())
    with db.read() as tx:
        [pid] = tx.row("SELECT pg_backend_pid()")
    circle: list[Any] = [db]
    circle.append(circle)
    del db, circle
    gc.collect()  # a connection that is collected before it is closed warns, and a warning fails the test
    with Database(postgresql_server.new_database()).read() as tx:
        deadline = time.monotonic() + 10
        while tx.value("SELECT count(*) FROM pg_stat_activity WHERE pid = ?", (pid,)):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_database_of_a_newer_release_or_of_another_kind_is_refused(tmp_path: Path, db: Database) -> None:
    with db.begin() as tx:
        tx.execute("INSERT INTO schema_migration (name) VALUES ('9999_future.sql')")
    db.close()
    with pytest.raises(BackendError, match=r"newer release.*9999"):
        Database(db.url)
    with pytest.raises(InvalidInputError, match="oracle"):
        Database("oracle:///a")
    with pytest.raises(InvalidInputError, match="mysql") as refused:
        Database("mysql://me:secret@host/a")
    assert "secret" not in str(refused.value)
    (tmp_path / "b.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(BackendError, match=r"b\.db"):
        Database(f"sqlite:///{tmp_path / 'b.db'}")


def test_a_file_of_an_unfinished_build_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute("PRAGMA user_version = 12")
    connection.close()
    with pytest.raises(BackendError, match="unfinished build"):
        Database(f"sqlite:///{tmp_path / 'a.db'}")


def test_only_files_that_were_not_carried_out_are_carried_out(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = "sqlite" if db.url.startswith("sqlite") else "postgresql"
    known = [f"{number:04}_x.sql" for number in (1, 2, 3)]
    with db.begin() as tx:
        tx.execute("DELETE FROM schema_migration")
        tx.execute_many("INSERT INTO schema_migration (name) VALUES (?)", [(known[0],), (known[2],)])
    db.close()
    monkeypatch.setattr(f"flyball.storage.{kind}.migration_names", lambda: known)
    monkeypatch.setattr(
        f"flyball.storage.{kind}.read_statements", lambda name: [f"CREATE TABLE t{name[:4]} (a INTEGER)"]
    )
    again = Database(db.url)
    with again.read() as tx:
        assert tx.value("SELECT count(*) FROM t0002") == 0
        assert [row[0] for row in tx.rows("SELECT name FROM schema_migration ORDER BY name")] == known
    again.close()


def test_text_that_postgresql_cannot_keep_is_refused(postgresql_server: PostgresqlServer) -> None:
    db = Database(postgresql_server.new_database())
    with pytest.raises(InvalidInputError, match="NUL"), db.begin() as tx:
        tx.execute("INSERT INTO loop_watermark (name, value) VALUES (?, 'x')", ("a\0b",))
    with db.begin() as tx:
        tx.execute("INSERT INTO loop_watermark (name, value) VALUES (?, 'x')", ("ab",))
    db.close()


def test_nobody_is_let_in_by_a_wrong_url_and_no_password_is_told(postgresql_server: PostgresqlServer) -> None:
    port = postgresql_server.port
    for url, told in (
        (f"postgresql://flyball:secret@127.0.0.1:{port}/none", 'database "none" does not exist'),
        (f"postgresql://nobody:secret@127.0.0.1:{port}/postgres", "nobody"),
        ("postgresql://flyball:secret@127.0.0.1:1/x", "refused"),
    ):
        with pytest.raises(BackendUnavailableError, match=told) as refused:
            Database(url)
        assert "secret" not in str(refused.value)


def test_a_server_that_went_away_is_told_of_and_used_again_when_it_is_back() -> None:
    with postgresql() as server:
        db = Database(server.new_database())
        with db.begin() as tx:
            tx.execute("CREATE TABLE thing (name TEXT)")
        server.stop()
        with pytest.raises(BackendUnavailableError, match="reached"):
            names(db)
        server.start(settings=("fsync=off",))
        add(db, "a")
        with pytest.raises(BackendUnavailableError), db.begin() as tx:
            tx.execute("INSERT INTO thing (name) VALUES ('lost')")
            server.stop()
            tx.execute("INSERT INTO thing (name) VALUES ('lost too')")
        server.start(settings=("fsync=off",))
        time.sleep(0.1)
        assert names(db) == ["a"]
        db.close()


def test_homes_within_a_home_keep_to_themselves(tmp_path: Path) -> None:
    url = "postgresql://host/name"
    assert database_url(tmp_path, "") == f"sqlite:///{tmp_path}/flyball.db"
    assert database_url(tmp_path, url) == url
    assert database_url(tmp_path / "samples" / "1%", url).startswith("sqlite:///")
    assert database_url(tmp_path / "replays" / "weekly", url).startswith("sqlite:///")


def test_a_damaged_or_closed_file_is_told_in_words(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    db = Database(f"sqlite:///{path}")
    with db.begin() as tx:
        tx.execute("CREATE TABLE thing (name TEXT PRIMARY KEY)")
        tx.execute_many("INSERT INTO thing VALUES (?)", [(f"{number:0500}",) for number in range(2_000)])
    db.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:40_960] + b"x" * (len(whole) - 40_960))
    with pytest.raises(BackendError, match=f"'{path}' is damaged.*(?s:.)*flyball import flyball"), db.read() as tx:
        tx.rows("SELECT count(name), max(name) FROM thing ORDER BY name")
    db.close()
    path.write_bytes(whole)
    reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    db._backend._local.connection = reader  # type: ignore[attr-defined]  # the file may be read by this user only
    with pytest.raises(BackendError, match="attempt to write a readonly database"), db.begin() as tx:
        tx.execute("DELETE FROM thing")
    db.close()


def test_a_disk_without_room_is_told_with_what_to_do(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'a.db'}")
    with db.begin() as tx:
        tx.execute("CREATE TABLE thing (content BLOB)")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(BackendUnavailableError, match=r"(?s)could not be used.*disk"), db.begin() as tx:
            tx.execute("INSERT INTO thing VALUES (zeroblob(20000000))")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with db.begin() as tx:
        assert tx.execute("INSERT INTO thing VALUES (zeroblob(20))") == 1
    db.close()
