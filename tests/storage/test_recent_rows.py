"""What is written to LMDB a moment ago: it outlives processes, reaches the disk, and never tears the store."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import lmdb
import pytest

from flyball.core import boots
from flyball.storage.online.environments import Environment
from flyball.storage.online.lmdb import LmdbOnlineStore
from flyball.storage.online.opening import open_online_store
from flyball.storage.online.port import OnlineRow

_VIEW = "payments@1"
_PUSHER = """
import sys
from pathlib import Path
from flyball.storage.online.environments import Environment
from flyball.storage.online.lmdb import LmdbOnlineStore
from flyball.storage.online.port import OnlineRow

store = LmdbOnlineStore(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    number += 1
    row = OnlineRow(b"%d" % (number % 500), number, number, b"%d" % number)
    # The first may have been written by the process before this one, which could not tell it any more.
    assert store.write("payments@1", [row], copy="copy@1") == 1 or number == int(sys.argv[2]) + 1
    print(number, flush=True)
"""


def _row(key: int, time_us: int, payload: bytes = b"x") -> OnlineRow:
    return OnlineRow(b"%d" % key, time_us, time_us, payload)


def _synced_rows(path: Path, copy: Path) -> int:
    """Return how many rows the store's own file holds by itself, as a power cut would leave it."""
    copy.mkdir()
    shutil.copy(path / "data.mdb", copy)
    with lmdb.open(str(copy)) as environment:
        return int(environment.stat()["entries"])


def test_no_answered_write_is_lost_when_its_process_is_killed(tmp_path: Path) -> None:
    last = 0
    for delay_s in (0.3, 1.3, 0.1, 1.02):  # before, after and while rows are moved to the disk
        with subprocess.Popen(
            [sys.executable, "-c", _PUSHER, str(tmp_path), str(last)], stdout=subprocess.PIPE, text=True
        ) as pusher:
            assert pusher.stdout is not None
            pusher.stdout.readline()
            time.sleep(delay_s)
            pusher.send_signal(signal.SIGKILL)
            told = pusher.stdout.read().split()
        last = max(map(int, told), default=last)
        numbers = range(max(1, last - 498), last + 1)  # the next may be there, too, of which nobody was told
        store = LmdbOnlineStore(tmp_path)
        for view in (_VIEW, "copy@1"):
            found = store.read(view, [b"%d" % (number % 500) for number in numbers])
            assert [row and row.event_time_us for row in found] == list(numbers)
        del store


def test_what_a_killed_process_left_is_on_the_disk_a_moment_after_the_store_is_opened_again(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PUSHER, str(tmp_path / "store"), "0"], stdout=subprocess.PIPE, text=True
    ) as pusher:
        assert pusher.stdout is not None
        pusher.stdout.readline()
        pusher.kill()
    assert _synced_rows(tmp_path / "store", tmp_path / "before") == 0
    store = LmdbOnlineStore(tmp_path / "store")
    time.sleep(1.5)
    assert _synced_rows(tmp_path / "store", tmp_path / "after") >= 2
    assert store.read(_VIEW, [b"1"]) == [_row(1, 1, b"1")]


def test_a_small_write_is_on_the_disk_within_about_a_second(tmp_path: Path) -> None:
    store = LmdbOnlineStore(tmp_path / "store")
    store.write(_VIEW, [_row(1, 5)])
    assert _synced_rows(tmp_path / "store", tmp_path / "at-once") == 0
    time.sleep(1.5)
    assert _synced_rows(tmp_path / "store", tmp_path / "later") == 1
    assert store.read(_VIEW, [b"1"]) == [_row(1, 5)]
    assert store.write(_VIEW, [_row(1, 4)]) == 0
    assert store.write(_VIEW, [_row(1, 6)]) == 1
    assert store.read(_VIEW, [b"1"]) == [_row(1, 6)]


def test_a_store_that_is_closed_leaves_nothing_off_the_disk(tmp_path: Path) -> None:
    store = LmdbOnlineStore(tmp_path / "store")
    store.write(_VIEW, [_row(1, 5)])
    del store
    assert _synced_rows(tmp_path / "store", tmp_path / "copy") == 1


def test_with_durable_disk_a_write_is_on_the_disk_before_it_is_answered(tmp_path: Path) -> None:
    LmdbOnlineStore(tmp_path / "online").write(_VIEW, [_row(1, 9), _row(2, 5)])
    store = open_online_store("lmdb", tmp_path, timeout_s=0.1, is_synced=True)
    assert store.write(_VIEW, [_row(1, 8), _row(2, 8)]) == 1
    assert _synced_rows(tmp_path / "online", tmp_path / "copy") == 2
    assert store.read(_VIEW, [b"1", b"2"]) == [_row(1, 9), _row(2, 8)]


