"""One server process on one core, wrk on the other: one row and 100 rows of the Open Inference Protocol as JSON.

Usage: python -m benchmarks.serving [PART ...]; prints one JSON line. Parts:

    constant  a bare ASGI server (uvicorn with uvloop and httptools) that answers a constant: the limit of the transport
    model     the same server calling the same compiled model, with nothing else: what Flyball is measured against
    flyball   the gateway with everything on: schema, expectations, routing, the log before the answer, metrics
    stored    the gateway, half of the features from two views in the embedded online store
    linear_model, linear    the same two with LogisticRegression instead of trees
    grpc_model, grpc    the same two over gRPC, one row: asyncio's server of grpcio, and the gateway
    half      the gateway at half of its rate, by a timetable that a late answer does not stop; and the bare servers
              at that rate
    voters    the gateway with a slow model that has no compiled form (two forests that vote), with and without letting
              requests that wait share its calls
    two       the gateway, and the bare server with the model, with one process and with two
    mlserver, mlflow, bentoml   the peers, from their environments under .bench

The model is StandardScaler and HistGradientBoosting of 100 trees on 20 numbers; a request also carries its row's key.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.peers import serving_load, serving_peers
from benchmarks.peers.serving_processes import (
    cpu_s,
    find_port,
    memory_mb,
    running,
    wait_for,
    wait_for_listeners,
    wait_for_port,
)

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

_Running = AbstractContextManager[tuple[list[int], int]]
"""Servers for as long as the block lasts: their processes, and their port."""


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
        return self._press_bare("constant")

    def model(self) -> dict[str, Any]:
        return self._press_bare("model")

    def flyball(self) -> dict[str, Any]:
        with self.gateway() as (process, port, ready_s):
            idle_mb = memory_mb(process.pid)
            found = self._press_both([process.pid], port, "plain")
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
        return self._press_bare("model", "linear")

    def linear(self) -> dict[str, Any]:
        self._prepare()
        self._train("linear_training")
        with self.gateway() as (process, port, _):
            return self._press_both([process.pid], port, "linear")

    def grpc_model(self) -> dict[str, Any]:
        self._prepare()
        port = find_port()
        with running(self._bare_command("grpc", port, "plain"), self._cores[0]) as process:
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
            before_s = cpu_s([process.pid])
            requests = asyncio.run(serving_load.press_grpc(port, "plain", _SECONDS, connections=_CONNECTIONS))
            took_s = cpu_s([process.pid]) - before_s
        finally:
            os.sched_setaffinity(0, set(self._cores))
        return {"per_second": round(requests / _SECONDS), "cpu_us": round(took_s / requests * 1_000_000, 1)}

    def stored(self) -> dict[str, Any]:
        with self.gateway() as (process, port, _):
            return {"rows_1": self._press([process.pid], port, "stored", 1)}

    def half(self) -> dict[str, Any]:
        """Latency at half of the gateway's rate; and, at the same rate, that of servers which do less."""
        with self.gateway() as (process, port, _):
            rate = self._press([process.pid], port, "plain", 1)["per_second"] / 2
            found = {"flyball": self._offer(port, rate)}
        for role in ("model", "constant"):
            with self._bare(role) as (_, port):
                found[role] = self._offer(port, rate)
        return found

    def _offer(self, port: int, rate: float) -> dict[str, Any]:
        core = self._cores[-1]
        serving_load.offer(self._root, port, "plain", rate, 1, core=core)  # warm
        return serving_load.offer(self._root, port, "plain", rate, _SECONDS * 2, core=core)

    def two(self) -> dict[str, Any]:
        """What a second process brings, and what a second bare server does.

        One process has a core and the load the other; two have both, and the load takes its part of them. By processor
        time, two cores give twice as many requests as long as one costs what it costs a single process.
        """
        return {
            f"rows_{rows}": {
                "flyball": self._compare_processes(self._gateways, rows),
                "model": self._compare_processes(self._bares, rows),
            }
            for rows in (1, 100)
        }

    def _compare_processes(self, run: Callable[[int], _Running], rows: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for count in (1, 2):
            core = self._cores[-1] if count == 1 else None
            with run(count) as (pids, port):
                found[str(count)] = self._press(pids, port, "plain", rows, connections=_CONNECTIONS * count, core=core)
        one, two = found["1"], found["2"]
        found["ratio_by_rate"] = round(two["per_second"] / one["per_second"], 2)
        found["ratio_by_cpu"] = round(2 * one["cpu_us"] / two["cpu_us"], 2)
        return found

    @contextmanager
    def _gateways(self, count: int) -> Iterator[tuple[list[int], int]]:
        with self.gateway(processes=count, core=0 if count == 1 else None) as (process, port, _):
            yield [process.pid], port

    def _bares(self, count: int) -> _Running:
        return self._bare("model", count=count)

    def voters(self) -> dict[str, Any]:
        self._prepare()
        self._train("voters_training")
        found: dict[str, Any] = {}
        for name, setting in (("shared", "true"), ("alone", "false")):
            with self.gateway(batching=setting) as (process, port, _):
                found[name] = self._press([process.pid], port, "voters", 1)
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
            found = self._press_both([pid], port, serving_peers.ADDRESSES[name])
        return found | {"ready_s": round(ready_s, 1)}

    def _press_bare(self, role: str, model: str = "plain") -> dict[str, Any]:
        with self._bare(role, model) as (pids, port):
            return self._press_both(pids, port, model)

    @contextmanager
    def _bare(self, role: str, model: str = "plain", count: int = 1) -> Iterator[tuple[list[int], int]]:
        """Run a bare server on the first core, or several that share an address on all."""
        self._prepare()
        port = find_port()
        with ExitStack() as stack:
            command, core = self._bare_command(role, port, model), self._cores[0] if count == 1 else None
            processes = [stack.enter_context(running(command, core)) for _ in range(count)]
            wait_for_listeners(port, processes)
            body = serving_load.make_body(model, 1, 0)
            wait_for(f"http://127.0.0.1:{port}/", processes[0], any_status=True, body=body)
            yield [process.pid for process in processes], port

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
        with running([*command, "127.0.0.1", str(port - 1)], pinned, settings) as process:
            wait_for(f"http://127.0.0.1:{port}/health", process)
            yield process, port, time.monotonic() - begin

    def _press_both(self, pids: Sequence[int], port: int, address: str) -> dict[str, Any]:
        return {f"rows_{rows}": self._press(pids, port, address, rows) for rows in (1, 100)}

    def _press(
        self,
        pids: Sequence[int],
        port: int,
        address: str,
        rows: int,
        *,
        connections: int = _CONNECTIONS,
        core: int | None = -1,
    ) -> dict[str, Any]:
        options = {"connections": connections, "core": self._cores[-1] if core == -1 else core}
        serving_load.press(self._root, port, address, rows, 1, **options)  # warm
        before_s = cpu_s(pids)
        found = serving_load.press(self._root, port, address, rows, _SECONDS, **options)
        # What other programs take from the core makes rates smaller, but not this.
        found["cpu_us"] = round((cpu_s(pids) - before_s) / found.pop("requests") * 1_000_000, 1)
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


if __name__ == "__main__":
    main(sys.argv[1:] or _PARTS)
