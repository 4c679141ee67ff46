"""One row of 20 features over the Open Inference Protocol, by REST and gRPC. Prints one JSON line.

Servers run on the first core, one at a time, and the client on the second, over 16 connections that never pause. The
limits are servers with nothing else in them: one answers a constant, one calls the same model; Flyball has everything
on (checks, routing, the log before the answer, metrics). The model is StandardScaler and HistGradientBoosting of 100
trees, in the form that the gateway serves.
"""

import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flyball.server.inference.oip.wire import SERVICE, make_messages

_SECONDS, _CONNECTIONS = 4.0, 16
_NAMES = [f"field{number}" for number in range(20)]
_VALUES = [number % 13 / 13 for number in range(20)]
_messages = make_messages()
_ANSWER = {
    "model_name": "credit",
    "model_version": "1",
    "id": "0" * 26,
    "outputs": [{"name": "prediction", "datatype": "FP64", "shape": [1]}],
}


def main() -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    figures: dict[str, Any] = {"benchmark": "protocols", "unit": "requests per second"}
    with tempfile.TemporaryDirectory() as folder:
        for role in ("constant", "model", "flyball"):
            root = Path(folder) / role
            root.mkdir()
            with _serving(role, root, cores[0]) as port:
                found = {"json": asyncio.run(_press(_http(port, _json_request())))}
                found["binary"] = asyncio.run(_press(_http(port, _binary_request())))
                found["grpc"] = asyncio.run(_press(_grpc(port + 1)))
            figures[role] = found
    for limit in ("constant", "model"):
        figures[f"share_of_{limit}"] = {
            way: round(figures["flyball"][way] / figures[limit][way], 2) for way in ("json", "binary", "grpc")
        }
    print(json.dumps(figures))


@contextmanager
def _serving(role: str, root: Path, core: int) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = ["taskset", "-c", str(core), sys.executable, "-m", "benchmarks.protocols", role, str(root), str(port)]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"})
    try:
        deadline = time.monotonic() + 60
        while not (_is_up(port) and _is_up(port + 1)):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the {role} server did not start")
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()


def _is_up(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# The client

_Open = Callable[[], Awaitable[Callable[[], Awaitable[None]]]]


async def _press(open_connection: _Open) -> int:
    """Return how many requests a second are answered over connections that never pause."""
    asks = [await open_connection() for _ in range(_CONNECTIONS)]
    for ask in asks:
        await ask()  # warm
    count, end = 0, time.perf_counter() + _SECONDS

    async def keep_asking(ask: Callable[[], Awaitable[None]]) -> None:
        nonlocal count
        while time.perf_counter() < end:
            await ask()
            count += 1

    await asyncio.gather(*map(keep_asking, asks))
    return round(count / _SECONDS)


def _http(port: int, request: bytes) -> _Open:
    async def open_connection() -> Callable[[], Awaitable[None]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def ask() -> None:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"the server answered {head[:40]!r}")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.split(b":")[1]))

        return ask

    return open_connection


def _grpc(port: int) -> _Open:
    import grpc

    tensor = {"name": "x", "datatype": "FP64", "shape": [1, 20]}
    raw = struct.pack("<20d", *_VALUES)
    request = _messages["ModelInferRequest"](model_name="credit", inputs=[tensor], raw_input_contents=[raw])
    data = request.SerializeToString()

    async def open_connection() -> Callable[[], Awaitable[None]]:
        options = [("grpc.use_local_subchannel_pool", 1)]
        call = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options).unary_unary(f"/{SERVICE}/ModelInfer")

        async def ask() -> None:
            await call(data)

        return ask

    return open_connection


def _json_request() -> bytes:
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, 20], "data": _VALUES}
    return _post(json.dumps({"inputs": [tensor]}).encode())


def _binary_request() -> bytes:
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, 20], "parameters": {"binary_data_size": 160}}
    header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return _post(header + struct.pack("<20d", *_VALUES), f"inference-header-content-length: {len(header)}\r\n")


def _post(body: bytes, header: str = "") -> bytes:
    head = f"POST /v2/models/credit/infer HTTP/1.1\r\nhost: x\r\n{header}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


