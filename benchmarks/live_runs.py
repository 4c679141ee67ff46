"""What logging costs a program that trains: ``fb.run()`` beside MLflow's client, both to one ``flyball up``.

Prints one JSON line: microseconds that a call takes of the caller's time, and points per second until all of them are
kept. ``fb_home`` needs no server; ``mlflow`` and ``mlflow_asynchronous`` are the real client in its own environment;
``append`` is the limit: the same bytes written to a file, one ``write`` a call. ``loop`` is a step of about 2 ms of
work with two values logged, beside the same step without: steps that nothing interrupted, and the thread's own
processor time, since other work of the machine is not ours. Needs ``make peers``.

Run with: python -m benchmarks.live_runs
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flyball as fb
from benchmarks.tracking import BENCH, python, serving
from flyball.domain.tracking.records import Point, encode_record

CALLS = 50_000
CALLS_OF_PEER = {"mlflow": 300, "mlflow_asynchronous": 2_000}
STEPS = 500
WORK = 2_500
_PEER = Path(__file__).parent / "peers" / "live_runs_mlflow.py"


def time_calls(call: Callable[[int], object], calls: int) -> dict[str, float]:
    """Return what one call costs its caller."""
    took = []
    clock = time.perf_counter_ns
    for step in range(calls):
        started = clock()
        call(step)
        took.append(clock() - started)
    took.sort()
    return {
        "p50_us": round(took[calls // 2] / 1000, 1),
        "p99_us": round(took[calls * 99 // 100] / 1000, 1),
        "mean_us": round(statistics.fmean(took) / 1000, 1),
    }


def measure_own(home: Path, server: str) -> dict[str, Any]:
    run = fb.run("it", server=server, home=home)
    started = time.perf_counter()
    figures: dict[str, Any] = time_calls(lambda step: run.log_metric("loss", step * 0.5, step=step), CALLS)
    run.finish()
    return figures | {"points_per_s_until_kept": round(CALLS / (time.perf_counter() - started))}


def measure_append(folder: Path) -> dict[str, float]:
    record = encode_record(Point("loss", 0.5, 1_000, 1_700_000_000_000_000))
    file = os.open(folder / "append", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        return time_calls(lambda _: os.write(file, record), CALLS)
    finally:
        os.close(file)


def work() -> None:
    for _ in range(WORK):
        sum(range(100))


def undisturbed(times: list[float]) -> float:
    """Return what a step takes that other programs do not interrupt, as they do most steps on a busy machine."""
    return sorted(times)[len(times) // 20]


def measure_loop(home: Path, server: str) -> dict[str, float]:
    """Compare a loop that works and logs with one that only works; in turns, so that both meet the same machine."""
    bare, logging = [], []
    bare_cpu = logging_cpu = 0.0
    with fb.run("loop", server=server, home=home):
        for step in range(STEPS):
            times = [(time.perf_counter(), time.thread_time())]
            work()
            times.append((time.perf_counter(), time.thread_time()))
            work()
            fb.log_metric("loss", 0.5, step=step)
            fb.log_metric("accuracy", 0.5, step=step)
            times.append((time.perf_counter(), time.thread_time()))
            bare.append(times[1][0] - times[0][0])
            logging.append(times[2][0] - times[1][0])
            bare_cpu += times[1][1] - times[0][1]
            logging_cpu += times[2][1] - times[1][1]
    return {
        "step_ms": round(undisturbed(bare) * 1000, 3),
        "slower_percent": round((undisturbed(logging) / undisturbed(bare) - 1) * 100, 2),
        "more_processor_time_percent": round((logging_cpu / bare_cpu - 1) * 100, 2),
    }


def measure_peer(case: str, server: str) -> dict[str, Any]:
    command = [python(), str(_PEER), case, server, str(CALLS_OF_PEER[case])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    figures: dict[str, Any] = (
        json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"failed": done.stderr[-600:]}
    )
    return figures


def main() -> None:
    BENCH.mkdir(exist_ok=True)
    result: dict[str, Any] = {"benchmark": "live_runs", "cores": os.cpu_count(), "calls": CALLS}
    with tempfile.TemporaryDirectory(dir=BENCH) as scratch:
        folder = Path(scratch)
        (folder / "server").mkdir()
        with serving("flyball", folder / "server", "") as (url, _):
            result["append"] = measure_append(folder)
            result["fb_home"] = measure_own(folder / "home", "")
            result["fb_server"] = measure_own(folder / "laptop", url)
            result["loop"] = measure_loop(folder / "laptop", url)
            for case in CALLS_OF_PEER:
                result[case] = measure_peer(case, url)
    result["goal"] = {"p50_us": 20}
    result["load"] = [round(value, 1) for value in os.getloadavg()]
    print(json.dumps(result))


if __name__ == "__main__":
    sys.exit(main())
