"""The real MLflow client's part of `benchmarks.tracking`: ``tracking_client.py CASE URL [SIZE]`` prints one JSON line.

It knows nothing of the server it talks to, so that the same script measures each of them.
"""

import base64
import contextlib
import json
import logging
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
os.environ.setdefault("MLFLOW_ENABLE_ASYNC_LOGGING", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

logging.getLogger("mlflow").setLevel(logging.ERROR)


def server_cpu_ms() -> float:
    """Return how long the server's processes, which the benchmark names, have had a processor."""
    processes = os.environ.get("BENCH_SERVER", "").split()
    used_ns = 0
    for process in processes:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{process}/task").iterdir():
                used_ns += int((task / "schedstat").read_text().split()[0])
    return used_ns / 1e6


def timed(work, rounds: int) -> dict[str, float]:
    """Return median and 99th percentile in milliseconds, and the server's processor time for a round."""
    times = []
    before_ms = server_cpu_ms()
    for number in range(rounds):
        started = time.perf_counter()
        work(number)
        times.append((time.perf_counter() - started) * 1000)
    cpu_ms = (server_cpu_ms() - before_ms) / rounds
    times.sort()
    return {
        "p50_ms": round(statistics.median(times), 2),
        "p99_ms": round(times[int(len(times) * 0.99) - 1], 2),
        "server_cpu_ms": round(cpu_ms, 3),
    }


@contextlib.contextmanager
def recording(file: str):
    """Keep what a server answers, so that one which does nothing can answer the same; see `empty_app.py`."""
    import requests

    send = requests.Session.send
    with Path(file).open("w") as out:

        def recorded_send(session, request, **options):
            answer = send(session, request, **options)
            asked = request.body if request.path_url.endswith("/search") and request.body else b""
            line = {
                "method": request.method,
                "target": request.path_url,
                "asked": asked.decode() if isinstance(asked, bytes) else asked,
                "status": answer.status_code,
                "headers": list(answer.headers.items()),
                "body": base64.b64encode(answer.content).decode(),
            }
            out.write(json.dumps(line) + "\n")
            return answer

        requests.Session.send = recorded_send
        yield


def experiment(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return found.experiment_id if found else client.create_experiment(name)


def items(number: int) -> dict:
    now = int(time.time() * 1000)
    return {
        "metrics": [Metric(f"m{i}", number + i / 7, now, number) for i in range(20)],
        "params": [Param(f"p{i}", str(number * i)) for i in range(10)],
        "tags": [RunTag(f"t{i}", f"v{number}") for i in range(5)],
    }


def log_metric(client: MlflowClient, size: int) -> dict:
    run = client.create_run(experiment(client, "single")).info.run_id
    client.log_metric(run, "loss", 0.0, step=0)
    return timed(lambda number: client.log_metric(run, "loss", 1 / (number + 1), step=number), size or 300)


def log_batch(client: MlflowClient, size: int) -> dict:
    place = experiment(client, "batch")
    runs = [client.create_run(place).info.run_id for _ in range(size or 100)]
    return timed(lambda number: client.log_batch(runs[number], **items(number)), len(runs))


def runs_one_by_one(client: MlflowClient, size: int) -> dict:
    place = experiment(client, "one by one")
    count = size or 10
    started = time.perf_counter()
    for number in range(count):
        run = client.create_run(place).info.run_id
        logged = items(number)
        for metric in logged["metrics"]:
            client.log_metric(run, metric.key, metric.value, step=metric.step)
        for param in logged["params"]:
            client.log_param(run, param.key, param.value)
        for tag in logged["tags"][:3]:
            client.set_tag(run, tag.key, tag.value)
        client.set_terminated(run)
    return {"runs_per_s": round(count / (time.perf_counter() - started), 2)}


def runs_as_batch(client: MlflowClient, size: int) -> dict:
    place = experiment(client, "as batch")
    count = size or 50
    started = time.perf_counter()
    for number in range(count):
        run = client.create_run(place).info.run_id
        client.log_batch(run, **items(number))
        client.set_terminated(run)
    return {"runs_per_s": round(count / (time.perf_counter() - started), 2)}


def points(client: MlflowClient, size: int) -> dict:
    count = size or 100_000
    run = client.create_run(experiment(client, "points")).info.run_id
    now = int(time.time() * 1000)
    batches = [
        [Metric("loss", step * 0.001, now + step, step) for step in range(first, first + 1_000)]
        for first in range(0, count, 1_000)
    ]
    started = time.perf_counter()
    for batch in batches:
        client.log_batch(run, metrics=batch)
    logged_s = time.perf_counter() - started
    started = time.perf_counter()
    history = client.get_metric_history(run, "loss")
    history_s = time.perf_counter() - started
    assert len(history) == count, len(history)
    return {"points_per_s": round(count / logged_s), "history_s": round(history_s, 2)}


def _hammer(url: str, seconds: float, barrier, results) -> None:
    client = MlflowClient(url)
    run = client.create_run(experiment(client, "many")).info.run_id
    times, errors, number = [], 0, 0
    barrier.wait()
    began_s = time.process_time()
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        started = time.perf_counter()
        try:
            client.log_metric(run, "loss", 0.5, step=number)
        except Exception:  # noqa: BLE001 - whatever a client meets under load counts
            errors += 1
        times.append(time.perf_counter() - started)
        number += 1
    cpu_s = time.process_time() - began_s
    kept = len(client.get_metric_history(run, "loss")) if errors < number else 0
    results.put((times, errors, number - errors - kept, cpu_s))


def eight(client: MlflowClient, size: int) -> dict:
    url, seconds = client.tracking_uri, float(size or 6)
    experiment(client, "many")
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(8), context.Queue()
    workers = [context.Process(target=_hammer, args=(url, seconds, barrier, results)) for _ in range(8)]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=seconds * 10 + 60) for _ in workers]
    for worker in workers:
        worker.join()
    times = sorted(value for taken, *_ in found for value in taken)
    return {
        "requests_per_s": round(len(times) / seconds),
        "p50_ms": round(statistics.median(times) * 1000, 1),
        "p99_ms": round(times[int(len(times) * 0.99) - 1] * 1000, 1),
        "errors": sum(errors for _, errors, _, _ in found),
        "lost": sum(lost for _, _, lost, _ in found),
        "client_cpu_ms": round(sum(cpu_s for *_, cpu_s in found) / len(times) * 1000, 3),
        "requests": len(times),
    }


