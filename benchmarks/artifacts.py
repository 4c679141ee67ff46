"""Artifacts: what versions of a large file take on disk, and how fast files come in and out.

Prints one JSON line. ``versions``: 50 versions of 100 MB, each of which differs from the one before in 1%, in so many
places replaced or (one in eleven) inserted; beside it what whole copies take. ``transfer``: one file of random bytes
up, down, and down again from a place on, over HTTP by a client that only sends and receives, with the memory that the
server's processes took at most (PSS); beside it ``mlflow server`` (tuned, from ``make peers``) and a copy with fsync.
``python -m benchmarks.artifacts [versions|transfer]``; sizes by BENCH_VERSIONS and BENCH_TRANSFER_MB.
"""

import hashlib
import http.client
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.beside import repeating
from benchmarks.tracking import serving
from flyball.storage.blobs import LocalBlobStore

VERSIONS = int(os.environ.get("BENCH_VERSIONS", "50"))
MODEL_BYTES = 100_000_000
TRANSFER_MB = int(os.environ.get("BENCH_TRANSFER_MB", "2048"))
PIECE = 1 << 20


def change(data: bytes, rng: random.Random, replaced: int, inserted: int) -> bytes:
    """Return bytes of which 1% are other ones."""
    each = len(data) // 100 // (replaced + inserted)
    changed = bytearray(data)
    for _ in range(replaced):
        place = rng.randrange(len(changed) - each)
        changed[place : place + each] = rng.randbytes(each)
    cuts = sorted(rng.randrange(len(changed)) for _ in range(inserted))
    parts: list[bytes | bytearray] = []
    for before, after in zip([0, *cuts], [*cuts, len(changed)], strict=True):
        parts += [changed[before:after], rng.randbytes(each)]
    return b"".join(parts[:-1])


def versions(replaced: int, inserted: int) -> dict[str, Any]:
    rng = random.Random(1)
    data = rng.randbytes(MODEL_BYTES)
    taken_s = read_s = 0.0
    with tempfile.TemporaryDirectory() as folder:
        blobs = LocalBlobStore(Path(folder))
        written = 0
        for _ in range(VERSIONS):
            started = time.perf_counter()
            with blobs.writing() as writer:
                for start in range(0, len(data), PIECE):
                    writer.write(data[start : start + PIECE])
                digest = writer.finish()
            taken_s += time.perf_counter() - started
            written += len(data)
            last, data = data, change(data, rng, replaced, inserted)
        started = time.perf_counter()
        with blobs.open(digest) as reader:
            extents = len(reader.recipe)
            assert all(piece for piece in reader.chunks())
        read_s = time.perf_counter() - started
        disk = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    return {
        "places": replaced + inserted,
        "disk_mb": round(disk / 1e6, 1),
        "whole_copies_mb": round(written / 1e6),
        "write_mb_per_s": round(written / 1e6 / taken_s),
        "read_last_mb_per_s": round(len(last) / 1e6 / read_s),
        "extents_of_last": extents,
    }


@contextmanager
def peak_of(process: Any) -> Iterator[dict[str, int]]:
    """Watch the memory of a process and all below it."""
    found = {"rest_mb": _pss_mb(process.pid), "peak_mb": 0}
    with repeating(0.1, lambda: _pss_mb(process.pid)) as samples:
        yield found
    found["peak_mb"] = max(samples, default=0)


def _pss_mb(pid: int) -> int:
    total = 0
    root = psutil.Process(pid)
    for member in [root, *root.children(recursive=True)]:
        try:
            total += member.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return round(total / 1e6)


def transfer(name: str, file: Path, digest: str) -> dict[str, Any]:
    megabytes = file.stat().st_size / 1e6
    with tempfile.TemporaryDirectory() as folder, serving(name, Path(folder), "") as (url, about):
        path = f"/api/2.0/mlflow-artifacts/artifacts/0/{'0' * 32}/artifacts/model.bin"
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=300)
        figures: dict[str, Any] = {}
        with peak_of(about["process"]) as memory:
            started = time.perf_counter()
            with file.open("rb") as opened:
                headers = {"content-length": str(file.stat().st_size), "content-type": "application/octet-stream"}
                connection.request("PUT", path, opened, headers)
                answer = connection.getresponse()
                assert answer.status == 200, answer.read()
                answer.read()
            figures["up_mb_per_s"] = round(megabytes / (time.perf_counter() - started))
            for what, wanted in (("down", {}), ("resumed", {"Range": "bytes=1000000-"})):
                started = time.perf_counter()
                connection.request("GET", path, headers=wanted)
                answer = connection.getresponse()
                check = hashlib.sha256()
                size = 0
                while data := answer.read(PIECE):
                    size += len(data)
                    if not wanted:
                        check.update(data)
                figures[f"{what}_mb_per_s"] = round(size / 1e6 / (time.perf_counter() - started))
                figures[f"{what}_status"] = answer.status
                if not wanted:
                    assert check.hexdigest() == digest
    return {**figures, **memory}


def copy(file: Path) -> dict[str, int]:
    """The limits: the same bytes from file to file, and through SHA-256."""
    target = file.with_name("copy")
    started = time.perf_counter()
    with file.open("rb") as source, target.open("wb") as out:
        shutil.copyfileobj(source, out, PIECE)
        out.flush()
        os.fsync(out.fileno())
    copied_s = time.perf_counter() - started
    target.unlink()
    started = time.perf_counter()
    with file.open("rb") as source:
        hashlib.file_digest(source, "sha256")
    megabytes = file.stat().st_size / 1e6
    return {
        "copy_mb_per_s": round(megabytes / copied_s),
        "sha256_mb_per_s": round(megabytes / (time.perf_counter() - started)),
    }


def main(parts: list[str]) -> None:
    found: dict[str, Any] = {"benchmark": "artifacts"}
    if not parts or "versions" in parts:
        found["versions"] = [versions(100, 10), versions(1_000, 100)]
    if not parts or "transfer" in parts:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.bin"
            digest = hashlib.sha256()
            with file.open("wb") as out:
                for _ in range(TRANSFER_MB):
                    out.write(data := os.urandom(PIECE))
                    digest.update(data)
            found["transfer"] = {"mb": TRANSFER_MB, "limits": copy(file)}
            for name in ("flyball", "tuned"):
                found["transfer"][name] = transfer(name, file, digest.hexdigest())
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
