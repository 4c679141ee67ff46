"""Where tables come from: databases, versions of Delta tables, folders of files; and what snapshots of them share."""

import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake
from tests.servers import PostgresqlServer, postgresql

from flyball.core.clock import SimulatedClock
from flyball.core.errors import FlyballError, InvalidInputError, NotFoundError
from flyball.domain.data import store
from flyball.domain.data.service import DataService
from flyball.domain.data.tables import Entity, Table
from flyball.domain.journal.service import Journal
from flyball.storage.blobs import LocalBlobStore
from flyball.storage.db import Database
from flyball.storage.tables import choosing
from flyball.storage.tables.delta import VersionMissingError
from flyball.storage.tables.sql import (
    DatabaseUnreachableError,
    DriverMissingError,
    QueryRefusedError,
    count_rows,
    fetch_rows,
    select_rows,
)
from flyball.storage.tables.urls import mask

NOW = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture
def data(tmp_path: Path) -> DataService:
    clock, db = SimulatedClock(NOW), Database(f"sqlite:///{tmp_path}/home/flyball.db")
    return DataService(db, Journal(db, clock), clock, LocalBlobStore(tmp_path / "home" / "blobs"), tmp_path)


def rows_of(data: DataService, table: Table, **options: bool) -> list[tuple[object, ...]]:
    return data.read(data.snapshot(table, **options).id).collect().rows()  # type: ignore[arg-type]


def stored_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "home" / "blobs").rglob("*") if path.is_file())


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "shop.db")
    connection.execute("CREATE TABLE orders (id INTEGER, at TEXT, total REAL, note TEXT)")
    connection.executemany(
        "INSERT INTO orders VALUES (?, ?, ?, ?)",
        [(2, "2026-01-02", 5.5, None), (1, "2026-01-01", 7.25, "gift"), (3, "2026-01-03", None, "007")],
    )
    connection.commit()
    yield connection
    connection.close()


def test_columns_of_sqlite_may_have_capitals_spaces_and_words_of_sql(
    data: DataService, shop: sqlite3.Connection, tmp_path: Path
) -> None:
    shop.execute('CREATE TABLE "Visits of today" ("visitId" integer, "order" text, "Seen at" text)')
    shop.execute("""INSERT INTO "Visits of today" VALUES (2, 'b', '2026-01-02'), (1, 'a', '2026-01-01')""")
    shop.commit()
    table = Table("sqlite:///shop.db", sql='"Visits of today"', time="Seen at", key=["order", "visitId"], name="visits")
    assert data.read(data.watch(table).id).collect()["visitId"].to_list() == [1, 2]


def test_a_table_of_sqlite_is_read_in_the_order_of_its_time_and_key(
    tmp_path: Path, data: DataService, shop: sqlite3.Connection
) -> None:
    orders = Table("sqlite:///shop.db", sql="orders", time="at", key="id", name="orders")
    first = data.snapshot(orders)
    assert [row[0] for row in data.read(first.id).collect().rows()] == [1, 2, 3]
    assert data.read(first.id).collect().schema["at"] == pl.Datetime("us", "UTC")
    assert data.snapshot(orders).id == first.id
    token = data.fingerprint(orders)
    shop.execute("INSERT INTO orders VALUES (4, '2026-01-04', 1.0, 'x')")
    shop.commit()
    assert data.fingerprint(orders) != token
    second = data.snapshot(orders)
    assert (second.rows, second.files[0]) == (4, first.files[0])  # only the new row is stored
    assert not list((tmp_path / "home" / "blobs" / "unfinished").iterdir())


def test_a_query_of_sqlite(data: DataService, shop: sqlite3.Connection) -> None:
    gifts = Table(
        "sqlite:///shop.db", sql="SELECT id, total FROM orders WHERE note IS NOT NULL ORDER BY id DESC;", name="g"
    )
    assert rows_of(data, gifts) == [(3, None), (1, 7.25)]


