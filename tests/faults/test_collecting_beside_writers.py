"""`flyball gc` over and over while clients upload, replace, delete and read: what is named never loses a byte."""

import hashlib
import http.client
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.stories.system import System

pytestmark = pytest.mark.slow
WRITERS = 3
SECONDS = 10.0
F = "/api/2.0/mlflow-artifacts/artifacts/"


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    folder = tmp_path / "runs"
    folder.mkdir()
    system = System(folder)
    system.up()
    yield system
    system.stop()


class Writer:
    """Keeps versions of a file that mostly have the same bytes, some of which go again."""

    def __init__(self, system: System, number: int) -> None:
        self._port = system.port
        made = system.post("/api/2.0/mlflow/runs/create", {"experiment_id": "0"}).body
        self._root = f"{F}0/{made['run']['info']['run_id']}/artifacts"
        self._dice = random.Random(number)
        self._data = bytearray(random.Random(0).randbytes(1_500_000))  # the same for all, at first
        self.kept: dict[str, str] = {}
        self.count = 0

    def work(self, stop: threading.Event) -> None:
        """Write, delete and read until it is time to stop."""
        while not stop.is_set():
            for _ in range(3):
                place = self._dice.randrange(len(self._data))
                self._data[place : place + 2_000] = self._dice.randbytes(2_100)
            name = f"file{self.count % 6}"
            assert self._send("PUT", name, bytes(self._data))[0] == 200
            self.kept[name] = hashlib.sha256(self._data).hexdigest()
            self.count += 1
            if self._dice.random() < 0.4:
                name = self._dice.choice(list(self.kept))
                assert self._send("DELETE", name)[0] == 200
                del self.kept[name]
            self.check()

    def check(self) -> None:
        """Read everything that is there."""
        for name, digest in self.kept.items():
            status, body = self._send("GET", name)
            assert (status, hashlib.sha256(body).hexdigest()) == (200, digest)

    def clear(self) -> None:
        """Delete everything."""
        for name in self.kept:
            assert self._send("DELETE", name)[0] == 200

    def _send(self, method: str, name: str, body: bytes | None = None) -> tuple[int, bytes]:
        headers = {"content-type": "application/octet-stream"}
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)) as connection:
            connection.request(method, f"{self._root}/{name}", body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()


def test_nothing_that_is_named_loses_a_byte(system: System) -> None:
    writers = [Writer(system, number) for number in range(WRITERS)]
    stop = threading.Event()
    freed = 0
    with ThreadPoolExecutor(WRITERS) as threads:
        working = [threads.submit(writer.work, stop) for writer in writers]
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline and not any(one.done() for one in working):
            freed += system.ask("gc", "--grace", "3s")["freed_bytes"]
        stop.set()
        for one in working:
            one.result()
    assert freed > 0
    assert all(writer.count > 3 for writer in writers)
    time.sleep(0.01)
    system.ask("gc", "--grace", "1ms")
    for writer in writers:
        writer.check()
        writer.clear()
    time.sleep(0.01)
    system.ask("gc", "--grace", "1ms")
    left = [path for path in (system.home / "blobs").rglob("*") if path.is_file() and path.name[:6] != "chunks"]
    assert left == []
    print(f"{sum(writer.count for writer in writers)} uploads, {freed:,} bytes freed beside them")
