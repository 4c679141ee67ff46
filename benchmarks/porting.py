"""Moving from MLflow: how long 10,000 runs take to come over, and whether they are then as fast as native ones.

Prints one JSON line. The store has MLflow's own tables (made by it, filled with SQL): 10 params, 3 tags and 5 metrics
of 10 points a run. ``file`` and ``server`` bring it over from its file of SQLite and from a running ``mlflow server``.
``search`` and ``open`` are medians over HTTP of a page of 100 with filter and order, and of the first page: of each
imported home, of a home in which Flyball logged the same runs itself, and of the server of MLflow; ``start_s`` is from
starting ``flyball up`` to its first answer. ``export`` and ``restore`` are of an imported home. The
limit is copying the file's rows into an empty database of SQLite.
Run with: ``python -m benchmarks.porting [RUNS] [file] [server] [compare]``; with ``BENCH_FOLDER=F`` the parts can be
run one after the other, since the server of MLflow takes minutes to tell 10,000 runs. Needs ``make peers``.
"""

import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.tracking import python, serving
from flyball.domain.tracking.points import Point
from flyball.domain.tracking.runs import RunStatus
from flyball.workspace.exporting import export_home
from flyball.workspace.home import Home
from flyball.workspace.restoring import restore_home

START_MS = 1_700_000_000_000
STEPS = 10
SCHEMA = (
    "import sqlalchemy, sys; from mlflow.store.db.utils import _initialize_tables;"
    " _initialize_tables(sqlalchemy.create_engine(sys.argv[1]))"
)
GOALS = {"file_s": 120, "search_imported": "native"}


class Run:
    """One run's content."""

    def __init__(self, number: int, dice: random.Random) -> None:
        self.id = f"{dice.getrandbits(128):032x}"
        self.started_ms = START_MS + number * 1_000
        self.params = {f"p{place}": str(dice.randrange(100)) for place in range(10)}
        self.tags = {"mlflow.runName": f"run-{number}", "mlflow.user": "ada", "team": dice.choice("abcd")}
        self.points = [
            (f"m{metric}", dice.random(), self.started_ms + step, step) for metric in range(5) for step in range(STEPS)
        ]


def make_runs(count: int) -> Iterator[Run]:
    dice = random.Random(1)
    return (Run(number, dice) for number in range(count))


def fill_mlflow(path: Path, count: int) -> None:
    subprocess.run([python(), "-W", "ignore", "-c", SCHEMA, f"sqlite:///{path}"], check=True, capture_output=True)
    sql = sqlite3.connect(path)
    sql.execute(
        "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time,"
        " last_update_time) VALUES (1, 'big', 'mlflow-artifacts:/1', 'active', 1, 1)"
    )
    for run in make_runs(count):
        place = f"mlflow-artifacts:/1/{run.id}/artifacts"
        sql.execute(
            "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time,"
            " end_time, source_version, lifecycle_stage, artifact_uri, experiment_id)"
            " VALUES (?, ?, 'UNKNOWN', '', '', 'ada', 'FINISHED', ?, ?, '', 'active', ?, 1)",
            (run.id, run.tags["mlflow.runName"], run.started_ms, run.started_ms + 500, place),
        )
        rows = [(name, value, run.id) for name, value in run.params.items()]
        sql.executemany("INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", rows)
        rows = [(name, value, run.id) for name, value in run.tags.items()]
        sql.executemany("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", rows)
        points = [(name, value, at_ms, run.id, step) for name, value, at_ms, step in run.points]
        insert = "INSERT INTO {} (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, ?, 0)"
        sql.executemany(insert.format("metrics"), points)
        sql.executemany(insert.format("latest_metrics"), [point for point in points if point[4] == STEPS - 1])
    sql.commit()
    sql.close()


def fill_native(home: Home, count: int) -> None:
    with home.db.begin() as tx:
        experiment = home.experiments.create(tx, "big")
    for run in make_runs(count):
        with home.db.begin() as tx:
            home.client_runs.create(
                tx, experiment, run_id=run.id, user="ada", started_at_us=run.started_ms * 1000, tags=run.tags
            )
            points = [Point(name, value, at_ms * 1000, step) for name, value, at_ms, step in run.points]
            home.client_runs.log(tx, run.id, points=points, params=run.params)
            ended = (run.started_ms + 500) * 1000
            home.client_runs.update(tx, run.id, status=RunStatus.SUCCEEDED, finished_at_us=ended)
    home.db.close()


