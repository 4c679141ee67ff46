"""`flyball score` over a million rows beside the bare model on the same file. Prints one JSON line.

The table has 16 fields, two expectations, a feature view of four stored features for 50,000 entities, and request
features; the models are a logistic regression and 100 boosted trees. The bare line reads the same Parquet file, calls
the same model on the ready inputs in two threads, and writes key and prediction: no checks, no features, no ids. By a
graph (the model with a constant to fall back on), a tenth of the rows is scored as live requests are, one by one.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

_SOME = 100_000
_ROWS, _TRAINING, _ENTITIES, _FIELDS, _STORED, _CHUNK = 1_000_000, 5_000, 50_000, 14, 4, 16_384
_MODELS = ("linear", "trees")
_PROJECT = """
import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import flyball as fb

who = fb.Entity("who")
past = fb.Table("past.parquet", entity=who, time="at", key="row")
rows = fb.Table("rows.parquet", entity=who, time="at", key="row")
some = fb.Table("some.parquet", entity=who, time="at", key="row")
facts = fb.Table("facts.parquet", entity=who, time="at")
results = fb.Table("results.parquet", entity=who, time="at", key="row")
past.expect(fb.column("f0").between(-8, 8), fb.column("f1").not_null())


@fb.features(facts)
def stored(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.select("who", "at", pl.col("^s.$"))


@fb.request_features(past)
def ratio(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(ratio=pl.col("f0") / (1.0 + pl.col("f1").abs()), total=pl.sum_horizontal("f2", "f3"))


@fb.step
def train(data: fb.TrainingSet, kind: str = "linear"):
    X = data.X.fill_null(0.0) if kind == "linear" else data.X
    if kind == "linear":
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(X, data.y)
    return HistGradientBoostingClassifier(max_iter=100).fit(X, data.y)


@fb.step
def evaluate(model, data: fb.TrainingSet) -> dict[str, float]:
    return {"auc": roc_auc_score(data.y, model.predict_proba(data.X)[:, 1])}


@fb.pipeline
def training():
    data = fb.training_set(past, label=results["good"], features=[stored, ratio])
    fit, held_out = fb.split(data, test="last 25%")
    model = train(fit, kind="@@KIND@@")
    return fb.candidate("scores", model, metrics=evaluate(model, held_out), data=fit)


scoring = fb.Endpoint(model="scores", retrain=training)
"""
_BY_GRAPH = 'model="scores", graph=fb.fallback("scores", to=0.5)'


def main() -> None:
    figures: dict[str, Any] = {"benchmark": "score", "rows": _ROWS, "features": _FIELDS + _STORED + 2}
    with tempfile.TemporaryDirectory() as folder:
        for kind in _MODELS:
            root = Path(folder) / kind
            _write(root, kind)
            figures[kind] = {role: _apart(role, root) for role in ("train", "ours", "at_row_time", "again", "bare")}
            project = root / "project.py"
            project.write_text(project.read_text().replace('model="scores"', _BY_GRAPH))
            figures[kind]["by_graph"] = _apart("by_graph", root)
            ours, bare = figures[kind]["ours"]["rows_per_s"], figures[kind]["bare"]["rows_per_s"]
            figures[kind]["share_of_bare"] = round(ours / bare, 3)
            del figures[kind]["train"]
    print(json.dumps(figures))


def _write(root: Path, kind: str) -> None:
    root.mkdir()
    (root / "project.py").write_text(_PROJECT.replace("@@KIND@@", kind))
    rng = np.random.default_rng(0)
    begin = pl.datetime(2026, 1, 1, time_zone="UTC", time_unit="us")

    def rows(count: int, first: int) -> pl.DataFrame:
        fields = {f"f{number}": rng.normal(size=count) for number in range(_FIELDS)}
        frame = pl.DataFrame(
            {"row": np.arange(first, first + count), "who": rng.integers(0, _ENTITIES, count), **fields}
        )
        return frame.with_columns(at=begin + pl.duration(seconds=pl.int_range(count)))

    past = rows(_TRAINING, 0)
    past.write_parquet(root / "past.parquet")
    asked = rows(_ROWS, _TRAINING)
    asked.write_parquet(root / "rows.parquet")
    asked.head(_SOME).write_parquet(root / "some.parquet")
    past.select(
        "row", "who", at=pl.col("at") + pl.duration(hours=1), good=(pl.col("f0") + pl.col("f1") > 0)
    ).write_parquet(root / "results.parquet")
    pl.DataFrame(
        {"who": np.arange(_ENTITIES), **{f"s{number}": rng.normal(size=_ENTITIES) for number in range(_STORED)}}
    ).with_columns(at=begin - pl.duration(days=1)).write_parquet(root / "facts.parquet")


def _apart(role: str, root: Path) -> dict[str, Any]:
    """Do one thing in a process of its own, so that its memory is its own, too."""
    command = [sys.executable, "-m", "benchmarks.score", role, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=220, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _play(role: str, root: Path) -> dict[str, Any]:
    from flyball.workspace.scores import ScorePlan, score_table
    from flyball.workspace.workspace import Workspace

    workspace = Workspace(root, root / ".flyball")
    if role == "train":
        run = workspace.run("training")
        assert not run.error, run.error
        workspace.deployer.take_up(workspace.endpoints)
        return {}
    if role == "bare":
        return _bare(workspace, root)
    table = "some" if role == "by_graph" else "rows"
    out = root / ("ours" if role == "again" else role)
    began = time.perf_counter()
    plan = ScorePlan(endpoint="scoring", table=table, out=out, at_row_time=role == "at_row_time")
    result = score_table(workspace, plan)
    if role == "again":
        assert result.rows == 0
        return {"s": round(time.perf_counter() - began, 2)}
    assert result.rows == (_SOME if table == "some" else _ROWS)
    return _figures(began, result.rows)


def _bare(workspace: Any, root: Path) -> dict[str, Any]:
    loaded = workspace.packages.load("scores/1")
    stored = pl.read_parquet(root / "facts.parquet").drop("at")
    whole = pl.read_parquet(root / "rows.parquet").join(stored, on="who", how="left", maintain_order="left")
    ready = whole.with_columns(
        ratio=pl.col("f0") / (1.0 + pl.col("f1").abs()), total=pl.sum_horizontal("f2", "f3")
    ).select("row", *loaded.input_types.names())
    ready.write_parquet(root / "ready.parquet")
    del whole, ready
    began = time.perf_counter()
    frame = pl.read_parquet(root / "ready.parquet")
    inputs = frame.drop("row")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(
            lambda start: loaded.predictor.predict(inputs.slice(start, _CHUNK)), range(0, frame.height, _CHUNK)
        )
        values = np.concatenate(list(found))
    frame.select("row").with_columns(prediction=values).write_parquet(root / "bare.parquet")
    return _figures(began, frame.height) | {"model": type(loaded.predictor).__name__}


def _figures(began: float, rows: int) -> dict[str, Any]:
    seconds = time.perf_counter() - began
    # What getrusage tells of a child begins with its parent's.
    status = Path("/proc/self/status").read_text()
    most_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return {"rows_per_s": round(rows / seconds), "s": round(seconds, 2), "most_memory_mb": round(most_kb / 1024)}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(_play(sys.argv[1], Path(sys.argv[2]))))
    else:
        main()
