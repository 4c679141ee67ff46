"""200 requests a second of one row on one core, the log written before each answer. Prints one JSON line.

The gateway runs on the first core and the client on the second; the client keeps its timetable whatever the server
does, so waiting counts. A bare ASGI application that answers a constant is measured the same way, as the limit.
Everything is on: request schema, expectations, a feature view from the embedded online store, request features, a
scikit-learn model (StandardScaler and HistGradientBoosting of 100 trees, 20 features), routing, log, metrics.
"""

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

_RATE, _SECONDS, _CONNECTIONS, _FULL_SPEED_S = 200, 15, 16, 4
_STORED, _CUSTOMERS = 5, 1_000
_port = 0
_FIELDS = [f"field{number}" for number in range(14)]
_FEATURES = [*_FIELDS, *(f"stored{number}" for number in range(_STORED)), "ratio"]


def main() -> None:
    global _port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        _port = probe.getsockname()[1]
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    with tempfile.TemporaryDirectory() as folder:
        figures: dict[str, Any] = {"benchmark": "serving", "requests_per_second": _RATE}
        for role in ("bare", "gateway"):
            with _serving(role, Path(folder) / role, core=cores[0]) as process:
                asyncio.run(_offer(_RATE, 2.0))  # warm
                before_s = _cpu_s(process.pid)
                latencies = asyncio.run(_offer(_RATE, _SECONDS))
                figures[role] = _summary(latencies)
                figures[role]["cpu_ms"] = round((_cpu_s(process.pid) - before_s) / len(latencies) * 1_000, 3)
                figures[role]["most_per_second"] = round(asyncio.run(_press()) / _FULL_SPEED_S)
                figures[role]["megabytes"] = _memory_mb(process.pid)
        figures["gateway"]["logged"] = _count_logged(Path(folder) / "gateway")
        print(json.dumps(figures))


def _summary(latencies_ms: list[float]) -> dict[str, Any]:
    ordered = sorted(latencies_ms)
    return {
        "requests": len(ordered),
        "p50_ms": round(statistics.median(ordered), 3),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)], 3),
        "slowest_ms": round(ordered[-1], 3),
    }


@contextmanager
def _serving(role: str, root: Path, core: int) -> Iterator[subprocess.Popen[bytes]]:
    command = ["taskset", "-c", str(core), sys.executable, "-m", "benchmarks.serving", role, str(root), str(_port)]
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 60
        while asyncio.run(_is_down()):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the {role} server did not start")
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait()


async def _is_down() -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", _port)
    except OSError:
        return True
    writer.close()
    return False


def _request(number: int) -> bytes:
    row = {
        "customer_id": number % _CUSTOMERS,
        **{name: (number * 7 + place) % 13 / 13 for place, name in enumerate(_FIELDS)},
    }
    body = json.dumps(row).encode()
    head = f"POST /predict/credit HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
    writer.write(_request(number))
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"the server answered {head[:40]!r}")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    await reader.readexactly(int(length.split(b":")[1]))


async def _offer(rate: int, duration_s: float) -> list[float]:
    """Send requests by a timetable; a latency counts from the time a request was due."""
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(_CONNECTIONS):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", _port))
    latencies: list[float] = []

    async def one(number: int, due: float) -> None:
        connection = await free.get()
        await _ask(*connection, number)
        latencies.append((time.perf_counter() - due) * 1_000)
        free.put_nowait(connection)

    started, tasks = time.perf_counter(), []
    for number in range(int(rate * duration_s)):
        due = started + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(number, due)))
    await asyncio.gather(*tasks)
    while not free.empty():
        free.get_nowait()[1].close()
    return latencies