def copy_rows(path: Path, target: Path) -> float:
    """Return how long the plain copy of the rows takes."""
    target.unlink(missing_ok=True)
    started = time.perf_counter()
    sql = sqlite3.connect(target)
    sql.execute(f"ATTACH '{path}' AS there")
    for table in ("runs", "params", "tags", "metrics", "latest_metrics"):
        sql.execute(f"CREATE TABLE {table} AS SELECT * FROM there.{table}")
    sql.commit()
    sql.close()
    return time.perf_counter() - started


def bring(uri: str, folder: Path) -> dict[str, Any]:
    """Run the command; return its time, its memory and whether it brought everything."""
    folder.mkdir()
    (folder / "project.py").write_text("import flyball as fb\n")
    command = [str(Path(sys.executable).with_name("flyball")), "import", "mlflow", "--from", uri, "--json"]
    started = time.perf_counter()
    with (folder / "report.json").open("wb") as out:
        process = subprocess.Popen([*command, "--project", str(folder)], stdout=out, stderr=subprocess.DEVNULL)
    peak_mb = 0.0
    while process.poll() is None:
        peak_mb = max(peak_mb, high_water_mb(process.pid))
        time.sleep(0.05)
    took = time.perf_counter() - started
    report = json.loads((folder / "report.json").read_text())
    return {
        "s": round(took, 2),
        "peak_mb": round(peak_mb),
        "differences": len(report["differences"]),
        "runs": report["counts"]["runs"]["here"],
        "points": report["counts"]["metric points"]["here"],
    }


def high_water_mb(pid: int) -> float:
    """Return the most memory that a process has had so far; 0 once it has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM")), 0.0)


def ask(address: str) -> dict[str, float]:
    """Return medians in milliseconds."""
    searching = {
        "experiment_ids": ["1"],
        "filter": "metrics.m1 > 0.2 AND params.p3 != '7' AND tags.team = 'a'",
        "order_by": ["metrics.m2 DESC"],
        "max_results": 100,
    }
    opening = {"experiment_ids": ["1"], "max_results": 100}
    return {
        f"{name}_ms": round(statistics.median(one_call(address, body) for _ in range(25)) * 1000, 1)
        for name, body in (("search", searching), ("open", opening))
    }


def one_call(address: str, body: dict[str, Any]) -> float:
    request = urllib.request.Request(
        f"{address}/api/2.0/mlflow/runs/search", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    started = time.perf_counter()
    with urllib.request.urlopen(request, timeout=60) as answer:
        found = json.loads(answer.read())
    assert found["runs"]
    return time.perf_counter() - started


def compare(folder: Path, count: int) -> dict[str, Any]:
    """Measure the imported homes beside a native one, and the export of the last."""
    result: dict[str, Any] = {}
    native = folder / "native"
    if not native.exists():
        native.mkdir()
        (native / "project.py").write_text("import flyball as fb\n")
        fill_native(Home(native, native / ".flyball", is_durable=False), count)
    imported_homes = {f"imported_{place.name}": place for place in sorted(folder.glob("from *"))}
    for name, place in (imported_homes | {"native": native}).items():
        with serving("flyball", place, "") as (address, about):
            result[name.replace(" ", "_")] = {"start_s": about["start_s"]} | ask(address)
    last = next(iter(imported_homes.values()))
    imported = Home(last, last / ".flyball")
    started = time.perf_counter()
    export_home(imported, folder / "archive")
    result["export_s"] = round(time.perf_counter() - started, 2)
    started = time.perf_counter()
    restore_home(folder / "archive", Home(last, folder / "restored"))
    result["restore_s"] = round(time.perf_counter() - started, 2)
    size = sum(path.stat().st_size for path in (folder / "archive").rglob("*") if path.is_file())
    result["archive_mb"] = round(size / 1e6, 1)
    result["home_mb"] = round((imported.home / "flyball.db").stat().st_size / 1e6, 1)
    return result


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    parts = sys.argv[2:] or ["file", "server", "compare"]
    result: dict[str, Any] = {"benchmark": "porting", "runs": count, "goals": GOALS}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(os.environ.get("BENCH_FOLDER", temporary))
        there = folder / "there"
        if not there.exists():
            there.mkdir(parents=True)
            fill_mlflow(there / "mlflow.db", count)
        if "server" in parts:
            with serving("installed", there, "") as (address, _):
                result["server"] = bring(address, folder / "from server")
        if "file" in parts:
            result["limit_copy_s"] = round(copy_rows(there / "mlflow.db", folder / "copy.db"), 2)
            result["file"] = bring(f"sqlite:///{there / 'mlflow.db'}", folder / "from file")
        if "compare" in parts:
            with serving("installed", there, "") as (address, about):
                result["mlflow"] = {"start_s": about["start_s"]} | ask(address)
            result |= compare(folder, count)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
