"""What the MLflow protocol's calls cost as the store grows to 100,000 runs and a tenth as many versions.

Prints one JSON line with the medians in milliseconds, HTTP included and the client left out, and draws them into
``.bench/tracking-growth.html``. ``python -m benchmarks.tracking_growth [postgresql]``.
"""

import http.client
import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.servers import postgresql

from benchmarks.tracking import BENCH, serving
from benchmarks.tracking import fill as fill_store

SIZES = (1_000, 10_000, 100_000)
A = "/api/2.0/mlflow/"
ROUNDS = 15


def main(database: str) -> None:
    BENCH.mkdir(exist_ok=True)
    measured: dict[int, dict[str, float]] = {}
    with ExitStack() as stack:
        cluster = stack.enter_context(postgresql(settings=())) if database == "postgresql" else None
        for size in SIZES:
            measured[size] = measure(size, cluster.new_database() if cluster else "")
    growth = {name: round(measured[SIZES[-1]][name] / measured[SIZES[0]][name], 2) for name in measured[SIZES[0]]}
    draw(measured, BENCH / "tracking-growth.html")
    print(json.dumps({"benchmark": "tracking_growth", "database": database, "ms": measured, "times": growth}))


def measure(size: int, database: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=BENCH) as scratch:
        folder = Path(scratch)
        fill_store("flyball", folder, database, size)
        with serving("flyball", folder, database) as (url, _):
            return ask(url, size // 10)


def ask(url: str, versions: int) -> dict[str, float]:
    """Return the medians of the calls."""
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
    calls = {
        "page of runs": lambda: call("POST", "runs/search", page),
        "page of runs, filtered and ordered": lambda: call("POST", "runs/search", page | chosen),
        "append a metric": lambda: call(
            "POST", "runs/log-metric", {"run_id": run, "key": "loss", "value": 1, "timestamp": 1, "step": next(steps)}
        ),
        "list of versions": lambda: call("GET", "model-versions/search?filter=name%3D'model'&max_results=100"),
        "version by alias": lambda: call("GET", "registered-models/alias?name=model&alias=champion"),
    }
    return {name: median(work) for name, work in calls.items()}


def median(work: Any) -> float:
    work()
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1000)
    return round(statistics.median(times), 2)


def draw(measured: dict[int, dict[str, float]], target: Path) -> None:
    from plotly import graph_objects as go

    figure = go.Figure(layout={"title": "Cost of a call as the store grows", "template": "plotly_white"})
    for name in measured[SIZES[0]]:
        figure.add_scatter(x=list(measured), y=[measured[size][name] for size in measured], name=name)
    figure.update_xaxes(title="runs in the store", type="log").update_yaxes(title="median, ms", rangemode="tozero")
    figure.write_html(target, include_plotlyjs=True)


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["postgresql"]):
        sys.exit(__doc__)
    main(sys.argv[1] if len(sys.argv) > 1 else "sqlite")