# The servers


def _serve_limit(root: Path, port: int, *, has_model: bool) -> None:
    """Serve nothing but the protocol's bytes: no checks, no names, no log."""
    import grpc
    import msgspec
    import uvicorn

    predict = _fit(root)[1] if has_model else lambda _row: 0.5
    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await _start_grpc(grpc, port + 1, predict)
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = (await receive())["body"]
        length = dict(scope["headers"]).get(b"inference-header-content-length")
        if length is None:
            row = decode(body)["inputs"][0]["data"] if has_model else _VALUES
        else:
            row = list(struct.unpack_from("<20d", body, int(length)))
        outputs = [_ANSWER["outputs"][0] | {"data": [predict(row)]}]  # type: ignore[index]
        answer = encode(_ANSWER | {"outputs": outputs})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    uvicorn.run(app, port=port, loop="uvloop", http="httptools", log_level="error", access_log=False, lifespan="on")


async def _start_grpc(grpc: Any, port: int, predict: Any) -> None:
    response = _messages["ModelInferResponse"]

    async def infer(request: Any, _context: Any) -> Any:
        value = predict(struct.unpack("<20d", request.raw_input_contents[0]))
        return response(**_ANSWER, raw_output_contents=[struct.pack("<d", value)])

    handler = grpc.unary_unary_rpc_method_handler(
        infer,
        request_deserializer=_messages["ModelInferRequest"].FromString,
        response_serializer=response.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": handler}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    _kept.append(server)


_kept: list[Any] = []


def _serve_flyball(root: Path, port: int) -> None:
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
    registry: Any = _OneVersion(root)
    fleet = Fleet(
        [ServedEndpoint(name="credit", model="m")],
        champions=registry,
        rollouts=RolloutService(db, journal, clock),
        loader=registry,
        db=db,
        journal=journal,
        check_every_s=None,
    )
    plane = DataPlane(fleet, registry, predictions.log, clock)
    versions = VersionsOnDemand(fleet, registry, registry)
    app = InferenceApp(plane, predictions.log, versions, grpc_address=f"127.0.0.1:{port + 1}")
    serve(app, "127.0.0.1", port, app.short_way)


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
        from flyball.domain.data.expectations import column, flatten
        from flyball.domain.data.requests import RequestSchema
        from flyball.domain.data.row_checks import compile_row
        from flyball.domain.serving.loaded import LoadedVersion

        signature, _, predictor = _fit(self._root)
        rules = flatten([column(name).not_null().between(0, 1) for name in _NAMES], of="applications")
        return LoadedVersion(
            ref=ref,
            predictor=predictor,
            signature=signature,
            request=RequestSchema(signature.features),
            check_row=compile_row(rules, _NAMES),
            rules=tuple(rules),
        )


def _fit(root: Path) -> tuple[Any, Any, Any]:
    """Return the model's signature, its form for one row, and its predictor as the gateway has it."""
    import numpy as np
    import polars as pl
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from flyball.domain.data.schemas import Field, Schema
    from flyball.domain.registry.signatures import Signature
    from flyball.runtimes.rows import compile_row
    from flyball.runtimes.sklearn import SklearnRuntime

    rng = np.random.default_rng(0)
    values = rng.random((5_000, len(_NAMES)))
    labels = values[:, :5].sum(axis=1) + rng.normal(size=5_000) / 2 > 2.5
    frame = pl.DataFrame(values, schema=_NAMES)
    model = make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=100)).fit(frame, labels)
    signature = Signature(
        features=Schema(tuple(Field(name=name, dtype="float", nullable=False) for name in _NAMES)),
        task="binary",
        label="defaulted",
        label_dtype="bool",
        classes=(False, True),
    )
    folder = root / "model"
    folder.mkdir()
    runtime = SklearnRuntime()
    runtime.save(model, folder, signature, frame.head(100))
    return signature, compile_row(model), runtime.predictor(folder, signature)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        _role, _root, _port = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
        if _role == "flyball":
            _serve_flyball(_root, _port)
        else:
            _serve_limit(_root, _port, has_model=_role == "model")
