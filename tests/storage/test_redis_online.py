"""What only an online store on a server can do: go away, hang, come back, be shared."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from flyball.core.errors import BackendError, BackendUnavailableError, InvalidInputError, UnknownNameError
from flyball.storage.online.lmdb import LmdbOnlineStore
from flyball.storage.online.opening import open_online_store
from flyball.storage.online.port import OnlineRow
from flyball.storage.online.redis import RedisOnlineStore
from tests.servers import RedisServer, redis

_VIEW = "payments@1"
_ROW = OnlineRow(b"1", 10, 11, b"x")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis(tmp_path) as server:
        yield server


def test_a_setting_names_the_store(tmp_path: Path) -> None:
    assert isinstance(open_online_store("redis://localhost:1/0", tmp_path, timeout_s=0.1), RedisOnlineStore)
    open_online_store("lmdb", tmp_path, timeout_s=0.1).write(_VIEW, [_ROW])
    elsewhere = open_online_store(f"lmdb://{tmp_path}/online", tmp_path / "other", timeout_s=0.1)
    assert isinstance(elsewhere, LmdbOnlineStore)
    assert elsewhere.read(_VIEW, [b"1"]) == [_ROW]
    with pytest.raises(UnknownNameError, match="no online store is named 'reddis'; did you mean 'redis'"):
        open_online_store("reddis://localhost", tmp_path, timeout_s=0.1)
    with pytest.raises(InvalidInputError, match="is no address of a Redis server"):
        open_online_store("redis://localhost:port/0", tmp_path, timeout_s=0.1)


def test_a_server_that_went_away_costs_one_bounded_wait_and_reads_go_on_when_it_is_back(server: RedisServer) -> None:
    store = RedisOnlineStore(server.url, timeout_s=0.2, pause_s=0.3)
    store.write(_VIEW, [_ROW])
    assert store.read(_VIEW, [b"1"]) == [_ROW]
    server.stop()
    for _ in range(3):
        started = time.monotonic()
        with pytest.raises(BackendUnavailableError, match=r"redis://127\.0\.0\.1"):
            store.read(_VIEW, [b"1"])
        assert time.monotonic() - started < 3
    with pytest.raises(BackendUnavailableError):
        store.write(_VIEW, [_ROW])
    server.start()
    time.sleep(0.35)
    assert store.read(_VIEW, [b"1"]) == [None]  # this server keeps nothing
    assert store.write(_VIEW, [_ROW]) == 1
    assert store.read(_VIEW, [b"1"]) == [_ROW]


def test_a_server_that_hangs_holds_up_one_read_and_not_each(server: RedisServer) -> None:
    store = RedisOnlineStore(server.url, timeout_s=0.2, pause_s=5.0)
    store.write(_VIEW, [_ROW])
    with Redis.from_url(server.url) as client:
        pid = client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        for _ in range(50):
            with pytest.raises(BackendUnavailableError):
                store.read(_VIEW, [b"1"])
        assert time.monotonic() - started < 5  # fifty waits would take ten seconds
    finally:
        os.kill(pid, signal.SIGCONT)


def test_an_answer_that_came_too_late_is_never_taken_for_the_next_one(server: RedisServer) -> None:
    store = RedisOnlineStore(server.url, timeout_s=0.1, pause_s=0.0)
    other = OnlineRow(b"2", 20, 21, b"y")
    store.write(_VIEW, [_ROW, other])
    with Redis.from_url(server.url) as client:
        pid = client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(BackendUnavailableError):
            store.read(_VIEW, [b"1"])
    finally:
        os.kill(pid, signal.SIGCONT)
    assert store.read(_VIEW, [b"2"]) == [other]


def test_projects_with_prefixes_of_their_own_do_not_meet(server: RedisServer) -> None:
    one, other = RedisOnlineStore(f"{server.url}?prefix=one"), RedisOnlineStore(f"{server.url}?prefix=other")
    one.write(_VIEW, [_ROW])
    assert other.read(_VIEW, [b"1"]) == [None]


def test_readers_never_see_a_view_half_replaced(server: RedisServer) -> None:
    store = RedisOnlineStore(server.url, timeout_s=5.0)
    keys = [b"%d" % key for key in range(3_000)]
    for time_us in range(4):
        store.replace(_VIEW, [OnlineRow(key, time_us, time_us, b"%d" % time_us) for key in keys])
        found = store.read(_VIEW, keys)
        assert {row.event_time_us for row in found if row} == {time_us}
    with Redis.from_url(server.url) as client:
        assert client.keys("*") == [b"flyball:online:payments@1"]
        assert client.ttl("flyball:online:payments@1") == -1


def test_what_the_server_refuses_is_told_with_its_reason_and_without_the_password(server: RedisServer) -> None:
    with Redis.from_url(server.url) as client:
        client.config_set("maxmemory", "1")
        store = RedisOnlineStore(server.url)
        with pytest.raises(BackendError, match="maxmemory"):
            store.write(_VIEW, [_ROW])
    store = RedisOnlineStore(f"redis://user:secret@127.0.0.1:{server.port}/0")
    with pytest.raises(BackendError) as caught:
        store.read(_VIEW, [b"1"])
    assert "secret" not in str(caught.value)


def test_times_far_from_now_keep_their_order(server: RedisServer) -> None:
    store = RedisOnlineStore(server.url)
    latest = 2**62
    for time_us in (-latest, latest, latest + 1):
        assert store.write(_VIEW, [OnlineRow(b"k", time_us, time_us, b"")]) == 1
    assert store.write(_VIEW, [OnlineRow(b"k", latest, latest, b"")]) == 0
    assert store.write(_VIEW, [OnlineRow(b"k", latest + 1, latest + 2, b"")]) == 1