def search(client: MlflowClient, size: int) -> dict:
    place = experiment(client, "filled")
    found = client.search_runs([place], max_results=10)
    assert found, "fill the store first"
    condition = "metrics.m3 > 100 and params.p1 != '7'"
    page = timed(lambda _: client.search_runs([place], condition, order_by=["metrics.m5 DESC"], max_results=100), 15)
    started = time.perf_counter()
    first = client.search_runs([place], max_results=1_000)
    return {"page_of_100": page, "page_of_1000_s": round(time.perf_counter() - started, 3), "runs": len(first)}


def pandas(client: MlflowClient, size: int) -> dict:
    import mlflow

    mlflow.set_tracking_uri(client.tracking_uri)
    started = time.perf_counter()
    frame = mlflow.search_runs(experiment_names=["filled"], max_results=size or 5_000)
    return {"all_as_pandas_s": round(time.perf_counter() - started, 2), "runs": len(frame)}


@contextlib.contextmanager
def waiting():
    """Yield a list with how many milliseconds requests have taken, the client's own work left out, and their number."""
    import requests

    spent, send = [0.0, 0], requests.Session.send

    def timed_send(session, request, **options):
        started = time.perf_counter()
        try:
            return send(session, request, **options)
        finally:
            spent[0] += (time.perf_counter() - started) * 1000
            spent[1] += 1

    requests.Session.send = timed_send
    try:
        yield spent
    finally:
        requests.Session.send = send


def split(work, rounds: int) -> dict[str, float]:
    """Return what `timed` does, and of a round the number of requests and what they take."""
    with waiting() as spent:
        found = timed(work, rounds)
    return found | {"requests_each": round(spent[1] / rounds, 1), "of_that_requests_ms": round(spent[0] / rounds, 2)}


def models(client: MlflowClient, size: int) -> dict:
    import mlflow
    from sklearn.linear_model import LogisticRegression

    mlflow.set_tracking_uri(client.tracking_uri)
    mlflow.set_experiment("models")
    model = LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
    name = f"m{time.time_ns()}"
    with mlflow.start_run() as run:
        started = time.perf_counter()
        with waiting() as log_ms:
            logged = mlflow.sklearn.log_model(model, name="model", registered_model_name=name, pip_requirements=[])
        log_s = time.perf_counter() - started
    rounds = size or 15
    register = split(lambda _: mlflow.register_model(logged.model_uri, name), (rounds + 1) // 2)
    client.set_registered_model_alias(name, "champion", 1)
    load = split(lambda _: mlflow.pyfunc.load_model(f"models:/{name}@champion"), rounds)
    versions = split(lambda _: client.search_model_versions(f"name = '{name}'"), rounds * 4)
    with tempfile.TemporaryDirectory() as folder:
        # The client's own part of a load: what is left when no server is asked.
        place = mlflow.artifacts.download_artifacts(f"models:/{name}@champion", dst_path=folder)
        own = timed(lambda _: mlflow.pyfunc.load_model(place), rounds)
    assert run.info.run_id
    return {
        "log_and_register_s": round(log_s, 2),
        "of_that_requests_ms": round(log_ms[0], 1),
        "register": register,
        "load_by_alias": load,
        "load_from_disk": own,
        "search": versions,
    }


def artifacts(client: MlflowClient, size: int) -> dict:
    megabytes = size or 100
    run = client.create_run(experiment(client, "files")).info.run_id
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.bin"
        file.write_bytes(os.urandom(1_000_000) * megabytes)
        started = time.perf_counter()
        client.log_artifact(run, str(file))
        up_s = time.perf_counter() - started
        started = time.perf_counter()
        client.download_artifacts(run, "model.bin", folder + "/")
        return {
            "up_mb_per_s": round(megabytes / up_s),
            "down_mb_per_s": round(megabytes / (time.perf_counter() - started)),
        }


CASES = {
    case.__name__: case
    for case in (
        log_metric,
        log_batch,
        runs_one_by_one,
        runs_as_batch,
        points,
        eight,
        search,
        pandas,
        models,
        artifacts,
    )
}

if __name__ == "__main__":
    kept = os.environ.get("BENCH_ANSWERS", "")
    with contextlib.redirect_stdout(sys.stderr), recording(kept) if kept else contextlib.nullcontext():
        answer = CASES[sys.argv[1]](MlflowClient(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
    print(json.dumps(answer))
