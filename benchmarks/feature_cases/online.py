"""Reading, writing and materialising online features, beside the stores' own limit and Feast."""

import json
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.feature_cases import limits
from benchmarks.feature_cases.project import (
    FEAST,
    FEATURES,
    KEYS,
    ROWS,
    START,
    open_workspace,
    redis_server,
    write_rows,
)
from flyball.domain.features.rows import encode_rows
from flyball.workspace.feature_store import FeatureStore
from flyball.workspace.workspace import Workspace

_READS = {1: 4_000, 100: 400}
_FEAST_SCRIPT = Path(__file__).parents[1] / "peers" / "run_feast.py"
_FEAST_TIMEOUT_S = 150


def read(folder: Path) -> dict[str, Any]:
    """One entity and a hundred, 20 features, in process: medians in microseconds."""
    told: dict[str, Any] = {}
    with redis_server(folder) as url:
        for store in ("lmdb", "redis"):
            workspace = open_workspace(folder / store, "lmdb" if store == "lmdb" else url)
            workspace.materialise()
            raw_read, raw_write = limits.open_lmdb(folder / "raw") if store == "lmdb" else limits.open_redis(url)
            raw_write(limits.pack(limits.newest(folder / store / "rows.parquet")))
            references = [f"tx:{name}" for name in FEATURES]
            for entities, times in _READS.items():
                asked = _entities(entities, times)
                mine, limit = _interleaved(
                    [
                        lambda keys: workspace.get_online_features(references, {"customer_id": keys}),
                        lambda keys: raw_read(keys),
                    ],
                    asked,
                )
                told[f"{store}_{entities}_us"] = mine
                told[f"{store}_{entities}_limit_us"] = limit
        told |= run_feast(folder, "read", url)
    return told


def write(folder: Path) -> dict[str, Any]:
    """A frame of a thousand rows, in rows a second, and of one, in microseconds: into the store, as a materialisation
    writes them, and pushed, with checks and kept twice. The limit of LMDB waits for the disk at each commit. The store
    does so for a thousand rows, but for one a moment later; so there is a second limit, which does not wait at all.
    """
    told: dict[str, Any] = {}
    with redis_server(folder) as url:
        for store in ("lmdb", "redis"):
            workspace = open_workspace(folder / store, "lmdb" if store == "lmdb" else url)
            workspace.materialise()
            features = FeatureStore(folder / store)
            _, raw_write = limits.open_lmdb(folder / "raw") if store == "lmdb" else limits.open_redis(url)
            raw_writes = {"limit_": raw_write}
            if store == "lmdb":
                raw_writes["unsynced_limit_"] = limits.open_lmdb(folder / "unsynced", is_synced=False)[1]
            for raw in raw_writes.values():
                raw(limits.pack(limits.newest(folder / store / "rows.parquet")))
            table = pl.read_parquet(folder / store / "rows.parquet").head(1_000)
            for rows, times in ((1_000, 60), (1, 300)):
                works: dict[str, Callable[[Any], object]] = {
                    "": _store_write(workspace),
                    "pushed_": lambda taken: features.push("tx", taken[1]),
                    **{name: partial(_write_raw, raw) for name, raw in raw_writes.items()},
                }
                later = [_make_later(table.head(rows), number) for number in range(times)]
                spent = _interleaved(list(works.values()), later)
                unit = "rows_per_s" if rows > 1 else "us"
                for name, us in zip(works, spent, strict=True):
                    told[f"{store}_{rows}_{name}{unit}"] = us if rows == 1 else round(rows / us * 1e6)
        told |= run_feast(folder, "write", url)
    return told


def materialise(folder: Path) -> dict[str, Any]:
    """A million rows to a hundred thousand keys, in seconds, from a Parquet file to rows that can be read."""
    told: dict[str, Any] = {}
    with redis_server(folder) as url:
        for store in ("lmdb", "redis"):
            path = folder / store / "rows.parquet"
            workspace = open_workspace(folder / store, "lmdb" if store == "lmdb" else url, ROWS)
            path.read_bytes()
            started = time.perf_counter()
            workspace.materialise()
            told[f"{store}_s"] = round(time.perf_counter() - started, 3)
            _, raw_write = limits.open_lmdb(folder / "raw") if store == "lmdb" else limits.open_redis(url)
            started = time.perf_counter()
            raw_write(limits.pack(limits.newest(path)))
            told[f"{store}_limit_s"] = round(time.perf_counter() - started, 3)
            started = time.perf_counter()
            again = Workspace(workspace.project_dir, workspace.home, settings=workspace.settings)
            again.materialise()
            told[f"{store}_unchanged_s"] = round(time.perf_counter() - started, 3)
        told |= run_feast(folder, "materialise", url)
    return told


def _entities(count: int, times: int) -> list[list[int]]:
    chosen = random.Random(1)
    return [chosen.sample(range(KEYS), count) for _ in range(times)]


def _interleaved(works: Sequence[Callable[[Any], object]], arguments: Sequence[Any]) -> list[float]:
    """Return the median of each, in microseconds; they take turns, so that a busy machine slows all alike."""
    for work in works:
        work(arguments[0])
    taken: list[list[int]] = [[] for _ in works]
    for argument in arguments:
        for spent, work in zip(taken, works, strict=True):
            started = time.perf_counter_ns()
            work(argument)
            spent.append(time.perf_counter_ns() - started)
    return [round(statistics.median(spent) / 1_000, 1) for spent in taken]


def _store_write(workspace: Workspace) -> Callable[[Any], object]:
    """Return a write of newer rows of a frame, packing included."""
    version = workspace.features.view_version(workspace.project.views["tx"])
    columns = workspace.features.online.columns("tx", version)
    store = workspace.features._online
    return lambda taken: store.write(f"tx@{version}", encode_rows(taken[0], ["customer_id"], "at", "known", columns))


def _write_raw(raw_write: limits.Write, taken: Any) -> None:
    raw_write(limits.pack(taken[0]))


def _make_later(frame: pl.DataFrame, number: int) -> tuple[pl.DataFrame, dict[str, list[Any]]]:
    """Return newer rows: a frame for the store, and plain columns, as a request brings them, to be pushed."""
    at = pl.lit(START + timedelta(days=200, seconds=number)).dt.cast_time_unit("us")
    newer = frame.with_columns(at=at, known=at)
    return newer, newer.drop("known").to_dict(as_series=False)


def run_feast(folder: Path, case: str, url: str) -> dict[str, Any]:
    """Run a case with Feast, if its environment is there: ``make peers``."""
    if not (FEAST.parents[1] / "installed").exists():
        return {"feast": "not installed: make peers"}
    rows = folder / "feast" / "rows.parquet"
    rows.parent.mkdir(parents=True, exist_ok=True)
    write_rows(rows, ROWS if case == "materialise" else KEYS)
    try:
        done = subprocess.run(
            [FEAST, _FEAST_SCRIPT, case, rows.parent, url.removeprefix("redis://").partition("/")[0]],
            capture_output=True,
            text=True,
            timeout=_FEAST_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"feast": f"took more than {_FEAST_TIMEOUT_S} s"}
    if done.returncode:
        return {"feast": done.stderr.strip().splitlines()[-1][:200]}
    return {f"feast_{name}": value for name, value in json.loads(done.stdout.splitlines()[-1]).items()}