def test_also_the_last_commit_is_brought_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = Environment.sync

    def sync(environment: Environment) -> None:
        synced.append(threading.current_thread().name)
        real(environment)

    monkeypatch.setattr(Environment, "sync", sync)
    LmdbOnlineStore(tmp_path / "synced", is_synced=True).write(_VIEW, [_row(1, 5)])
    assert synced == ["MainThread"]
    store = LmdbOnlineStore(tmp_path / "later")
    store.write(_VIEW, [_row(key, 5) for key in range(1_000)])
    assert synced == ["MainThread"]
    time.sleep(1.5)
    assert synced == ["MainThread", "online-rows"]
    assert len(list(store.scan(_VIEW))) == 1_000


def test_after_a_power_cut_the_store_is_whole_and_lacks_at_most_the_last_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LmdbOnlineStore(tmp_path)
    store.write(_VIEW, [_row(key, 5) for key in range(1_000)])  # many at once wait for the disk
    store.write(_VIEW, [_row(1, 6)])
    (recent,) = tmp_path.glob("recent-*.mdb")
    kept = recent.read_bytes()
    del store
    recent.write_bytes(b"\0" * 100 + kept[100:8_192])  # torn
    monkeypatch.setattr("flyball.storage.online.lmdb.boot_id", lambda: "another-boot")
    store = LmdbOnlineStore(tmp_path)
    assert [path.name for path in tmp_path.glob("recent-*.mdb")] == ["recent-another-boot.mdb"]
    found = store.read(_VIEW, [b"%d" % key for key in range(1_000)])
    assert all(row is not None and row.event_time_us >= 5 for row in found)
    assert store.write(_VIEW, [_row(1, 7)]) == 1


def test_where_boots_are_not_told_apart_every_write_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert boots.boot_id()  # here they are
    monkeypatch.setattr("flyball.storage.online.lmdb.boot_id", lambda: "")
    store = LmdbOnlineStore(tmp_path / "store")
    assert store.write(_VIEW, [_row(1, 5)]) == 1
    assert _synced_rows(tmp_path / "store", tmp_path / "copy") == 1
    assert store.read(_VIEW, [b"1"]) == [_row(1, 5)]
    assert list(store.scan(_VIEW)) == [_row(1, 5)]


def test_rows_that_a_replacement_removed_do_not_come_back(tmp_path: Path) -> None:
    store = LmdbOnlineStore(tmp_path)
    store.write(_VIEW, [_row(key, 9) for key in range(50)])
    store.replace(_VIEW, [_row(1, 1)])
    time.sleep(1.2)
    assert store.read(_VIEW, [b"1", b"2"]) == [_row(1, 1), None]
    store.write(_VIEW, [_row(3, 9)])
    assert store.delete(_VIEW, [b"3"]) == 1
    time.sleep(1.2)
    assert store.read(_VIEW, [b"3"]) == [None]


def test_readers_never_miss_a_row_that_is_being_moved(tmp_path: Path) -> None:
    store = LmdbOnlineStore(tmp_path)
    is_over = threading.Event()
    wrong: list[tuple[int, object]] = []
    answered = [0] * 20

    def read() -> None:
        while not is_over.is_set():
            before = list(answered)
            found = store.read(_VIEW, [b"%d" % key for key in range(20)])
            wrong.extend(
                (time_us, row)
                for time_us, row in zip(before, found, strict=True)
                if time_us and (row is None or row.event_time_us < time_us)
            )

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 1_500):
        store.write(_VIEW, [_row(number % 20, number)])
        answered[number % 20] = number
        if number % 7 == 0:
            assert store._recent is not None
            store._recent.move()
    is_over.set()
    reader.join()
    assert wrong == []


def test_who_writes_faster_than_the_disk_is_slowed_down_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flyball.storage.online.recent._MOST_BYTES", 100_000)
    store = LmdbOnlineStore(tmp_path)
    for number in range(60):
        assert store.write(_VIEW, [_row(key, number, b"x" * 300) for key in range(100)]) == 100
    assert {row and row.event_time_us for row in store.read(_VIEW, [b"%d" % key for key in range(100)])} == {59}
    (recent,) = tmp_path.glob("recent-*.mdb")
    assert recent.stat().st_size < 1_000_000


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_process_brings_its_own_writes_to_the_disk(tmp_path: Path) -> None:
    store = LmdbOnlineStore(tmp_path / "store")
    store.write(_VIEW, [_row(1, 5)])
    child = os.fork()
    if child == 0:
        store.write(_VIEW, [_row(2, 5)])
        time.sleep(1.4)
        os._exit(0 if _synced_rows(tmp_path / "store", tmp_path / "copy") == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0
