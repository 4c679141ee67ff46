"""Snapshots of real files: identified by content, readable for ever, and refused whole when the source is bad."""

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake
from polars.testing import assert_frame_equal

from flyball.core.clock import SimulatedClock
from flyball.core.errors import BackendError, FlyballError, InvalidInputError, NotFoundError
from flyball.core.hashing import digest_file
from flyball.domain.data import contents, digests
from flyball.domain.data.describing import Source
from flyball.domain.data.expectations import column
from flyball.domain.data.instants import InstantUnreadableError, MixedTimeZonesError, NoSuchTimeError
from flyball.domain.data.service import DataService
from flyball.domain.data.snapshots import (
    ColumnMissingError,
    PrepareFailedError,
    SchemaChangedError,
    SnapshotNotFoundError,
    SourceChangedError,
    TableEmptyError,
)
from flyball.domain.data.tables import Entity, Table
from flyball.domain.journal.service import Journal
from flyball.storage.blobs import LocalBlobStore
from flyball.storage.db import Database
from flyball.storage.tables.sources import SourceMissingError, SourceUnreadableError

NOW = datetime(2026, 11, 20, tzinfo=UTC)
JANUARY = datetime(2026, 1, 1, tzinfo=UTC)


class Home:
    """A project folder with a data service."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = root / "home" / "blobs"
        self.db = Database(f"sqlite:///{root}/home/flyball.db")
        self.clock = SimulatedClock(NOW)
        self.journal = Journal(self.db, self.clock)
        self.data = DataService(self.db, self.journal, self.clock, LocalBlobStore(self.blobs), root)

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def stored(self) -> list[Path]:
        return [path for path in self.blobs.rglob("*") if path.is_file()]

    def kinds(self) -> list[str]:
        return [event.kind for event in self.journal.list_events()]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def events(rows: int = 100) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": range(rows),
            "value": [number * 0.5 for number in range(rows)],
            "at": [datetime.fromtimestamp(1767225600 + 3600 * number, UTC) for number in range(rows)],
            "seen": [datetime.fromtimestamp(1767225600 + 3600 * (number + 24), UTC) for number in range(rows)],
        },
        schema_overrides={"at": pl.Datetime("us", "UTC"), "seen": pl.Datetime("us", "UTC")},
    )


def test_a_csv_file_is_typed_and_kept(home: Home) -> None:
    home.write("sales.csv", "id,price,sold,city,note\n1,2.5,2026-01-01,Paris,\n2,NA,2026-01-02T10:30:00,NA,\n")
    snapshot = home.data.snapshot(Table("sales.csv", time="sold", nulls=["NA"], name="sales"))
    assert [(field.name, field.dtype, field.nullable) for field in snapshot.schema.fields] == [
        ("id", "int", False),
        ("price", "float", True),
        ("sold", "datetime", False),
        ("city", "string", True),
        ("note", "string", True),
    ]
    assert snapshot.rows == 2
    assert (snapshot.time_from, snapshot.time_to) == (JANUARY, datetime(2026, 1, 2, 10, 30, tzinfo=UTC))
    frame = home.data.read(snapshot.id).collect()
    assert frame.schema["sold"] == pl.Datetime("us", "UTC")
    assert frame["city"].to_list() == ["Paris", None]


def test_parquet_bytes_are_kept_as_they_lie_and_once(home: Home) -> None:
    events().write_parquet(home.root / "events.parquet")
    table = Table("events.parquet", time="at", known="seen", name="events")
    whole = home.data.snapshot(table)
    part = home.data.snapshot(table, as_of=datetime(2026, 1, 3, tzinfo=UTC))
    home.data.snapshot(Table("events.parquet", name="again"))
    assert [path.name for path in home.stored()] == [digest_file(home.root / "events.parquet")]
    assert (whole.rows, part.rows) == (100, 25)
    assert_frame_equal(home.data.read(whole.id).collect(), events())


@pytest.mark.parametrize("disappears", [False, True])
@pytest.mark.parametrize("name", ["events.csv", "events.parquet"])
def test_a_snapshot_outlives_its_source(home: Home, name: str, disappears: bool) -> None:
    path = home.root / name
    write: Callable[[pl.DataFrame], object] = (
        (lambda frame: frame.write_csv(path)) if name.endswith("csv") else (lambda frame: frame.write_parquet(path))
    )
    write(events())
    table = Table(name, time="at", known="seen", name="events")
    first = home.data.snapshot(table)
    before = home.data.read(first.id).collect()
    if disappears:
        path.unlink()
    else:
        write(events(50))
        second = home.data.snapshot(table)
        assert second.id != first.id
        assert home.data.read(second.id).collect().height == 50
    assert_frame_equal(home.data.read(first.id).collect(), before)
    assert home.data.list(table)[0] == first == home.data.get(first.id)


def test_the_same_content_is_the_same_snapshot_made_once(home: Home) -> None:
    path = home.write("a.csv", "x\n1\n")
    table = Table("a.csv", name="a")
    first = home.data.snapshot(table)
    home.clock.advance_to(datetime(2027, 1, 1, tzinfo=UTC))
    path.write_text("x\n2\n")
    other = home.data.snapshot(table)
    path.write_text("x\n1\n")
    assert home.data.snapshot(table) == first != other
    assert home.kinds() == ["data.snapshot.created"] * 2
    event = home.journal.list_events()[0]
    assert (event.subject, event.data["snapshot"], event.data["rows"]) == ("table/a", first.id, 1)


def test_rows_known_later_are_not_in_a_snapshot_of_the_past(home: Home) -> None:
    events().write_parquet(home.root / "events.parquet")
    for column_name, expected in (("seen", 25), (None, 49)):
        table = Table("events.parquet", time="at", known=column_name, name=f"by {column_name}")
        snapshot = home.data.snapshot(table, as_of=datetime(2026, 1, 3, tzinfo=UTC))
        frame = home.data.read(snapshot.id).collect()
        assert snapshot.rows == frame.height == expected
        assert snapshot.time_to == frame["at"].max()
        assert frame[column_name or "at"].max() <= datetime(2026, 1, 3, tzinfo=UTC)


def test_asking_later_without_new_rows_gives_the_same_snapshot(home: Home) -> None:
    events().write_parquet(home.root / "events.parquet")
    table = Table("events.parquet", time="at", name="events")
    first = home.data.snapshot(table, as_of=datetime(2026, 1, 3, 0, 10, tzinfo=UTC))
    assert home.data.snapshot(table, as_of=datetime(2026, 1, 3, 0, 50, tzinfo=UTC)) == first
    assert home.data.snapshot(table, as_of=datetime(2026, 1, 3, 1, 0, tzinfo=UTC)) != first
    assert home.data.snapshot(table, as_of=NOW) == home.data.snapshot(table)


def test_before_the_first_row_a_snapshot_is_empty_and_no_error(home: Home) -> None:
    events().write_parquet(home.root / "events.parquet")
    table = Table("events.parquet", time="at", name="events")
    snapshot = home.data.snapshot(table, as_of=datetime(2020, 1, 1, tzinfo=UTC))
    assert (snapshot.rows, snapshot.time_from) == (0, None)
    assert home.data.read(snapshot.id).collect().height == 0
    assert home.data.snapshot(table, as_of=datetime(2021, 1, 1, tzinfo=UTC)) == snapshot


def test_a_table_without_times_is_taken_whole(home: Home) -> None:
    home.write("a.csv", "x\n1\n")
    assert home.data.snapshot(Table("a.csv", name="a"), as_of=datetime(2000, 1, 1, tzinfo=UTC)).rows == 1


@pytest.mark.parametrize("source", ["data", "data/*.parquet", "**/part*.parquet"])
def test_many_parquet_files_are_one_table_in_the_order_of_their_paths(home: Home, source: str) -> None:
    (home.root / "data" / "_hidden").mkdir(parents=True)
    frame = events()
    for start in (50, 0):
        frame[start : start + 50].write_parquet(home.root / "data" / f"part-{start:02d}.parquet")
    if source == "data":
        frame.write_parquet(home.root / "data" / "_hidden" / "skipped.parquet")
        home.write("data/notes.txt", "not data")
    snapshot = home.data.snapshot(Table(source, name="many"))
    assert [file.rows for file in snapshot.files] == [50, 50]
    assert_frame_equal(home.data.read(snapshot.id).collect(), frame)


def test_an_appended_file_leaves_the_others_bytes_shared(home: Home) -> None:
    (home.root / "data").mkdir()
    events(10).write_parquet(home.root / "data" / "a.parquet")
    table = Table("data", name="many")
    home.data.snapshot(table)
    events(20).write_parquet(home.root / "data" / "b.parquet")
    assert home.data.snapshot(table).rows == 30
    assert len(home.stored()) == 2


def test_folders_named_after_values_are_columns(home: Home) -> None:
    for year, name in ((2025, "a"), (2026, "b c")):
        folder = home.root / "data" / f"year={year}" / f"shop={name}"
        folder.mkdir(parents=True)
        pl.DataFrame({"x": [year]}).write_parquet(folder / "part.parquet")
    snapshot = home.data.snapshot(Table("data", name="shops"))
    assert home.data.read(snapshot.id).collect().rows() == [(2025, 2025, "a"), (2026, 2026, "b c")]


def test_files_with_different_columns_are_refused_by_name(home: Home) -> None:
    (home.root / "data").mkdir()
    pl.DataFrame({"x": [1], "y": [1]}).write_parquet(home.root / "data" / "a.parquet")
    pl.DataFrame({"x": [1.5], "y": [1]}).write_parquet(home.root / "data" / "b.parquet")
    with pytest.raises(InvalidInputError, match=r"'b.parquet' and 'a.parquet' differ in x"):
        home.data.snapshot(Table("data", name="many"))
    home.write("c/a.csv", "x,y\n1,2\n")
    home.write("c/b.csv", "x,z\n1,2\n")
    with pytest.raises(InvalidInputError, match=r"different columns: 'b\.csv' and 'a\.csv'"):
        home.data.snapshot(Table("c", name="texts"))


def test_local_times_and_dates_are_read_as_utc(home: Home) -> None:
    frame = pl.DataFrame(
        {
            "naive": pl.Series([datetime(2026, 1, 1)], dtype=pl.Datetime("ns")),
            "zoned": pl.Series([JANUARY], dtype=pl.Datetime("ms", "UTC")).dt.convert_time_zone("Asia/Tokyo"),
        }
    )
    frame.write_parquet(home.root / "a.parquet")
    snapshot = home.data.snapshot(Table("a.parquet", time="naive", known="zoned", name="a"))
    assert snapshot.files[0].digest == digest_file(home.root / "a.parquet")
    assert home.data.read(snapshot.id).collect().row(0) == (JANUARY, JANUARY)
    pl.DataFrame({"day": [JANUARY.date()]}).write_parquet(home.root / "b.parquet")
    assert home.data.snapshot(Table("b.parquet", time="day", name="b")).time_to == JANUARY


class TestDelta:
    def test_the_active_files_of_the_current_version_are_the_table(self, home: Home) -> None:
        place = str(home.root / "payments")
        events(10).write_delta(place)
        table = Table("payments", time="at", entity=Entity("id"), name="payments")
        first = home.data.snapshot(table)
        events(20)[10:].write_delta(place, mode="append")
        second = home.data.snapshot(table)
        DeltaTable(place).delete("id < 5")
        third = home.data.snapshot(table)
        assert [snapshot.rows for snapshot in (first, second, third)] == [10, 20, 15]
        assert_frame_equal(home.data.read(second.id).collect(), events(20))
        DeltaTable(place).vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
        assert home.data.read(first.id).collect().height == 10
        assert len({file.digest for snapshot in (first, second, third) for file in snapshot.files}) == 3

    def test_partitions_and_columns_added_later_are_kept(self, home: Home) -> None:
        place = str(home.root / "payments")
        first = pl.DataFrame({"x": [1, 2], "shop": ["a b", None], "day": [JANUARY.date()] * 2})
        first.write_delta(place, delta_write_options={"partition_by": ["shop", "day"]})
        table = Table("payments", name="payments")
        home.data.snapshot(table)
        more = pl.DataFrame({"x": [3], "shop": ["c"], "day": [JANUARY.date()], "new": [1.5]})
        more.write_delta(place, mode="append", delta_write_options={"schema_mode": "merge"})
        snapshot = home.data.snapshot(table, accept_schema_change=True)
        rows = home.data.read(snapshot.id).collect().sort("x").rows()
        day = JANUARY.date()
        assert rows == [(1, "a b", day, None), (2, None, day, None), (3, "c", day, 1.5)]

    def test_a_table_whose_rows_only_a_delta_reader_can_tell_is_converted(self, home: Home) -> None:
        place = str(home.root / "payments")
        write_deltalake(place, events(10), configuration={"delta.enableDeletionVectors": "true"})
        table = Table("payments", time="at", name="payments")
        first = home.data.snapshot(table)
        events(20)[10:].write_delta(place, mode="append")
        assert home.data.snapshot(table).rows == 20
        assert_frame_equal(home.data.read(first.id).collect(), events(10))

    def test_a_table_emptied_is_refused(self, home: Home) -> None:
        events(3).write_delta(str(home.root / "payments"))
        DeltaTable(str(home.root / "payments")).delete()
        with pytest.raises(TableEmptyError, match="table 'payments' has no rows"):
            home.data.snapshot(Table("payments", name="payments"))

    def test_a_damaged_log_is_told(self, home: Home) -> None:
        events(3).write_delta(str(home.root / "payments"))
        for path in (home.root / "payments" / "_delta_log").glob("*.json"):
            path.write_text("{")
        with pytest.raises(SourceUnreadableError, match="the table 'payments' cannot be read"):
            home.data.snapshot(Table("payments", name="payments"))


class TestPrepare:
    def test_it_runs_once_and_its_code_is_part_of_the_identity(self, home: Home) -> None:
        home.write("a.csv", "day,hour\n1/31/26,7\n")
        calls = []

        def prepare(rows: pl.LazyFrame) -> pl.LazyFrame:
            calls.append(1)
            return rows.with_columns(at=pl.col("day").str.to_datetime("%m/%d/%y") + pl.duration(hours="hour"))

        table = Table("a.csv", time="at", prepare=prepare, name="a")
        first = home.data.snapshot(table)
        count = len(calls)
        assert home.data.snapshot(table).id == first.id
        assert home.data.read(first.id).collect()["at"][0] == datetime(2026, 1, 31, 7, tzinfo=UTC)
        assert len(calls) == count == 1
        other = Table("a.csv", time="at", prepare=lambda rows: prepare(rows).with_columns(x=1), name="a")
        assert home.data.snapshot(other).id != first.id

    @pytest.mark.parametrize(
        ("prepare", "reason"),
        [
            (lambda rows: None, "it returned NoneType"),
            (lambda rows: rows.select("nothing"), "nothing"),
            (lambda rows: rows.with_columns(pl.col("x").cast(pl.Int8, strict=True)), "conversion"),
        ],
    )
    def test_its_failure_is_told(self, home: Home, prepare: Callable[..., pl.LazyFrame], reason: str) -> None:
        home.write("a.csv", "x\n1000\n")
        with pytest.raises(PrepareFailedError, match=f"prepare of the table 'a' failed: .*{reason}"):
            home.data.snapshot(Table("a.csv", prepare=prepare, name="a"))
        assert home.stored() == []


class TestBadSources:
    @pytest.mark.parametrize(
        ("source", "found"),
        [
            ("none.csv", "there is no file"),
            ("none", "there is no file or folder"),
            ("none/*.parquet", "no file matches the pattern"),
            (".", "there is no Parquet, CSV or Delta data in the folder"),
        ],
    )
    def test_a_missing_source(self, home: Home, source: str, found: str) -> None:
        with pytest.raises(SourceMissingError, match=f"the table 'a' lies nowhere: {found}"):
            home.data.snapshot(Table(source, name="a"))
        with pytest.raises(SourceMissingError):
            home.data.fingerprint(Table(source, name="a"))

    def test_an_unknown_format(self, home: Home) -> None:
        home.write("a.xlsx", "x")
        with pytest.raises(InvalidInputError, match=r"the table 'a' is a \.xlsx file"):
            home.data.snapshot(Table("a.xlsx", name="a"))

    @pytest.mark.parametrize(
        ("name", "text"), [("a.csv", ""), ("b.csv", "x,y\n1,2,3\n"), ("c.csv", "x\n\udcff\n"), ("d.csv", "x,x\n1,2\n")]
    )
    def test_a_csv_file_that_cannot_be_read(self, home: Home, name: str, text: str) -> None:
        (home.root / name).write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(FlyballError, match=f"the table 'a' .*{name}"):
            home.data.snapshot(Table(name, name="a"))
        assert home.stored() == []

    @pytest.mark.parametrize("keep", [0, 3, 0.5, 0.99])
    def test_a_truncated_parquet_file(self, home: Home, keep: float) -> None:
        path = home.root / "events.parquet"
        events().write_parquet(path)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(keep if keep > 1 else keep * len(whole))])
        with pytest.raises(SourceUnreadableError, match=r"the table 'a' cannot be read: 'events.parquet' is damaged"):
            home.data.snapshot(Table("events.parquet", name="a"))
        assert home.stored() == []
        assert home.data.list() == []

    def test_a_parquet_file_corrupt_in_the_middle(self, home: Home) -> None:
        (home.root / "data").mkdir()
        texts = pl.DataFrame({"x": [os.urandom(8).hex() for _ in range(10_000)]})
        texts.write_parquet(home.root / "data" / "a.parquet")
        path = home.root / "data" / "b.parquet"
        texts.write_parquet(path)
        whole = bytearray(path.read_bytes())
        middle = len(whole) // 2
        whole[middle : middle + 2000] = os.urandom(2000)
        path.write_bytes(whole)
        with pytest.raises(SourceUnreadableError, match=r"'b\.parquet' is damaged"):
            home.data.snapshot(Table("data", name="a"))
        assert home.stored() == []

    @pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
    def test_a_table_without_rows(self, home: Home, name: str) -> None:
        frame = events(0)
        frame.write_csv(home.root / name) if name.endswith("csv") else frame.write_parquet(home.root / name)
        with pytest.raises(TableEmptyError, match="the table 'a' has no rows"):
            home.data.snapshot(Table(name, time="at", name="a"))

    @pytest.mark.parametrize(
        ("declared", "message"),
        [
            ({"time": "att"}, "no time column of the table 'a' is named 'att'; did you mean 'at'"),
            ({"known": "sen"}, "no known column of the table 'a' is named 'sen'; did you mean 'seen'"),
            ({"key": "idd"}, "no key column of the table 'a' is named 'idd'; did you mean 'id'"),
            ({"entity": Entity("customer")}, "no key column of the table 'a' is named 'customer'"),
        ],
    )
    def test_a_missing_column(self, home: Home, declared: dict[str, str], message: str) -> None:
        events().write_parquet(home.root / "a.parquet")
        with pytest.raises(ColumnMissingError, match=message):
            home.data.snapshot(Table("a.parquet", name="a", **declared))  # type: ignore[arg-type]
        assert home.stored() == []

    @pytest.mark.parametrize(
        ("times", "message"),
        [
            (["2026-01-01", "2026-13-01"], "holds '2026-13-01', which is not an ISO 8601 instant, in row 2"),
            (["soon"], "holds 'soon', which is not an ISO 8601 instant, in row 1"),
            (["2026-01-01", "", "x"], "is empty, in row 2"),
            (["2026-01-01 10:00", "2026-01-01 10:00:61"], "holds '2026-01-01 10:00:61', .* in row 2"),
        ],
    )
    def test_a_time_that_cannot_be_read(self, home: Home, times: list[str], message: str) -> None:
        home.write("a.csv", "\n".join(["at,x", *(f"{text},1" for text in times)]))
        with pytest.raises(InstantUnreadableError, match=f"column 'at' of the table 'a' {message}"):
            home.data.snapshot(Table("a.csv", time="at", name="a"))
        assert home.stored() == []

    def test_a_null_time_of_a_parquet_file(self, home: Home) -> None:
        pl.DataFrame({"at": [JANUARY, None]}).write_parquet(home.root / "a.parquet")
        with pytest.raises(InstantUnreadableError, match="is empty, in row 2"):
            home.data.snapshot(Table("a.parquet", time="at", name="a"))

    @pytest.mark.parametrize(
        "times",
        [
            ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00"],
            ["2026-01-01T00:00:00", "2026-01-01T00:00:00+02:00"],
            ["2026-01-01T00:00:00+01:00", "2026-07-01T00:00:00+02:00"],
        ],
    )
    def test_mixed_time_zones(self, home: Home, times: list[str]) -> None:
        home.write("a.csv", "\n".join(["at", times[0], *times]))
        with pytest.raises(MixedTimeZonesError) as caught:
            home.data.snapshot(Table("a.csv", time="at", name="a"))
        assert f"mixes time zones: {times[0]!r} in row 1, {times[1]!r} in row 3" in caught.value.message

    def test_numbers_for_times_need_a_format(self, home: Home) -> None:
        home.write("a.csv", "at\n20260101\n")
        with pytest.raises(InvalidInputError, match="column 'at' of the table 'a' holds Int64, not instants"):
            home.data.snapshot(Table("a.csv", time="at", name="a"))
        assert home.data.snapshot(Table("a.csv", time="at", time_format="%Y%m%d", name="a")).time_to == JANUARY

    def test_a_value_not_of_the_format(self, home: Home) -> None:
        home.write("a.csv", "at\n1/31/26\n31/1/26\n")
        with pytest.raises(InstantUnreadableError, match="'31/1/26', which is not of the format '%m/%d/%y', in row 2"):
            home.data.snapshot(Table("a.csv", time="at", time_format="%m/%d/%y", name="a"))

    def test_columns_of_a_type_without_a_name(self, home: Home) -> None:
        pl.DataFrame({"x": [[1, 2]]}).write_parquet(home.root / "a.parquet")
        with pytest.raises(InvalidInputError, match="column 'x' of the table 'a' has the type List"):
            home.data.snapshot(Table("a.parquet", name="a"))
        assert home.stored() == []

    def test_a_source_written_to_while_it_is_read(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        path = home.write("a.csv", "x\n1\n")
        original = contents._scan

        def scan(source: Source, added: Source | None = None) -> pl.LazyFrame:
            frame = original(source, added)
            path.write_text("x\n1\n2\n")
            return frame

        monkeypatch.setattr(contents, "_scan", scan)
        with pytest.raises(SourceChangedError, match="the table 'a' was written to while it was read"):
            home.data.snapshot(Table("a.csv", name="a"))
        assert (home.stored(), home.data.list(), home.kinds()) == ([], [], [])


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("x,y,z\n1,2,3\n", "column 'z' was added"),
        ("x\n1\n", "column 'y' was removed"),
        ("x,y\n1,two\n", "column 'y' changed from int to string"),
    ],
)
def test_changed_columns_are_refused_until_accepted(home: Home, text: str, change: str) -> None:
    home.write("a.csv", "x,y\n1,2\n")
    table = Table("a.csv", name="a")
    home.data.snapshot(table)
    stored = home.stored()
    home.write("a.csv", text)
    with pytest.raises(SchemaChangedError, match=change) as caught:
        home.data.snapshot(table)
    assert "flyball snapshot a --accept-schema-change" in caught.value.hint
    assert home.stored() == stored
    accepted = home.data.snapshot(table, accept_schema_change=True)
    home.write("a.csv", text + text.splitlines()[1] + "\n")
    assert home.data.snapshot(table).rows == 2
    assert len(home.data.list(table)) == 3
    assert home.data.list("a")[1] == accepted


def test_a_changed_declaration_may_change_columns(home: Home) -> None:
    home.write("a.csv", "x,y\n1,2\n")
    home.data.snapshot(Table("a.csv", name="a"))
    assert home.data.snapshot(Table("a.csv", name="a", prepare=lambda rows: rows.drop("y"))).schema.names == ["x"]


def test_a_report_is_stored_with_its_snapshot_once(home: Home) -> None:
    home.write("a.csv", "bedrooms\n3\n33\n-8\n")
    table = Table("a.csv", name="houses")
    table.expect(column("bedrooms").at_least(0), column("bedrooms").at_most(20).or_quarantine())
    snapshot = home.data.snapshot(table)
    report = home.data.check(snapshot, table.expectations)
    assert not report.passed
    assert (report.table, report.snapshot_id, report.quarantined) == ("houses", snapshot.id, 1)
    assert home.data.check(snapshot, table.expectations) == report
    assert home.data.reports(snapshot.id) == [report]
    assert home.kinds() == ["data.snapshot.created", "data.snapshot.checked"]
    told = home.journal.list_events()[-1].data
    assert told["broken"] == [["bedrooms", "at_least", "fail", 1], ["bedrooms", "at_most", "quarantine", 1]]
    assert "-8" not in str(told)


def test_quarantined_rows_are_left_out(home: Home) -> None:
    home.write("a.csv", "x\n3\n33\n\n4\n")
    table = Table("a.csv", name="a")
    table.expect(column("x").at_most(20).or_quarantine(), column("x").not_null().or_warn())
    snapshot = home.data.snapshot(table)
    frame = home.data.read(snapshot.id, without_quarantined=table.expectations).collect()
    assert frame["x"].to_list() == [3, None, 4]


def test_an_unknown_snapshot(home: Home) -> None:
    with pytest.raises(SnapshotNotFoundError, match="no snapshot has the id 'abc'"):
        home.data.read("abc")


def test_stored_bytes_that_were_lost_are_told_and_made_again(home: Home) -> None:
    home.write("a.csv", "x\n1\n")
    table = Table("a.csv", name="a")
    snapshot = home.data.snapshot(table)
    for path in home.stored():
        path.unlink()
    with pytest.raises(NotFoundError, match="no stored content"):
        home.data.read(snapshot.id)
    assert home.data.snapshot(table) == snapshot
    assert home.data.read(snapshot.id).collect().height == 1


def test_two_threads_make_one_snapshot(home: Home) -> None:
    events().write_parquet(home.root / "a.parquet")
    table = Table("a.parquet", time="at", name="a")
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.append(home.data.snapshot(table).id)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4
    assert len(set(made)) == 1
    assert home.kinds() == ["data.snapshot.created"]


class TestDigestsOfFiles:
    def test_a_rewrite_within_the_same_tick_is_seen(self, home: Home) -> None:
        path = home.write("a.csv", "x\n1\n")
        service = digests.FileDigests(home.db, LocalBlobStore(home.blobs))
        stat = path.stat()
        first = service.digest(path)
        path.write_text("x\n2\n")
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert service.digest(path) != first

    def test_an_old_file_is_digested_once(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        path = home.write("a.csv", "x\n1\n")
        service = digests.FileDigests(home.db, LocalBlobStore(home.blobs))
        monkeypatch.setattr(digests, "_is_settled", lambda path, now_ns: True)
        first = service.digest(path)

        def fail(path: Path) -> str:
            raise AssertionError(path)

        monkeypatch.setattr(digests, "digest_file", fail)
        assert service.digest(path) == first
        path.write_text("x\n12\n")
        with pytest.raises(AssertionError):
            service.digest(path)

    def test_a_young_file_is_not_remembered(self, home: Home) -> None:
        path = home.write("a.csv", "x\n1\n")
        assert not digests._is_settled(path, path.stat().st_mtime_ns + 1_000_000)
        assert digests._is_settled(path, path.stat().st_ctime_ns + 3_000_000_000)


def test_a_fingerprint_changes_with_the_source(home: Home) -> None:
    path = home.write("a.csv", "x\n1\n")
    table = Table("a.csv", name="a")
    before = home.data.fingerprint(table)
    assert home.data.fingerprint(table) == before
    path.write_text("x\n12\n")
    assert home.data.fingerprint(table) != before
    place = str(home.root / "delta")
    events(3).write_delta(place)
    before = home.data.fingerprint(Table("delta"))
    events(3).write_delta(place, mode="append")
    assert home.data.fingerprint(Table("delta")) != before


def test_a_full_disk_leaves_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.write("a.csv", "x\n1\n")

    def sink(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.LazyFrame, "sink_parquet", sink)
    with pytest.raises(BackendError, match="no space is left"):
        home.data.snapshot(Table("a.csv", name="a"))
    assert (home.stored(), home.data.list(), home.kinds()) == ([], [], [])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_local_times_are_taken_in_their_zone_and_one_that_never_was_is_named(home: Home, suffix: str) -> None:
    times = ["2026-01-01T12:00:00", "2026-10-25T02:30:00", "2026-07-01T12:00:00"]

    def write(texts: list[str]) -> None:
        frame = pl.DataFrame({"at": texts})
        if suffix == "csv":
            frame.write_csv(home.root / "local.csv")
        else:
            frame.select(pl.col("at").str.to_datetime()).write_parquet(home.root / "local.parquet")

    table = Table(f"local.{suffix}", time="at", time_zone="Europe/Berlin", name="local")
    write(times)
    read = home.data.read(home.data.snapshot(table).id).collect()["at"].to_list()
    hours = [(1, 1, 11, 0), (10, 25, 0, 30), (7, 1, 10, 0)]  # of the hour that was twice, the first
    assert read == [datetime(2026, month, day, hour, minute, tzinfo=UTC) for month, day, hour, minute in hours]
    write([*times, "2026-03-29T02:30:00"])
    with pytest.raises(NoSuchTimeError, match="row 4, which never was in Europe/Berlin"):
        home.data.snapshot(table)
    with pytest.raises(InvalidInputError, match="is no time zone"):
        Table("local.csv", time="at", time_zone="Berlin")


def test_of_a_table_of_many_files_only_the_new_ones_are_counted(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table("parts/*.parquet", name="parts")
    (home.root / "parts").mkdir()
    for number in range(5):
        pl.DataFrame({"x": [number] * (number + 1)}).write_parquet(home.root / "parts" / f"{number}.parquet")
    home.data.snapshot(table)
    pl.DataFrame({"x": [9, 9]}).write_parquet(home.root / "parts" / "9.parquet")
    counted = []
    scan = contents.scan_one
    monkeypatch.setattr(contents, "scan_one", lambda path: counted.append(path) or scan(path))
    grown = home.data.snapshot(table)
    assert [file.rows for file in grown.files] == [1, 2, 3, 4, 5, 2]
    assert len(counted) == 1


_GROWTH = {
    "later rows": {"x": [5, 6], "at": [JANUARY.replace(day=9)] * 2},
    "earlier rows": {"x": [5], "at": [JANUARY.replace(year=2020)]},
    "a first null": {"x": [None, 1], "at": [JANUARY.replace(day=2)] * 2},
    "no rows": {"x": [], "at": []},
}


@pytest.mark.parametrize("kind", ["parquet", "partitions", "delta"])
@pytest.mark.parametrize("growth", list(_GROWTH))
def test_of_a_table_that_grows_by_files_only_the_new_ones_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, growth: str
) -> None:
    columns = {"x": pl.Int64(), "at": pl.Datetime("us", "UTC")}
    table = Table("rows", time="at", name="rows")

    def add(root: Path, number: int, rows: dict[str, list[object]]) -> None:
        frame = pl.DataFrame(rows, schema=columns)
        if kind == "delta":
            frame.write_delta(str(root / "rows"), mode="append")
            return
        place = root / "rows" / (f"day={number}" if kind == "partitions" else "") / f"{number}.parquet"
        place.parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(place)

    home = Home(tmp_path)
    for number in range(3):
        add(tmp_path, number, {"x": [number], "at": [JANUARY.replace(day=3 + number)]})
    home.data.snapshot(table)
    add(tmp_path, 7, _GROWTH[growth])
    read: list[int] = []
    describe = contents.describe_grown
    monkeypatch.setattr(
        contents, "describe_grown", lambda added, *others: read.append(len(added.files)) or describe(added, *others)
    )
    grown = home.data.snapshot(table)
    anew = DataService(home.db, home.journal, home.clock, LocalBlobStore(tmp_path / "anew"), tmp_path)
    with home.db.begin() as tx:
        tx.execute("DELETE FROM data_content")
        tx.execute("DELETE FROM data_snapshot")
    whole = anew.snapshot(table)
    assert grown == whole
    assert whole.schema.get("x").nullable == (growth == "a first null")
    assert read == ([] if kind == "delta" and growth == "no rows" else [1])


def test_a_new_file_with_other_columns_is_still_refused(home: Home) -> None:
    (home.root / "parts").mkdir()
    for number in range(3):
        pl.DataFrame({"x": [number]}).write_parquet(home.root / "parts" / f"{number}.parquet")
    table = Table("parts", name="parts")
    home.data.snapshot(table)
    pl.DataFrame({"x": [1.5]}).write_parquet(home.root / "parts" / "9.parquet")
    with pytest.raises(InvalidInputError, match=r"'9\.parquet' and '0\.parquet' differ in x"):
        home.data.snapshot(table)
