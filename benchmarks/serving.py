"""One server process on one core, wrk on the other: one row and 100 rows of the Open Inference Protocol as JSON.

Usage: python -m benchmarks.serving [PART ...]; prints one JSON line. Parts:

    constant  a bare ASGI server (uvicorn with uvloop and httptools) that answers a constant: the limit of the transport
    model     the same server calling the same compiled model, with nothing else: what Flyball is measured against
    flyball   the gateway with everything on: schema, expectations, routing, the log before the answer, metrics
    stored    the gateway, half of the features from two views in the embedded online store
    linear_model, linear    the same two with LogisticRegression instead of trees
    grpc_model, grpc    the same two over gRPC, one row: asyncio's server of grpcio, and the gateway
    half      the gateway at half of its rate, by a timetable that a late answer does not stop: latency counts from
              when a request was due
    voters    the gateway with a slow model that has no compiled form (two forests that vote), with and without letting
              requests that wait share its calls
    two       the gateway with one process and with two, on all cores, beside two wrk
    mlserver, mlflow, bentoml   the peers, from their environments under .bench

The model is StandardScaler and HistGradientBoosting of 100 trees on 20 numbers; a request also carries its row's key.
"""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.peers import serving_load, serving_peers

_PARTS = (
    *("constant", "model", "flyball", "linear_model", "linear", "grpc_model", "grpc", "stored", "voters", "half"),
    "two",
)
_SHARES = (
    *(
        ("flyball", "model", 1),
        ("flyball", "model", 100),
        ("linear", "linear_model", 1),
        ("linear", "linear_model", 100),
    ),
    *(("grpc", "grpc_model", 1), ("stored", "model", 1)),
)
_PEERS = ("mlserver", "mlflow", "bentoml")
_FOLDER = Path(__file__).parent / "peers"
_ROWS, _CUSTOMERS = 20_000, 1_000
_SECONDS, _CONNECTIONS = int(os.environ.get("BENCH_SECONDS", "5")), 16
_LIBRARIES = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}


def main(parts: Sequence[str]) -> None:
    figures: dict[str, Any] = {"benchmark": "serving", "unit": "requests per second"}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(os.environ.get("BENCH_FOLDER", folder)))
        for part in parts:
            figures[part] = getattr(bench, part)()
    for part, limited_by, rows in _SHARES:
        if limited_by in figures and part in figures:
            limit, found = figures[limited_by][f"rows_{rows}"], figures[part][f"rows_{rows}"]
            figures[f"{part}_share_of_{limited_by}_rows_{rows}"] = {
                "by_rate": round(found["per_second"] / limit["per_second"], 2),
                "by_cpu": round(limit["cpu_us"] / found["cpu_us"], 2),
            }
    print(json.dumps(figures))