@pytest.mark.slow
def test_a_table_of_postgresql_is_read_with_its_types(data: DataService, monkeypatch: pytest.MonkeyPatch) -> None:
    with postgresql() as server:
        url = _fill(server)
        monkeypatch.setenv("SHOP", url.partition("://")[2])
        orders = Table("postgresql://${SHOP}", sql="public.orders", time="at", key="id", name="orders")
        snapshot = data.snapshot(orders)
        frame = data.read(snapshot.id).collect()
        assert frame.rows() == [
            (1, datetime(2026, 1, 1, 9, tzinfo=UTC), 7.25, True, "gift"),
            (2, datetime(2026, 1, 2, 9, tzinfo=UTC), None, False, None),
        ]
        token = data.fingerprint(orders)
        _run(url, "INSERT INTO orders VALUES (3, '2026-01-03 10:00+01', 1.5, true, 'x')")
        assert data.fingerprint(orders) != token
        assert data.snapshot(orders).rows == 3
        _run(url, 'CREATE TABLE "Visits" ("visitId" bigint, "user" text, "seenAt" timestamptz)')
        _run(url, """INSERT INTO "Visits" VALUES (2, 'b', '2026-01-02 10:00+01'), (1, 'a', '2026-01-01 10:00+01')""")
        visits = Table(url, sql='"Visits"', entity=Entity("user"), time="seenAt", key="visitId", name="visits")
        assert data.read(data.watch(visits).id).collect()["visitId"].to_list() == [1, 2]
        with pytest.raises(QueryRefusedError, match="was refused"):
            data.snapshot(Table(url, sql="SELECT nothing FROM orders", name="bad"))
    with pytest.raises(DatabaseUnreachableError, match="does not answer"):
        data.snapshot(orders)


def _fill(server: PostgresqlServer) -> str:
    url = server.new_database()
    _run(url, "CREATE TABLE orders (id bigint, at timestamptz, total numeric(10,2), paid boolean, note text)")
    _run(url, "INSERT INTO orders VALUES (2, '2026-01-02 10:00+01', NULL, false, NULL)")
    _run(url, "INSERT INTO orders VALUES (1, '2026-01-01 10:00+01', 7.25, true, 'gift')")
    return url


def _run(url: str, statement: str) -> None:
    import adbc_driver_postgresql.dbapi as dbapi

    with dbapi.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.mark.parametrize(
    ("sql", "order", "statement"),
    [
        ("orders", [], "SELECT * FROM orders"),
        (
            "sales.public.orders",
            ["at"],
            "SELECT * FROM (SELECT * FROM sales.public.orders) AS flyball_rows ORDER BY at",
        ),
        ("SELECT id FROM orders ORDER BY id;", ["at"], "SELECT id FROM orders ORDER BY id"),
        (
            "SELECT id, row_number() OVER (ORDER BY id) AS n FROM orders",
            ["id"],
            "SELECT * FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM orders) AS flyball_rows ORDER BY id",
        ),
    ],
)
def test_the_statement_that_a_database_such_as_snowflake_is_sent(sql: str, order: list[str], statement: str) -> None:
    assert select_rows(sql, order) == statement
    assert count_rows("orders", "at") == "SELECT count(*), max(at) FROM (SELECT * FROM orders) AS flyball_rows"


def test_a_missing_driver_is_named_with_what_installs_it(tmp_path: Path) -> None:
    with pytest.raises(DriverMissingError) as caught:
        fetch_rows("snowflake://me:secret@account/db", "SELECT 1", tmp_path / "x", root=tmp_path, what="table 'x'")
    assert caught.value.hint == "Install it: pip install 'flyball[snowflake]'"
    assert mask("snowflake://me:secret@account/db") == "snowflake://me:***@account/db"


def test_a_database_that_is_not_there_and_a_variable_that_is_not_set(data: DataService) -> None:
    with pytest.raises(DatabaseUnreachableError, match="there is no file"):
        data.snapshot(Table("sqlite:///none.db", sql="orders", name="orders"))
    with pytest.raises(InvalidInputError, match="not set in the environment"):
        data.snapshot(Table("sqlite:///${FLYBALL_NOT_SET}", sql="orders", name="orders"))
    with pytest.raises(InvalidInputError, match="needs both"):
        Table("sqlite:///shop.db")


