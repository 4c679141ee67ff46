"""Half of the gateway's rate for N minutes while the live version is swapped every 10 seconds; memory must stay flat.

Usage: python -m benchmarks.soak [MINUTES]; prints one JSON line and ends with 1 where a request failed, an answered
prediction is not in the log, or memory grew. Two versions of one model take turns by their alias; the loop runs beside
it, so that the log is sealed as it grows.
"""

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import serving
from benchmarks.beside import repeating
from benchmarks.peers import serving_load, serving_processes

_SWAP_EVERY_S = 10.0
_SAMPLE_EVERY_S = 5.0
_CONNECTIONS = 16
_CALIBRATION_S = 5
_MOST_GROWTH = 0.05


def main(minutes: float) -> int:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(os.environ.get("BENCH_FOLDER", folder))
        bench = serving.Bench(root)
        before = _count(bench) if bench.home.exists() else 0
        with bench.gateway(core=None) as (process, port, _), _loop(bench) as loop, _swapping(bench) as swaps:
            # With all that goes on beside it: that is what the rest of the time looks like.
            found = serving_load.press(root, port, "plain", 1, _CALIBRATION_S, connections=_CONNECTIONS)
            rate = found["per_second"] / 2
            watched = process.pid, loop.pid
            with repeating(_SAMPLE_EVERY_S, lambda: [serving_processes.memory_mb(pid) for pid in watched]) as memory:
                offered = serving_load.offer(root, port, "plain", rate, minutes * 60)
        logged = _count(bench) - before
    gateway = [sample[0] for sample in memory]
    growth = _growth(gateway)
    least = offered["requests"] + found["requests"]
    figures: dict[str, Any] = {
        "benchmark": "soak",
        "minutes": minutes,
        "most_per_second": found["per_second"],
        "swaps": len(swaps),
        **offered,
        "answered_and_logged": logged >= least,
        "logged": logged,
        "gateway_megabytes": gateway[:: max(1, len(gateway) // 12)],
        "loop_megabytes": [sample[1] for sample in memory][:: max(1, len(memory) // 12)],
        "growth_of_second_half": round(growth, 3),
    }
    print(json.dumps(figures))
    return int(offered["failures"] > 0 or logged < least or growth > _MOST_GROWTH)


def _growth(samples: list[float]) -> float:
    """Return by which part memory grew in the second half; in the first, caches fill and allocators keep what they
    took."""
    half = samples[len(samples) // 2 :]
    if len(half) < 6:
        return 0.0
    third = len(half) // 3
    return statistics.median(half[-third:]) / statistics.median(half[:third]) - 1


@contextmanager
def _loop(bench: serving.Bench) -> Iterator[subprocess.Popen[bytes]]:
    """Run the loop, which seals the log."""
    arguments = [str(bench.project), str(bench.home), "127.0.0.1", "0"]
    process = subprocess.Popen([sys.executable, "-m", "flyball.server.loop", *arguments])
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(120)  # it may be sealing what has come
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _swapping(bench: serving.Bench) -> Iterator[list[int]]:
    """Let two versions take turns."""
    place = ["--project", str(bench.project), "--home", str(bench.home)]
    subprocess.run(
        [sys.executable, "-m", "flyball.cli.main", "run", "plain_training", "--param", "train.rounds=90", *place],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    from flyball.workspace.workspace import Workspace

    workspace = Workspace(bench.project, bench.home)
    turns = itertools.cycle((2, 1))

    def swap() -> int:
        version = next(turns)
        workspace.registry.set_alias("plain", "champion", f"plain/{version}", actor="soak", reason="taking turns")
        return version

    with repeating(_SWAP_EVERY_S, swap) as swaps:
        yield swaps


def _count(bench: serving.Bench) -> int:
    from flyball.workspace.workspace import Workspace

    predictions = Workspace(bench.project, bench.home).predictions
    predictions.seal()
    return predictions.count("plain")


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 3.0))
