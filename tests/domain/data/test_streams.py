"""Tables that grow: each message of a topic is one row and each change one event, whatever is killed meanwhile."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from deltalake import write_deltalake
from tests.brokers import Brokers, kafka

from flyball.core.clock import SimulatedClock
from flyball.core.errors import InvalidInputError
from flyball.domain.data.service import DataService
from flyball.domain.data.snapshots import TableEmptyError
from flyball.domain.data.tables import Table
from flyball.domain.journal.service import Journal
from flyball.storage.blobs import LocalBlobStore
from flyball.storage.db import Database
from flyball.storage.tables import taken
from flyball.storage.tables.messages import MessagesUnreadableError
from flyball.storage.tables.taken import ColumnTypeChangedError
from flyball.storage.tables.topics import StreamUnreachableError, TopicChangedError, TopicMissingError
from flyball.storage.tables.urls import mask

NOW = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture(scope="module")
def brokers() -> Iterator[Brokers]:
    with kafka() as running:
        yield running


class Home:
    """A home whose tables are watched."""

    def __init__(self, root: Path) -> None:
        clock, db = SimulatedClock(NOW), Database(f"sqlite:///{root}/home/flyball.db")
        self.journal = Journal(db, clock)
        self.data = DataService(db, self.journal, clock, LocalBlobStore(root / "home" / "blobs"), root)

    def rows(self, table: Table) -> pl.DataFrame:
        return self.data.read(self.data.watch(table).id).collect()

    def told(self) -> list[int]:
        events = self.journal.list_events()
        return [event.data["rows_added"] for event in events if event.kind == "data.table.grown"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def payments(brokers: Brokers, topic: str, query: str = "", **options: object) -> Table:
    types = {"customer": "int", "amount": "float", "at": "datetime", "note": "string"}
    settings = {"types": types, "time": "at", "known": "kafka_time", "name": "payments", **options}
    return Table(f"kafka://{brokers.address}/{topic}{query}", **settings)  # type: ignore[arg-type]


def message(number: int, **fields: object) -> bytes:
    at = f"2026-01-02T10:00:{number % 60:02d}+01:00"
    return json.dumps({"customer": number, "amount": number / 4, "at": at, "other": [1], **fields}).encode()


def test_each_message_is_a_row_with_the_declared_fields_and_where_it_was(brokers: Brokers, home: Home) -> None:
    brokers.send("one", [message(number) for number in range(1000)], timestamp=1_767_000_000_000)
    table = payments(brokers, "one")
    frame = home.rows(table)
    assert sorted(frame["customer"]) == list(range(1000))
    assert frame.schema["at"] == frame.schema["kafka_time"] == pl.Datetime("us", "UTC")
    assert frame.select("kafka_partition", "kafka_offset").is_unique().all()
    row = frame.filter(pl.col("customer") == 5).row(0, named=True)
    assert (row["amount"], row["note"], row["kafka_key"]) == (1.25, None, "5")
    assert row["at"] == datetime(2026, 1, 2, 9, 0, 5, tzinfo=UTC)
    assert row["kafka_time"] == datetime.fromtimestamp(1_767_000_000, UTC)
    first = home.data.snapshot(table)
    assert home.data.snapshot(table).id == first.id
    brokers.send("one", [message(1000)])
    second = home.data.snapshot(table)
    assert (second.rows, second.files[0]) == (1001, first.files[0])  # what was taken before is not stored again


def test_each_change_of_a_topic_is_told_once(brokers: Brokers, home: Home) -> None:
    table = payments(brokers, "told")
    for count in (3, 5, 1):
        brokers.send("told", [message(number) for number in range(count)])
        seen = home.data.fingerprint(table)
        home.data.watch(table)
        home.data.watch(table)
        assert home.data.fingerprint(table) == seen
    assert home.told() == [5, 1]


def test_messages_that_are_no_rows_are_kept_apart_with_their_reason(
    brokers: Brokers, home: Home, tmp_path: Path
) -> None:
    bad = [b"{", b"[1]", message(1, customer="7"), message(2, customer=2**63), message(3, at="2026-02-30"), None]
    brokers.send("bad", [*bad, message(4, customer=None), message(5)])
    assert sorted(home.rows(payments(brokers, "bad"))["amount"]) == [1.0, 1.25]
    rejected = pl.read_delta(str(tmp_path / "home" / "streams" / "payments" / "rejected"))
    assert sorted(rejected["value"].to_list(), key=str) == sorted(bad, key=str)
    assert any("customer" in reason for reason in rejected["reason"])
    home.rows(payments(brokers, "bad"))
    assert pl.read_delta(str(tmp_path / "home" / "streams" / "payments" / "rejected")).height == len(bad)


def test_a_declaration_that_fits_no_message_takes_none(brokers: Brokers, home: Home) -> None:
    brokers.send("wrong", [message(number) for number in range(10)])
    with pytest.raises(MessagesUnreadableError, match=r"none of the 10 new messages .* got `float`"):
        home.rows(payments(brokers, "wrong", types={"amount": "int", "at": "datetime"}, known=None))
    with pytest.raises(MessagesUnreadableError):
        home.rows(payments(brokers, "wrong", types={"at": "bool"}, time=None))
    assert home.rows(payments(brokers, "wrong")).height == 10


def test_instants_without_a_zone_are_in_the_tables_and_one_that_never_was_is_no_row(
    brokers: Brokers, home: Home
) -> None:
    times = ["2026-03-29T01:30:00", "2026-03-29T02:30:00", "2026-03-29T03:30:00", "2026-03-29T03:30:00Z"]
    brokers.send("zones", [message(number, at=at) for number, at in enumerate(times)])
    frame = home.rows(payments(brokers, "zones", time_zone="Europe/Berlin")).sort("customer")
    hours = [at.hour + at.minute / 60 for at in frame["at"]]
    assert list(zip(frame["customer"], hours, strict=True)) == [(0, 0.5), (2, 1.5), (3, 3.5)]


def test_a_declared_column_may_be_added_and_not_change_its_type(brokers: Brokers, home: Home) -> None:
    brokers.send("more", [message(1)])
    before = payments(brokers, "more", types={"customer": "int", "at": "datetime"})
    assert home.rows(before).width == 6
    brokers.send("more", [message(2)])
    after = payments(brokers, "more")
    assert sorted(home.rows(after)["amount"].to_list(), key=str) == [0.5, None]
    assert home.rows(before).width == 6
    with pytest.raises(ColumnTypeChangedError, match="was taken as Float64 and is declared as Int64"):
        home.rows(payments(brokers, "more", types={"amount": "int", "at": "datetime"}))


def test_a_table_may_begin_with_what_comes_next(brokers: Brokers, home: Home) -> None:
    brokers.send("late", [message(number) for number in range(20)])
    table = payments(brokers, "late", "?start=latest")
    with pytest.raises(TableEmptyError):
        home.rows(table)
    brokers.send("late", [message(99)])
    assert home.rows(table)["customer"].to_list() == [99]


def test_many_small_commits_become_a_few_files_in_one_change(
    brokers: Brokers, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taken, "_MOST_FILES", 3)
    table = payments(brokers, "small")
    for number in range(7):
        brokers.send("small", [message(number)])
        assert home.rows(table).height == number + 1
    assert len(home.data.snapshot(table).files) < 5
    assert home.told() == [1] * 6


@pytest.mark.parametrize(
    ("query", "declared", "message"),
    [
        ("?start=tomorrow", {}, "start=tomorrow cannot be said there"),
        ("?strat=latest", {}, "strat cannot be said there"),
        ("?enable.auto.commit=true", {}, "enable.auto.commit cannot be said"),
        ("?no.such.option=1", {}, "an option that Kafka's client refuses"),
        ("?sasl.password=${NOT_SET_ANYWHERE}", {}, "NOT_SET_ANYWHERE"),
        ("", {"types": {}}, "does not say its columns"),
        ("", {"types": {"kafka_key": "string"}}, "names 'kafka_key', a column that every row has"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    brokers: Brokers, home: Home, query: str, declared: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        home.rows(payments(brokers, "x", query, **declared))


def test_an_unknown_topic_one_that_was_made_anew_and_brokers_that_went_away(home: Home) -> None:
    with kafka() as first:
        first.send("payments", [message(number) for number in range(30)])
        with pytest.raises(TopicMissingError, match="no topic 'payment', but payments"):
            home.rows(payments(first, "payment"))
        assert home.rows(payments(first, "payments")).height == 30
    with pytest.raises(StreamUnreachableError, match="does not answer"):
        home.rows(payments(first, "payments"))
    with kafka() as second:
        second.send("payments", [message(1)])
        with pytest.raises(TopicChangedError, match="it was made anew"):
            home.rows(payments(second, "payments"))


def test_secrets_of_a_source_are_not_shown() -> None:
    url = "kafka://host/topic?sasl.username=me&sasl.password=hush&ssl.key.password=hush2"
    assert "hush" not in mask(url) and "sasl.username=me" in mask(url)


def send_message(brokers: Brokers, root: Path, number: int) -> None:
    brokers.send(root.name, [message(number)])


def add_file(brokers: Brokers, root: Path, number: int) -> None:
    part = root / "days" / f".{number}"
    part.parent.mkdir(exist_ok=True)
    pl.DataFrame({"customer": [number]}).write_parquet(part)
    part.rename(part.with_name(f"{number:03d}.parquet"))


def add_version(brokers: Brokers, root: Path, number: int) -> None:
    write_deltalake(root / "delta", pl.DataFrame({"customer": [number]}), mode="append")


_WATCH = """
import sys
from pathlib import Path
from flyball.domain.data.tables import Table
from tests.domain.data.test_streams import Home, payments
from tests.brokers import Brokers
root, kind, address = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
home = Home(root)
table = payments(Brokers(address), root.name) if kind == "kafka" else Table(kind, name="payments")
print("ready", flush=True)
while True:
    home.data.watch(table)
    if (root / "stop").exists():
        break
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "grow"),
    [("days", add_file), ("delta", add_version), ("kafka", send_message)],
    ids=["files", "delta", "kafka"],
)
def test_a_watcher_that_is_killed_all_the_time_takes_all_once_and_tells_of_all_once(
    brokers: Brokers, tmp_path: Path, kind: str, grow: Callable[[Brokers, Path, int], None]
) -> None:
    dice, sent = random.Random(7), 0
    grow(brokers, tmp_path, 0)
    table = payments(brokers, tmp_path.name) if kind == "kafka" else Table(kind, name="payments")
    Home(tmp_path).data.watch(table)  # the first look has nothing to compare with, so it must not be one that is killed
    command = [sys.executable, "-c", _WATCH, str(tmp_path), kind, brokers.address]
    for turn in range(12):
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        if turn < 11:
            for _ in range(dice.randint(1, 4)):
                sent += 1
                grow(brokers, tmp_path, sent)
                time.sleep(dice.random() * 0.06)
            process.send_signal(signal.SIGKILL)
        else:
            (tmp_path / "stop").touch()
        process.wait(60)
        process.stdout.close()
    home = Home(tmp_path)
    known = len(home.told())
    assert sorted(home.rows(table)["customer"]) == list(range(sent + 1))
    assert len(home.told()) == known  # nothing was left to tell
    told = home.told()
    # The first look tells nothing; each later one tells what was added since, and all that adds up to what was sent.
    assert all(rows > 0 for rows in told)
    created = [event for event in home.journal.list_events() if event.kind == "data.snapshot.created"]
    assert created[0].data["rows"] + sum(told) == sent + 1