class Bench:
    """Runs the parts; makes the project and trains its models when the first part needs them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.project, self.home = root / "project", root / "home"
        self._cores = sorted(os.sched_getaffinity(0))

    def constant(self) -> dict[str, Any]:
        return self._bare("constant")

    def model(self) -> dict[str, Any]:
        return self._bare("model")

    def flyball(self) -> dict[str, Any]:
        with self.gateway() as (process, port, ready_s):
            idle_mb = memory_mb(process.pid)
            found = self._press_both(process.pid, port, "plain")
            one = serving_load.press(self._root, port, "plain", 1, 2, connections=1, core=self._cores[-1])
            del one["requests"]
            megabytes = memory_mb(process.pid)
        return found | {
            "one_connection": one,
            "ready_s": round(ready_s, 2),
            "idle_megabytes": idle_mb,
            "megabytes": megabytes,
        }

    def linear_model(self) -> dict[str, Any]:
        self._prepare()
        self._train("linear_training")
        return self._bare("model", "linear")

    def linear(self) -> dict[str, Any]:
        self._prepare()
        self._train("linear_training")
        with self.gateway() as (process, port, _):
            return self._press_both(process.pid, port, "linear")

    def grpc_model(self) -> dict[str, Any]:
        self._prepare()
        port = find_port()
        with _running(self._bare_command("grpc", port, "plain"), self._cores[0]) as process:
            return {"rows_1": self._press_grpc(process, port)}

    def grpc(self) -> dict[str, Any]:
        grpc_port = find_port()
        with self.gateway(grpc_port=grpc_port) as (process, _, _):
            return {"rows_1": self._press_grpc(process, grpc_port)}

    def _press_grpc(self, process: Any, port: int) -> dict[str, Any]:
        """Ask from this process, on the other core; its own time is the larger part of each call."""
        wait_for_port(port, process)
        os.sched_setaffinity(0, {self._cores[-1]})
        try:
            asyncio.run(serving_load.press_grpc(port, "plain", 1, connections=_CONNECTIONS))
            before_s = _cpu_s(process.pid)
            requests = asyncio.run(serving_load.press_grpc(port, "plain", _SECONDS, connections=_CONNECTIONS))
            took_s = _cpu_s(process.pid) - before_s
        finally:
            os.sched_setaffinity(0, set(self._cores))
        return {"per_second": round(requests / _SECONDS), "cpu_us": round(took_s / requests * 1_000_000, 1)}

    def stored(self) -> dict[str, Any]:
        with self.gateway() as (process, port, _):
            return {"rows_1": self._press(process.pid, port, "stored", 1)}

    def half(self) -> dict[str, Any]:
        with self.gateway() as (process, port, _):
            most = self._press(process.pid, port, "plain", 1)["per_second"]
            os.sched_setaffinity(0, {self._cores[-1]})
            try:
                offered = serving_load.offer(port, "plain", most / 2, _SECONDS * 2.0)
            finally:
                os.sched_setaffinity(0, set(self._cores))
        return {"rate": round(most / 2), "failures": offered.failures} | serving_load.summary(offered.latencies_ms)

    def two(self) -> dict[str, Any]:
        """All cores for everybody: what a second process brings where the load takes its share of both cores."""
        found: dict[str, Any] = {}
        for count in (1, 2):
            with self.gateway(processes=count, core=None) as (_, port, _):
                found[str(count)] = serving_load.press(self._root, port, "plain", 1, _SECONDS, connections=32)
        found["ratio"] = round(found["2"]["per_second"] / found["1"]["per_second"], 2)
        return found

    def voters(self) -> dict[str, Any]:
        self._prepare()
        self._train("voters_training")
        found: dict[str, Any] = {}
        for name, setting in (("shared", "true"), ("alone", "false")):
            with self.gateway(batching=setting) as (process, port, _):
                found[name] = self._press(process.pid, port, "voters", 1)
        found["ratio"] = round(found["shared"]["per_second"] / found["alone"]["per_second"], 2)
        return found

    def mlserver(self) -> dict[str, Any]:
        return self._peer("mlserver")

    def mlflow(self) -> dict[str, Any]:
        return self._peer("mlflow")

    def bentoml(self) -> dict[str, Any]:
        return self._peer("bentoml")

    def _peer(self, name: str) -> dict[str, Any]:
        port = find_port()
        with serving_peers.serving(name, self._root / name, port, self._cores[0]) as (pid, ready_s):
            found = self._press_both(pid, port, serving_peers.ADDRESSES[name])
        return found | {"ready_s": round(ready_s, 1)}

    def _bare(self, role: str, model: str = "plain") -> dict[str, Any]:
        self._prepare()
        port = find_port()
        with _running(self._bare_command(role, port, model), self._cores[0]) as process:
            wait_for(f"http://127.0.0.1:{port}/", process, any_status=True, body=serving_load.make_body(model, 1, 0))
            return self._press_both(process.pid, port, model)

    def _bare_command(self, role: str, port: int, model: str) -> list[str]:
        script = str(_FOLDER / "serving_bare.py")
        return [sys.executable, script, role, str(self.project), str(self.home), str(port), model]

    @contextmanager
    def gateway(
        self, processes: int = 1, core: int | None = 0, batching: str = "true", grpc_port: int = -1
    ) -> Iterator[tuple[Any, int, float]]:
        self._prepare()
        port = find_port()
        command = [sys.executable, "-m", "flyball.server.gateway", str(self.project), str(self.home)]
        settings = {
            "FLYBALL_GRPC_PORT": str(grpc_port),
            "FLYBALL_GATEWAY_PROCESSES": str(processes),
            "FLYBALL_GATEWAY_BATCHING": batching,
        }
        begin = time.monotonic()
        pinned = None if core is None else self._cores[core]
        with _running([*command, "127.0.0.1", str(port - 1)], pinned, settings) as process:
            wait_for(f"http://127.0.0.1:{port}/health", process)
            yield process, port, time.monotonic() - begin

    def _press_both(self, pid: int, port: int, address: str) -> dict[str, Any]:
        return {f"rows_{rows}": self._press(pid, port, address, rows) for rows in (1, 100)}

    def _press(self, pid: int, port: int, address: str, rows: int) -> dict[str, Any]:
        options = {"connections": _CONNECTIONS, "core": self._cores[-1]}
        serving_load.press(self._root, port, address, rows, 1, **options)  # warm
        before_s = _cpu_s(pid)
        found = serving_load.press(self._root, port, address, rows, _SECONDS, **options)
        # What other programs take from the core makes rates smaller, but not this.
        found["cpu_us"] = round((_cpu_s(pid) - before_s) / found.pop("requests") * 1_000_000, 1)
        return found

    def _prepare(self) -> None:
        if self.home.exists():
            return
        self.project.mkdir(parents=True)
        (self.project / "project.py").write_text((_FOLDER / "serving_project.py").read_text())
        _write_data(self.project / "data")
        self._train("plain_training", "stored_training")

    def _train(self, *pipelines: str) -> None:
        place = ["--project", str(self.project), "--home", str(self.home)]
        for pipeline in pipelines:
            command = [sys.executable, "-m", "flyball.cli.main", "run", pipeline, *place]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        _materialise(self.project, self.home)


def _materialise(project: Path, home: Path) -> None:
    """Promote what is approved and bring its features online, as the loop does when it starts; and run the project's
    file before the gateway starts, as `flyball up` does."""
    from flyball.domain.pipelines.fingerprints import clock_ns
    from flyball.workspace.outline import keep_outline
    from flyball.workspace.workspace import Workspace

    loaded_ns = clock_ns()
    workspace = Workspace(project, home)
    workspace.loop.tick()
    keep_outline(home, workspace.project, loaded_ns=loaded_ns)


def _write_data(folder: Path) -> None:
    from datetime import UTC, datetime, timedelta

    import numpy as np
    import polars as pl

    folder.mkdir()
    rng = np.random.default_rng(0)
    begin = datetime.now(UTC) - timedelta(days=30)
    fields = rng.random((_ROWS, 20))
    asked_at = [begin + timedelta(minutes=number) for number in range(_ROWS)]
    rows = pl.DataFrame({"row_id": range(_ROWS), "asked_at": asked_at}).with_columns(
        **{f"field{at}": pl.Series(fields[:, at]) for at in range(20)}
    )
    orders = rows.select("row_id", (pl.col("row_id") % _CUSTOMERS).alias("customer_id"), "asked_at", r"^field\d$")
    label = fields[:, :5].sum(axis=1) + rng.normal(size=_ROWS) / 2 > 2.5
    rows.write_parquet(folder / "rows.parquet")
    orders.write_parquet(folder / "orders.parquet")
    pl.DataFrame({"row_id": range(_ROWS), "known_at": asked_at, "label": label.astype(int)}).with_columns(
        pl.col("known_at") + pl.duration(hours=1)
    ).write_parquet(folder / "outcomes.parquet")
    for name, places in (("payments", range(5)), ("visits", range(5, 10))):
        facts = {f"stored{at}": rng.random(_CUSTOMERS) for at in places}
        at = [begin - timedelta(days=1)] * _CUSTOMERS
        pl.DataFrame({"customer_id": range(_CUSTOMERS), "at": at} | facts).write_parquet(folder / f"{name}.parquet")


@contextmanager
def _running(
    command: Sequence[str], core: int | None, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    process = subprocess.Popen([*pinned, *command], env=os.environ | _LIBRARIES | (environment or {}))
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait_for(
    url: str, process: subprocess.Popen[bytes], *, any_status: bool = False, body: bytes | None = None
) -> None:
    """Wait until an address answers."""
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=5).close()
            return
        except OSError as error:
            if any_status and hasattr(error, "code"):
                return
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{url} did not answer: {error}") from error
        time.sleep(0.02)


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until somebody listens."""
    deadline = time.monotonic() + 60
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"nobody listens at {port}")
        time.sleep(0.02)


def find_port() -> int:
    """Return a port that is free, and so is the one before it."""
    while True:
        with socket.socket() as probe, socket.socket() as before:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            try:
                before.bind(("127.0.0.1", port - 1))
            except OSError:
                continue
            return port


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process and its children."""
    found = 0.0
    for process in [pid, *map(int, _children(pid))]:
        status = Path(f"/proc/{process}/status").read_text()
        found += int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]
    return round(found, 1)


def _cpu_s(pid: int) -> float:
    """Return the processor time that a process and its children took."""
    found = 0.0
    for process in [pid, *map(int, _children(pid))]:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        found += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


if __name__ == "__main__":
    main(sys.argv[1:] or _PARTS)