async def _press() -> int:
    """Count the answers when every connection always waits for one."""
    deadline = time.perf_counter() + _FULL_SPEED_S

    async def one(place: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", _port)
        count = 0
        while time.perf_counter() < deadline:
            await _ask(reader, writer, place + count)
            count += 1
        writer.close()
        return count

    return sum(await asyncio.gather(*(one(place) for place in range(_CONNECTIONS))))


def _memory_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return round(int(status.split("VmRSS:")[1].split()[0]) / 1024, 1)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _count_logged(root: Path) -> int:
    from flyball.core.clock import SystemClock
    from flyball.domain.journal.service import Journal
    from flyball.domain.predictions.service import PredictionService
    from flyball.storage.db import Database

    clock, db = SystemClock(), Database(f"sqlite:///{root / 'flyball.db'}")
    service = PredictionService(db, Journal(db, clock), clock, root / "predictions")
    service.seal()
    return service.count("credit")


def _serve_bare() -> None:
    import uvicorn

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        body = b'{"prediction":0.5}'
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    uvicorn.run(app, port=_port, loop="uvloop", http="httptools", log_level="error", access_log=False, lifespan="off")


def _serve_gateway(root: Path) -> None:
    from flyball.core.clock import SystemClock
    from flyball.domain.journal.service import Journal
    from flyball.domain.predictions.service import PredictionService
    from flyball.domain.serving.data_plane import DataPlane
    from flyball.domain.serving.fleet import Fleet, ServedEndpoint
    from flyball.domain.serving.on_demand import VersionsOnDemand
    from flyball.domain.serving.service import RolloutService
    from flyball.server.inference.app import InferenceApp
    from flyball.server.inference.run import serve
    from flyball.storage.db import Database

    clock, db = SystemClock(), Database(f"sqlite:///{root / 'flyball.db'}")
    journal = Journal(db, clock)
    predictions = PredictionService(db, journal, clock, root / "predictions")
    registry = _OneVersion(root)
    fleet = Fleet(
        [ServedEndpoint(name="credit", model="m")],
        champions=registry,
        rollouts=RolloutService(db, journal, clock),
        loader=registry,
        db=db,
        journal=journal,
        check_every_s=None,
    )
    plane = DataPlane(fleet, _fill_online_store(root, db), predictions.log, clock)
    serve(InferenceApp(plane, predictions.log, VersionsOnDemand(fleet, registry, registry)), "127.0.0.1", _port)


class _OneVersion:
    """A registry with one version, whose model is fitted here."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def champion(self, model: str) -> Any:
        from flyball.core.durations import from_us
        from flyball.domain.registry.versions import ModelVersion, Status

        return ModelVersion(
            model=model, number=1, status=Status.APPROVED, package_digest="", metrics={}, created_at=from_us(0)
        )

    def load(self, ref: str) -> Any:
        import polars as pl

        from flyball.domain.data.expectations import column, flatten
        from flyball.domain.data.requests import RequestSchema
        from flyball.domain.data.row_checks import compile_row
        from flyball.domain.data.schemas import Field, Schema
        from flyball.domain.data.tables import Table
        from flyball.domain.features.training_sets import ViewRef
        from flyball.domain.features.views import RequestFeatures
        from flyball.domain.registry.signatures import Signature
        from flyball.domain.serving.loaded import LoadedVersion

        signature = Signature(
            features=Schema(tuple(Field(name=name, dtype="float") for name in _FEATURES)),
            task="binary",
            label="defaulted",
            label_dtype="bool",
            classes=(False, True),
        )
        request = Schema(
            (
                Field(name="customer_id", dtype="int", nullable=False),
                *(Field(name=name, dtype="float", nullable=False) for name in _FIELDS),
            )
        )
        table = Table("applications.parquet", name="applications")
        ratio = RequestFeatures(
            "ratio", table, lambda rows: rows.with_columns(ratio=pl.col("field0") / (1 + pl.col("field1")))
        )
        rules = flatten([column(name).not_null().between(0, 1) for name in _FIELDS], of="applications")
        return LoadedVersion(
            ref=ref,
            predictor=self._fit(signature),
            signature=signature,
            request=RequestSchema(request),
            check_row=compile_row(rules, request.names),
            entity=("customer_id",),
            views=(ViewRef("payments", "1", timedelta(days=36_500), ("customer_id",)),),
            request_features=(ratio,),
        )

    def _fit(self, signature: Any) -> Any:
        import numpy as np
        import polars as pl
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        from flyball.runtimes.sklearn import SklearnRuntime

        rng = np.random.default_rng(0)
        values = rng.random((5_000, len(_FEATURES)))
        labels = values[:, :5].sum(axis=1) + rng.normal(size=5_000) / 2 > 2.5
        frame = pl.DataFrame(values, schema=_FEATURES)
        model = make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=100)).fit(frame, labels)
        folder = self._root / "model"
        folder.mkdir()
        runtime = SklearnRuntime()
        runtime.save(model, folder, signature, frame.head(100))
        return runtime.predictor(folder, signature)


def _fill_online_store(root: Path, db: Any) -> Any:
    import polars as pl

    from flyball.core.durations import from_us
    from flyball.domain.data.schemas import Field, Schema
    from flyball.domain.features import store
    from flyball.domain.features.online import OnlineReader, encode_rows, view_key
    from flyball.storage.online.lmdb import LmdbOnlineStore

    online = LmdbOnlineStore(root / "online")
    columns = Schema(tuple(Field(name=f"stored{number}", dtype="float") for number in range(_STORED)))
    frame = pl.DataFrame({"customer_id": range(_CUSTOMERS)}).with_columns(
        at=pl.lit(from_us(0)), **{name: pl.col("customer_id") / 1_000 for name in columns.names}
    )
    online.write(view_key("payments", "1"), encode_rows(frame, ["customer_id"], "at", "at", columns))
    with db.begin() as tx:
        store.put_columns(tx, view_key("payments", "1"), name="payments", version="1", columns=columns, now=from_us(0))
    return OnlineReader(db, online)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        _port = int(sys.argv[3])
        root = Path(sys.argv[2])
        root.mkdir()
        _serve_bare() if sys.argv[1] == "bare" else _serve_gateway(root)
