"""Point-in-time joins: training sets beside Polars' own asof join, DuckDB's and Feast's, each in a process of its own.

Seconds, processor seconds and the process's largest memory, the best of the rounds. Flyball builds a training set from
snapshots that were made before, which ``snapshots_s`` tells; the others read the same Parquet files. Feast and DuckDB
run in ``.peers/feast`` and are left out where it is missing. The data is made on the first run, under ``.bench/joins``.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.peers.memory import peak_mb

ROOT = Path(__file__).parents[2]
DATA = ROOT / ".bench" / "joins"
FEAST = ROOT / ".peers" / "feast" / "bin" / "python"
START = datetime(2025, 1, 1, tzinfo=UTC)
TTL = timedelta(days=90)
TIMEOUT_S = 220

CASES: dict[str, dict[str, Any]] = {
    "small": {"features": [20], "rows": 1_000_000, "labels": 100_000, "entities": 50_000, "rounds": 3},
    "large": {"features": [7, 7, 6], "rows": 3_300_000, "labels": 1_000_000, "entities": 100_000, "rounds": 2},
    "hundred": {"features": [6], "rows": 100_000_000, "labels": 1_000_000, "entities": 1_000_000, "rounds": 1},
}
TOOLS = {
    "small": ["flyball", "flyball_known", "polars", "duckdb", "feast"],
    "large": ["flyball", "flyball_known", "polars", "duckdb", "feast"],
    "hundred": ["flyball"],
}


def columns(case: str) -> list[list[str]]:
    return [[f"v{view}_f{number}" for number in range(count)] for view, count in enumerate(CASES[case]["features"])]


def make(case: str) -> Path:
    """Write a case's tables, sorted by time as they come to be; the largest in several files."""
    folder, made = DATA / case, CASES[case]
    if (folder / "labels.parquet").exists():
        return folder
    rng = np.random.default_rng(0)
    for view, names in enumerate(columns(case)):
        files = max(1, made["rows"] // 10_000_000)
        (folder / f"v{view}").mkdir(parents=True, exist_ok=True)
        for file in range(files):
            rows = made["rows"] // files
            frame = _times(rng, rows, made["entities"], part=(file, files)).sort("at")
            delays = pl.duration(seconds=pl.Series(rng.integers(0, 3 * 86_400, rows)))
            values = [pl.Series(name, rng.normal(size=rows)) for name in names]
            frame = frame.with_columns((pl.col("at") + delays).alias("known"), *values)
            frame.write_parquet(folder / f"v{view}" / f"{file:02}.parquet")
    labels = _times(rng, made["labels"], made["entities"], part=(0, 1)).rename({"at": "asked_at"})
    labels.with_columns(defaulted=pl.col("customer") % 2).write_parquet(folder / "labels.parquet")
    return folder


def _times(rng: np.random.Generator, rows: int, entities: int, *, part: tuple[int, int]) -> pl.DataFrame:
    year_s = 365 * 86_400
    first, last = (year_s * number // part[1] for number in (part[0], part[0] + 1))
    frame = pl.DataFrame({"customer": rng.integers(0, entities, rows), "seconds": rng.integers(first, last, rows)})
    at = pl.lit(START).dt.cast_time_unit("us") + pl.duration(seconds="seconds")
    return frame.select("customer", at=at)


def flyball(case: str, folder: Path, *, known: bool = False) -> dict[str, float]:
    import flyball as fb
    from flyball.core.clock import SimulatedClock
    from flyball.domain.data.service import DataService
    from flyball.domain.features.plans import plan_training_set
    from flyball.domain.features.service import FeatureService
    from flyball.domain.journal.service import Journal
    from flyball.storage.blobs import LocalBlobStore
    from flyball.storage.db import Database
    from flyball.storage.online.memory import MemoryOnlineStore

    customer = fb.Entity("customer")
    views = []
    for view, names in enumerate(columns(case)):
        column = "known" if known else None
        table = fb.Table(f"v{view}", entity=customer, time="at", known=column, name=f"table{view}")

        def chosen(rows: pl.LazyFrame, names: list[str] = names) -> pl.LazyFrame:
            return rows.select("customer", "at", *names)

        views.append(fb.features(table, ttl=TTL, name=f"view{view}")(chosen))
    labels = fb.Table("labels.parquet", entity=customer, time="asked_at", name="labels")
    plan = plan_training_set(labels, label=labels["defaulted"], features=views)
    with tempfile.TemporaryDirectory(dir=folder) as home:
        clock = SimulatedClock(START + timedelta(days=500))
        db = Database(f"sqlite:///{home}/flyball.db")
        journal = Journal(db, clock)
        data = DataService(db, journal, clock, LocalBlobStore(Path(home) / "blobs"), folder)
        service = FeatureService(db, journal, clock, data, MemoryOnlineStore(), folder)
        start = time.perf_counter()
        for table in plan.tables:
            data.snapshot(table)
        snapshots_s = time.perf_counter() - start
        start, cpu_start = time.perf_counter(), time.process_time()
        built = service.build_training_set(plan, as_of=clock.now())
        taken, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
    assert len(built) == CASES[case]["labels"]
    return {"seconds": taken, "cpu_s": cpu_s, "snapshots_s": snapshots_s}


def polars(case: str, folder: Path) -> dict[str, float]:
    start, cpu_start = time.perf_counter(), time.process_time()
    joined = pl.scan_parquet(folder / "labels.parquet").sort("asked_at")
    for view, names in enumerate(columns(case)):
        rows = pl.scan_parquet(folder / f"v{view}" / "*.parquet")
        right = rows.select("customer", pl.col("at").alias(f"at{view}"), *names).sort(f"at{view}")
        joined = joined.join_asof(
            right, left_on="asked_at", right_on=f"at{view}", by="customer", tolerance=TTL, check_sortedness=False
        )
    assert joined.collect().height == CASES[case]["labels"]
    return {"seconds": time.perf_counter() - start, "cpu_s": time.process_time() - cpu_start}


HERE: dict[str, Callable[[str, Path], dict[str, float]]] = {
    "flyball": flyball,
    "flyball_known": lambda case, folder: flyball(case, folder, known=True),
    "polars": polars,
}


def run(tool: str, case: str) -> dict[str, Any]:
    """Measure a tool once, in a new process."""
    script = ROOT / "benchmarks" / "peers" / f"joins_{tool}.py"
    here = [sys.executable, "-m", "benchmarks.feature_cases.joins", "--tool", tool, case]
    there = [str(FEAST), str(script), json.dumps(columns(case)), str(DATA / case)]
    done = subprocess.run(
        here if tool in HERE else there, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd=ROOT
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1][:200]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(case: str) -> dict[str, Any]:
    make(case)
    tools = [tool for tool in TOOLS[case] if tool in HERE or FEAST.exists()]
    best: dict[str, Any] = {}
    for _ in range(CASES[case]["rounds"]):
        for tool in tools:
            found = run(tool, case)
            if tool not in best or found.get("seconds", 1e9) < best[tool].get("seconds", 1e9):
                best[tool] = found
    if "polars" in best:
        for tool in ("flyball", "flyball_known"):
            best[tool]["times_polars"] = round(best[tool]["seconds"] / best["polars"]["seconds"], 2)
    made = {name: value for name, value in CASES[case].items() if name != "rounds"}
    return {**made, "tools": best}


def small(_folder: Path) -> dict[str, Any]:
    """A million rows and 100,000 labels."""
    return measure("small")


def large(_folder: Path) -> dict[str, Any]:
    """9.9 million rows in three views and a million labels."""
    return measure("large")


def hundred(_folder: Path) -> dict[str, Any]:
    """A hundred million rows and a million labels: the memory counts."""
    return measure("hundred")


if __name__ == "__main__":
    tool, case = sys.argv[2:]
    found = HERE[tool](case, DATA / case)
    print(json.dumps({**{name: round(value, 3) for name, value in found.items()}, "memory_mb": peak_mb()}))