def test_versions_of_a_delta_table_by_number_and_by_time_survive_a_vacuum(tmp_path: Path, data: DataService) -> None:
    place = tmp_path / "payments"
    write_deltalake(place, pl.DataFrame({"id": [1, 2]}))
    write_deltalake(place, pl.DataFrame({"id": [3]}), mode="append")
    write_deltalake(place, pl.DataFrame({"id": [9], "late": [True]}), mode="overwrite", schema_mode="overwrite")
    old = Table("payments", version=1, name="old")
    pinned = data.snapshot(old)
    assert sorted(rows_of(data, old)) == [(1,), (2,), (3,)]
    made = DeltaTable(place).history()[-1]["timestamp"]
    by_time = Table("payments", version=datetime.fromtimestamp(made / 1000 + 0.001, UTC).isoformat(), name="by_time")
    assert sorted(rows_of(data, by_time)) == [(1,), (2,)]
    assert rows_of(data, Table("payments", name="new")) == [(9, True)]
    DeltaTable(place).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    assert sorted(data.read(pinned.id).collect().rows()) == [(1,), (2,), (3,)]
    with pytest.raises(VersionMissingError, match="no version 7; the newest is"):
        data.snapshot(Table("payments", version=7, name="none"))


def test_a_merged_delta_table_and_one_that_gained_a_column(tmp_path: Path, data: DataService) -> None:
    place, table = tmp_path / "payments", Table("payments", name="payments")
    write_deltalake(place, pl.DataFrame({"id": [1, 2], "paid": [1.0, 2.0]}))
    before = data.snapshot(table)
    changes = pl.DataFrame({"id": [2, 3], "paid": [5.0, 6.0]})
    merge = DeltaTable(place).merge(changes, "t.id = s.id", source_alias="s", target_alias="t")
    merge.when_matched_update_all().when_not_matched_insert_all().execute()
    assert sorted(rows_of(data, table)) == [(1, 1.0), (2, 5.0), (3, 6.0)]
    assert sorted(data.read(before.id).collect().rows()) == [(1, 1.0), (2, 2.0)]
    write_deltalake(place, pl.DataFrame({"id": [4], "paid": [1.0], "via": ["web"]}), mode="append", schema_mode="merge")
    with pytest.raises(FlyballError, match="column 'via' was added"):
        data.snapshot(table)
    assert sorted(rows_of(data, table, accept_schema_change=True))[-1] == (4, 1.0, "web")


def test_a_delta_table_that_is_written_to_meanwhile_is_read_at_one_version(tmp_path: Path, data: DataService) -> None:
    place, table = tmp_path / "payments", Table("payments", name="payments")
    write_deltalake(place, pl.DataFrame({"batch": [0] * 10}))
    done = threading.Event()

    def write() -> None:
        for batch in range(1, 15):
            write_deltalake(place, pl.DataFrame({"batch": [batch] * 10}), mode="append")
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    while not done.is_set() or not seen:
        frame = data.read(data.snapshot(table).id).collect()
        counts = dict(frame["batch"].value_counts().iter_rows())
        assert set(counts.values()) == {10}
        assert set(counts) == set(range(len(counts)))
        seen.append(len(counts))
    writer.join()
    assert seen == sorted(seen)


def test_a_folder_of_files_keeps_each_file_once_and_gives_paths_that_do_not_change(
    tmp_path: Path, data: DataService
) -> None:
    photos = tmp_path / "photos"
    for name, text in [("cat/1.jpg", b"one"), ("dog/2.jpg", b"two"), ("dog/3.jpg", b"one"), ("notes.txt", b"x")]:
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(text)
    table = Table("photos", files="**/*.jpg", key="path", name="photos")
    first = data.snapshot(table)
    frame = data.read(first.id).collect()
    assert frame["path"].to_list() == ["cat/1.jpg", "dog/2.jpg", "dog/3.jpg"]
    assert frame["folder"].to_list() == ["cat", "dog", "dog"]
    assert first.schema.names == frame.columns
    kept = {path.name for path in (tmp_path / "home" / "blobs").rglob("*") if path.is_file()}
    assert len(kept) == 3  # two different photos and the list
    (photos / "dog" / "2.jpg").write_bytes(b"changed")
    second = data.snapshot(table)
    assert second.id != first.id
    assert [Path(file).read_bytes() for file in frame["file"]] == [b"one", b"two", b"one"]
    assert Path(data.read(second.id).collect()["file"][1]).read_bytes() == b"changed"
    assert len([path for path in (tmp_path / "home" / "blobs").rglob("*") if path.is_file()]) == 5


