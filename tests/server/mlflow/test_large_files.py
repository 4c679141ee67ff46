"""A file of 2 GB through ``flyball up``: in bounded memory, never seen half-written, taken up again both ways."""

import hashlib
import http.client
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.stories.system import System, send

pytestmark = pytest.mark.slow
PIECE = 1 << 20
LARGE = 2_048
MOST_MEMORY_MB = 200
F = "/api/2.0/mlflow-artifacts/"


@pytest.fixture
def system() -> Iterator[System]:
    """A server of runs alone, in a folder that goes at once: pytest would keep its gigabytes."""
    with tempfile.TemporaryDirectory() as folder:
        made = System(Path(folder))
        made.up()
        yield made
        made.stop()


def pieces(megabytes: int, seed: int, digest: "hashlib._Hash", at_piece: Callable[[int], None]) -> Iterator[bytes]:
    """Yield random bytes, of which no two pieces are alike."""
    dice = np.random.default_rng(seed)
    for number in range(megabytes):
        at_piece(number)
        piece = dice.bytes(PIECE)
        digest.update(piece)
        yield piece


def upload(
    system: System, path: str, megabytes: int, seed: int, at_piece: Callable[[int], None] = lambda _: None
) -> str:
    """Upload a file and return its digest."""
    digest = hashlib.sha256()
    connection = http.client.HTTPConnection("127.0.0.1", system.port, timeout=120)
    headers = {"content-length": str(megabytes * PIECE), "content-type": "application/octet-stream"}
    connection.request("PUT", f"{F}artifacts/{path}", pieces(megabytes, seed, digest, at_piece), headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    connection.close()
    return digest.hexdigest()


def download(system: System, path: str, digest: "hashlib._Hash", start: int = 0, stop: int | None = None) -> int:
    """Download a file from a place on, maybe leave in the middle, and return how much came."""
    connection = http.client.HTTPConnection("127.0.0.1", system.port, timeout=120)
    connection.request("GET", f"{F}artifacts/{path}", headers={"Range": f"bytes={start}-"} if start else {})
    answer = connection.getresponse()
    assert answer.status == (206 if start else 200)
    size = 0
    while data := answer.read(PIECE if stop is None else min(PIECE, stop - start - size)):
        digest.update(data)
        size += len(data)
    connection.close()
    return size


def memory_mb(system: System) -> float:
    """Return the most memory that any of the server's processes has had."""
    assert system.process is not None
    root = psutil.Process(system.process.pid)
    return max(high_water_mb(process.pid) for process in [root, *root.children(recursive=True)])


def high_water_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def test_two_gigabytes_go_up_and_down_in_bounded_memory(system: System) -> None:
    run = system.post("/api/2.0/mlflow/runs/create", {"experiment_id": "0"}).body["run"]["info"]["run_id"]
    root, path = f"0/{run}/artifacts", f"0/{run}/artifacts/model.bin"
    small: list[str] = []

    def look(number: int) -> None:
        if number == LARGE // 4:
            assert system.get(f"{F}artifacts?path={root}").body["files"] == []
            assert system.get(f"{F}artifacts/{path}").status == 404
        if number == LARGE // 2:
            # Another client has the same name: its file is there as soon as it is whole.
            small.append(upload(system, path, 20, seed=2))
        if number == LARGE - 1:
            found = hashlib.sha256()
            download(system, path, found)
            assert found.hexdigest() == small[0]

    digest = upload(system, path, LARGE, 1, look)
    [file] = system.get(f"{F}artifacts?path={root}").body["files"]
    assert file["file_size"] == LARGE * PIECE
    # A client that leaves in the middle goes on where it was.
    found = hashlib.sha256()
    came = download(system, path, found, stop=600 * PIECE)
    came += download(system, path, found, start=came)
    assert (came, found.hexdigest()) == (LARGE * PIECE, digest)
    # Sent again it costs no space, and nothing is kept of an upload whose client leaves.
    stored = stored_bytes(system)
    assert upload(system, f"{root}/again.bin", LARGE // 4, seed=1)
    assert stored_bytes(system) - stored < 5_000_000
    peak = memory_mb(system)
    print(f"most memory of a process: {peak:.0f} MB")
    assert peak < MOST_MEMORY_MB


def test_an_upload_in_parts_goes_on_after_the_server_was_killed(system: System) -> None:
    body: dict[str, Any] = {"path": "model.bin", "num_parts": 4}
    begun = system.post(f"{F}mpu/create", body).body
    dice = np.random.default_rng(3)
    parts = [dice.bytes(8 * PIECE) for _ in range(4)]

    def send_part(number: int) -> str:
        address = f"{F}mpu/parts/{begun['upload_id']}/{number + 1}"
        assert send(system.port, "PUT", address, parts[number]).status == 200
        return hashlib.sha256(parts[number]).hexdigest()

    etags = [send_part(0), send_part(1)]
    assert system.process is not None
    [server] = psutil.Process(system.process.pid).children()
    server.kill()
    server.wait(10)
    system.wait_until_ready()
    etags += [send_part(2), send_part(3)]
    told = [{"part_number": number, "etag": etag} for number, etag in enumerate(etags, start=1)]
    done = system.post(f"{F}mpu/complete", {"path": "model.bin", "upload_id": begun["upload_id"], "parts": told})
    assert done.status == 200, json.dumps(done.body)
    found = hashlib.sha256()
    download(system, "model.bin", found)
    assert found.digest() == hashlib.sha256(b"".join(parts)).digest()


def stored_bytes(system: System) -> int:
    return sum(file.stat().st_size for file in (system.home / "blobs").rglob("*") if file.is_file())
