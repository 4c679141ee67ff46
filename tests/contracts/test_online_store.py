"""Every online store passes the same checks; what only LMDB can do is checked below them."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from flyball.core.errors import BackendError
from flyball.storage.online.lmdb import LmdbOnlineStore
from flyball.storage.online.memory import MemoryOnlineStore
from flyball.storage.online.port import OnlineRow
from flyball.storage.online.redis import RedisOnlineStore
from flyball.testing.online_store import ONLINE_STORE_CHECKS, VIEW, NewStore
from tests.servers import RedisServer, redis

_numbers = count()


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["memory", "lmdb", "redis"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> NewStore:
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        return lambda: RedisOnlineStore(f"{server.url}?prefix={next(_numbers)}", timeout_s=5.0)
    factories: dict[str, NewStore] = {
        "memory": MemoryOnlineStore,
        "lmdb": lambda: LmdbOnlineStore(tmp_path / f"{next(_numbers)}"),
    }
    return factories[request.param]


@pytest.mark.parametrize("check", ONLINE_STORE_CHECKS, ids=lambda check: check.__name__)
def test_online_store(check: Callable[[NewStore], None], new_store: NewStore) -> None:
    check(new_store)


def test_rows_outlive_the_store_that_wrote_them(tmp_path: Path) -> None:
    row = OnlineRow(b"1", 10, 11, b"x")
    LmdbOnlineStore(tmp_path).write(VIEW, [row])
    assert LmdbOnlineStore(tmp_path).read(VIEW, [b"1"]) == [row]


def test_two_stores_of_one_process_may_share_a_folder(tmp_path: Path) -> None:
    first, second = LmdbOnlineStore(tmp_path), LmdbOnlineStore(tmp_path / ".." / tmp_path.name)
    first.write(VIEW, [OnlineRow(b"1", 10, 11, b"x")])
    assert second.read(VIEW, [b"1"]) == first.read(VIEW, [b"1"]) != [None]


def test_the_map_grows_when_it_is_full(tmp_path: Path) -> None:
    store = LmdbOnlineStore(tmp_path, map_bytes=64 << 10)
    rows = [OnlineRow(b"%d" % key, 1, 1, b"x" * 500) for key in range(2_000)]
    assert store.write(VIEW, rows) == 2_000
    assert store.read(VIEW, [row.key for row in rows]) == rows


_WRITER = """
import sys
from pathlib import Path
from flyball.storage.online.lmdb import LmdbOnlineStore
from flyball.storage.online.port import OnlineRow
from flyball.storage.online.redis import RedisOnlineStore

store = LmdbOnlineStore(Path(sys.argv[1]), map_bytes=64 << 10)
first = int(sys.argv[2])
for time in range(first, 60, 2):
    store.write("payments@1", [OnlineRow(b"%d" % key, time, time, b"x" * 400) for key in range(time * 10)])
"""


def test_processes_write_together_and_follow_each_others_growth(tmp_path: Path) -> None:
    store = LmdbOnlineStore(tmp_path, map_bytes=64 << 10)
    store.write(VIEW, [OnlineRow(b"own", 1, 1, b"x")])
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path), str(first)]) for first in (0, 1)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    found = store.read(VIEW, [b"%d" % key for key in range(590)])
    assert {row.event_time_us for row in found if row} == {59}
    assert None not in found
    assert store.read(VIEW, [b"own"]) == [OnlineRow(b"own", 1, 1, b"x")]


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_process_reads_and_writes(tmp_path: Path) -> None:
    store = LmdbOnlineStore(tmp_path)
    store.write(VIEW, [OnlineRow(b"1", 10, 11, b"x")])
    child = os.fork()
    if child == 0:
        found = store.read(VIEW, [b"1"])
        store.write(VIEW, [OnlineRow(b"2", 20, 20, b"y")])
        os._exit(0 if found == [OnlineRow(b"1", 10, 11, b"x")] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert store.read(VIEW, [b"2", b"1"])[0] == OnlineRow(b"2", 20, 20, b"y")


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"not a store" * 1_000)
    with pytest.raises(BackendError, match="cannot be opened as an online store"):
        LmdbOnlineStore(tmp_path)