def test_each_change_of_a_watched_table_is_told_once_also_across_a_crash(
    tmp_path: Path, data: DataService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> list[tuple[int, int]]:
        events = [event for event in journal.list_events() if event.kind == "data.table.grown"]
        return [(event.data["rows_added"], event.data["files_added"]) for event in events]

    clock, db = SimulatedClock(NOW), Database(f"sqlite:///{tmp_path}/home/flyball.db")
    journal = Journal(db, clock)
    folder, table = tmp_path / "days", Table("days", name="days")
    folder.mkdir()
    pl.DataFrame({"x": [1, 2]}).write_parquet(folder / "1.parquet")
    data.watch(table)
    assert told() == []
    pl.DataFrame({"x": [3]}).write_parquet(folder / "2.parquet")
    with monkeypatch.context() as broken:
        broken.setattr(store, "put_watch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            data.watch(table)
    assert told() == []
    other = DataService(db, journal, clock, LocalBlobStore(tmp_path / "home" / "blobs"), tmp_path)
    other.watch(table)
    data.watch(table)
    assert told() == [(1, 1)]
    (folder / "2.parquet").touch()
    data.watch(table)
    assert told() == [(1, 1)]
    delta = Table("delta", name="delta")
    for batch in range(3):
        write_deltalake(tmp_path / "delta", pl.DataFrame({"x": [batch]}), mode="append")
        data.watch(delta)
    assert told() == [(1, 1), (1, 1), (1, 1)]


def test_snapshots_of_a_table_that_grows_at_its_end_share_what_they_have_in_common(
    tmp_path: Path, data: DataService
) -> None:
    path, table = tmp_path / "labels.csv", Table("labels.csv", time="at", name="labels")
    lines = [f"{number},2026-01-01T00:{number // 60:02d}:{number % 60:02d},{number % 7}" for number in range(3000)]
    path.write_text("id,at,label\n" + "\n".join(lines) + "\n")
    first = data.snapshot(table)
    before = stored_bytes(tmp_path)
    with path.open("a") as file:
        file.write("3000,2026-01-02,1\n")
    second = data.snapshot(table)
    assert second.files[0] == first.files[0]
    assert stored_bytes(tmp_path) - before < before / 4
    assert data.read(second.id).collect()["id"].to_list() == list(range(3001))
    assert data.read(first.id).collect().height == 3000
    path.write_text(path.read_text().replace("2026-01-01T00:00:00,0", "2026-01-01T00:00:00,9"))
    third = data.snapshot(table)  # a row in the middle changed: nothing can be shared
    assert len(third.files) == 1
    assert data.read(third.id).collect()["label"][0] == 9


def test_a_source_of_another_package_is_found_by_the_scheme_of_its_url(
    tmp_path: Path, data: DataService, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = (
        "import polars as pl\n"
        "from flyball.storage.tables.port import Found\n"
        "from flyball.storage.tables.sources import DataFile\n"
        "class Numbers:\n"
        "    def __init__(self, asked): self._count = int(asked.source.partition('://')[2])\n"
        "    def fingerprint(self): return str(self._count)\n"
        "    def open(self, scratch, digest_files):\n"
        "        pl.DataFrame({'n': range(self._count)}).write_parquet(scratch)\n"
        "        return Found('parquet', scratch, [DataFile(scratch, {})])\n"
    )
    package, metadata = tmp_path / "plugin", tmp_path / "plugin" / "numbers_source-1.dist-info"
    metadata.mkdir(parents=True)
    (package / "numbers_source.py").write_text(module)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: numbers-source\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[flyball.tables]\nnumbers = numbers_source:Numbers\n")
    monkeypatch.syspath_prepend(package)
    choosing._openers.cache_clear()
    try:
        assert rows_of(data, Table("numbers://3", name="three")) == [(0,), (1,), (2,)]
        with pytest.raises(NotFoundError, match="number"):
            data.snapshot(Table("numbrs://3", name="typo"))
    finally:
        choosing._openers.cache_clear()
