"""What the MLflow protocol's calls cost as the store grows to 100,000 runs and a tenth as many versions.

Prints one JSON line with the medians in milliseconds, HTTP included and the client left out, and the server's processor
time for a call, which does not depend on what else the machine does; draws the medians into
``.bench/tracking-growth.html``. ``python -m benchmarks.tracking_growth [postgresql] [SIZE]…``.
"""

import http.client
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.servers import postgresql

from benchmarks.tracking import BENCH, cpu_ms, family_of, serving
from benchmarks.tracking import fill as fill_store

SIZES = (1_000, 10_000, 100_000)
A = "/api/2.0/mlflow/"
ROUNDS = 30


def main(database: str, sizes: list[int]) -> None:
    BENCH.mkdir(exist_ok=True)
    measured: dict[int, dict[str, float]] = {}
    used: dict[int, dict[str, float]] = {}
    with ExitStack() as stack:
        cluster = stack.enter_context(postgresql(settings=())) if database == "postgresql" else None
        for size in sizes:
            found = measure(size, cluster.new_database() if cluster else "")
            measured[size] = {name: times[0] for name, times in found.items()}
            used[size] = {name: times[1] for name, times in found.items()}
    draw(measured, BENCH / "tracking-growth.html")
    growth = {"times": grown(measured), "cpu_times": grown(used)}
    print(json.dumps({"benchmark": "tracking_growth", "database": database, "ms": measured, "cpu_ms": used} | growth))


def grown(measured: dict[int, dict[str, float]]) -> dict[str, float]:
    first, last = measured[min(measured)], measured[max(measured)]
    return {name: round(last[name] / first[name], 2) for name in first}


def measure(size: int, database: str) -> dict[str, tuple[float, float]]:
    with tempfile.TemporaryDirectory(dir=BENCH) as scratch:
        folder = Path(scratch)
        fill_store("flyball", folder, database, size)
        with serving("flyball", folder, database) as (url, start):
            return ask(url, size // 10, family_of(start["process"]))


def ask(url: str, versions: int, processes: list[int]) -> dict[str, tuple[float, float]]:
    """Return of each call the median and the processes' processor time."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"))

    def call(method: str, path: str, body: Any = None) -> Any:
        content = None if body is None else json.dumps(body)
        connection.request(method, (A + path).replace("mlflow/../", ""), content, {"content-type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text
        return json.loads(text)

    place = call("GET", "experiments/get-by-name?experiment_name=filled")["experiment"]["experiment_id"]
    run = call("POST", "runs/create", {"experiment_id": place, "start_time": 1})["run"]["info"]["run_id"]
    call("POST", "registered-models/create", {"name": "model"})
    source = call("GET", f"runs/get?run_id={run}")["run"]["info"]["artifact_uri"]
    place_of_files = source.removeprefix("mlflow-artifacts:/")
    call("PUT", f"../mlflow-artifacts/artifacts/{place_of_files}/model/weights", "x")
    source += "/model"
    for _ in range(versions):
        call("POST", "model-versions/create", {"name": "model", "source": source, "run_id": run})
    call("POST", "registered-models/alias", {"name": "model", "alias": "champion", "version": "1"})
    page = {"experiment_ids": [place], "max_results": 100}
    chosen = {"filter": "metrics.m3 > 100 and params.p1 != '7'", "order_by": ["metrics.m5 DESC"]}
    steps = iter(range(10**6))
    os.sync()  # what filling has left to be written would make the disk's wait longer
    calls = {
        "page of runs": lambda: call("POST", "runs/search", page),
        "page of runs, filtered and ordered": lambda: call("POST", "runs/search", page | chosen),
        "append a metric": lambda: call(
            "POST", "runs/log-metric", {"run_id": run, "key": "loss", "value": 1, "timestamp": 1, "step": next(steps)}
        ),
        "list of versions": lambda: call("GET", "model-versions/search?filter=name%3D'model'&max_results=100"),
        "version by alias": lambda: call("GET", "registered-models/alias?name=model&alias=champion"),
    }
    return {name: time_of(work, processes) for name, work in calls.items()}


def time_of(work: Any, processes: list[int]) -> tuple[float, float]:
    work()
    times = []
    before_ms = cpu_ms(processes)
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1000)
    return round(statistics.median(times), 2), round((cpu_ms(processes) - before_ms) / ROUNDS, 2)


def draw(measured: dict[int, dict[str, float]], target: Path) -> None:
    from plotly import graph_objects as go

    figure = go.Figure(layout={"title": "Cost of a call as the store grows", "template": "plotly_white"})
    for name in measured[min(measured)]:
        figure.add_scatter(x=list(measured), y=[measured[size][name] for size in measured], name=name)
    figure.update_xaxes(title="runs in the store", type="log").update_yaxes(title="median, ms", rangemode="tozero")
    figure.write_html(target, include_plotlyjs=True)


if __name__ == "__main__":
    names = sys.argv[1:]
    database = "postgresql" if "postgresql" in names else "sqlite"
    if not all(name == database or name.isdigit() for name in names):
        sys.exit(__doc__)
    main(database, [int(name) for name in names if name.isdigit()] or list(SIZES))
