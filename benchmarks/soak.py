"""Half of the gateway's rate for N minutes while the live version is swapped every 10 seconds; memory must stay flat.

Usage: python -m benchmarks.soak [MINUTES]; prints one JSON line and ends with 1 where a request failed, an answered
prediction is not in the log, or memory grew. Two versions of one model take turns by their alias; the loop runs beside
it, so that the log is sealed as it grows.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import serving
from benchmarks.peers import serving_load

_SWAP_EVERY_S = 10.0
_SAMPLE_EVERY_S = 5.0
_CONNECTIONS = 16
_MOST_GROWTH = 0.05


def main(minutes: float) -> int:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(os.environ.get("BENCH_FOLDER", folder))
        bench = serving.Bench(root)
        with bench.gateway() as (process, port, _):
            most = serving_load.press(root, port, "plain", 1, 3, connections=_CONNECTIONS)["per_second"]
            rate = min(most / 2, 2_000.0)  # more than this client sends on time
            with _loop(bench), _swapping(bench) as swaps, _sampling(process.pid) as memory:
                latencies, failures, ids = asyncio.run(_offer(port, rate, minutes * 60))
        logged = _count(bench)
    # The first half warms up: caches fill, and allocators keep what they took.
    half = memory[len(memory) // 2 :]
    growth = (max(half[-3:]) - min(half[:3])) / min(half[:3]) if len(half) > 5 else 0.0
    figures: dict[str, Any] = {
        "benchmark": "soak",
        "minutes": minutes,
        "rate": round(rate),
        "swaps": len(swaps),
        "failures": failures,
        "answered": ids,
        "logged": logged,
        "megabytes": memory[:: max(1, len(memory) // 12)],
        "growth_of_second_half": round(growth, 3),
        **serving_load.summary(latencies),
    }
    print(json.dumps(figures))
    return int(failures > 0 or logged < ids or growth > _MOST_GROWTH)


async def _offer(port: int, rate: float, seconds: float) -> tuple[list[float], int, int]:
    """Send requests by a timetable and return latencies, failures, and how many were answered."""
    head = f"POST {serving_load.address('plain')} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    bodies = [serving_load.make_body("plain", 1, number) for number in range(64)]
    requests = [f"{head}content-length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
    latencies: list[float] = []
    failures = answered = 0

    async def connection(place: int) -> None:
        nonlocal failures, answered
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        started, each = time.perf_counter(), _CONNECTIONS / rate
        number = 0
        while (due := started + (number + place / _CONNECTIONS) * each) < started + seconds:
            if due > time.perf_counter():
                await asyncio.sleep(due - time.perf_counter())
            writer.write(requests[number % 64])
            reply = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", reply.lower())
            await reader.readexactly(int(length[1]))  # type: ignore[index]
            number += 1
            if reply.startswith(b"HTTP/1.1 200"):
                answered += 1
                latencies.append((time.perf_counter() - due) * 1_000)
            else:
                failures += 1

    await asyncio.gather(*(connection(place) for place in range(_CONNECTIONS)))
    return latencies, failures, answered


@contextmanager
def _loop(bench: serving.Bench) -> Iterator[None]:
    """Run the loop, which seals the log."""
    arguments = [str(bench.project), str(bench.home), "127.0.0.1", "0"]
    process = subprocess.Popen([sys.executable, "-m", "flyball.server.loop", *arguments])
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def _swapping(bench: serving.Bench) -> Iterator[list[str]]:
    """Let two versions take turns."""
    place = ["--project", str(bench.project), "--home", str(bench.home)]
    subprocess.run(
        [sys.executable, "-m", "flyball.cli.main", "run", "plain_training", "--param", "train.rounds=90", *place],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    from flyball.workspace.workspace import Workspace

    workspace = Workspace(bench.project, bench.home)
    swaps: list[str] = []
    is_over = threading.Event()

    def swap() -> None:
        while not is_over.wait(_SWAP_EVERY_S):
            ref = f"plain/{1 + (len(swaps) + 1) % 2}"
            workspace.registry.set_alias("plain", "champion", ref, actor="soak", reason="taking turns")
            swaps.append(ref)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield swaps
    finally:
        is_over.set()
        thread.join()


@contextmanager
def _sampling(pid: int) -> Iterator[list[float]]:
    samples: list[float] = []
    is_over = threading.Event()

    def sample() -> None:
        while not is_over.wait(_SAMPLE_EVERY_S):
            samples.append(serving.memory_mb(pid))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        is_over.set()
        thread.join()


def _count(bench: serving.Bench) -> int:
    from flyball.workspace.workspace import Workspace

    predictions = Workspace(bench.project, bench.home).predictions
    predictions.seal()
    return predictions.count("plain")


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 3.0))
