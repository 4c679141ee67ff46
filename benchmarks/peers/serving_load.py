"""The load of `benchmarks.serving`: wrk for the most that a server answers, a timetable for latency at a rate."""

import asyncio
import json
import math
import resource
import subprocess
import time
from pathlib import Path
from typing import Any

_SCRIPT = Path(__file__).with_suffix(".lua")
_BODIES = 64
_OFFERING = 128
_TIMEOUT_S = 10
_FIELDS = {"plain": 20, "linear": 20, "stored": 10, "voters": 20}
_ADDRESSES = {name: f"/v2/models/{name}/infer" for name in _FIELDS}


def make_body(model: str, rows: int, number: int) -> bytes:
    """Return a request: for each row its key (and its customer), then its numbers."""
    fields = _FIELDS.get(model, 20)
    keys = [lambda row: row, lambda row: row % 1_000] if model == "stored" else [lambda row: row]
    data: list[float] = []
    for place in range(rows):
        row = number * rows + place
        data += [key(row) for key in keys] if model in _FIELDS else []
        data += [round((row * 7 + at * 3) % 97 / 97, 6) for at in range(fields)]
    width = len(data) // rows
    if model.startswith("mlflow"):
        names = [f"field{at}" for at in range(fields)]
        cut = [data[at * width : (at + 1) * width] for at in range(rows)]
        return json.dumps({"dataframe_split": {"columns": names, "data": cut}}).encode()
    if model.startswith("bentoml"):
        return json.dumps({"values": [data[at * width : (at + 1) * width] for at in range(rows)]}).encode()
    tensor = {"name": "rows", "shape": [rows, width], "datatype": "FP64", "data": data}
    return json.dumps({"inputs": [tensor]}).encode()


def address(model: str) -> str:
    """Return the path of a model; of a peer, what follows its name."""
    return _ADDRESSES.get(model) or model.partition(" ")[2]


def press(
    folder: Path, port: int, model: str, rows: int, seconds: float, *, connections: int, core: int | None = None
) -> dict[str, Any]:
    """Return what a server answers when every connection always waits for an answer.

    Raises:
        SystemExit: It did not answer all requests with status 200.
    """
    found = _send(folder, port, model, rows, seconds, connections=connections, core=core)
    if found["failures"]:
        raise SystemExit(f"the server at {address(model)} did not answer all requests: {found}")
    rate = round(found["requests"] / found["seconds"])
    told = {name: found[name] for name in ("requests", "p50_ms", "p99_ms", "load_cores")}
    return {"per_second": rate} | told


def offer(
    folder: Path, port: int, model: str, rate: float, seconds: float, *, core: int | None = None
) -> dict[str, Any]:
    """Return what becomes of requests of one row that are sent by a timetable, which a late answer does not stop.

    Latency counts from sending, which is honest as long as requests are sent when they are due: how late they were is
    told beside it. Where even so many connections all waited, wrk counts the requests that they did not send meanwhile.
    """
    found = _send(folder, port, model, 1, seconds, connections=_OFFERING, core=core, rate=rate)
    del found["seconds"]
    return {"rate": round(rate)} | found


def _send(
    folder: Path,
    port: int,
    model: str,
    rows: int,
    seconds: float,
    *,
    connections: int,
    core: int | None,
    rate: float = 0.0,
) -> dict[str, Any]:
    bodies = folder / "bodies.txt"
    bodies.write_bytes(b"\n".join(make_body(model, rows, number) for number in range(_BODIES)))
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    options = ["-t1", f"-c{connections}", f"-d{math.ceil(seconds)}s", "--timeout", f"{_TIMEOUT_S}s", "-s", str(_SCRIPT)]
    told = [address(model), str(bodies), str(rate)]
    command = [*pinned, "wrk", *options, f"http://127.0.0.1:{port}", "--", *told]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise SystemExit("the load comes from wrk, which is not installed: apt-get install wrk") from error
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return found | {"load_cores": round(took_s / found["seconds"], 2)}


async def press_grpc(port: int, model: str, seconds: float, *, connections: int) -> int:
    """Return how many calls of gRPC were answered, over connections that never pause."""
    import grpc
    import numpy as np

    from flyball.server.inference.oip.wire import SERVICE, make_messages

    request = make_messages()["ModelInferRequest"]
    calls = []
    for number in range(_BODIES):
        values = np.array(json.loads(make_body(model, 1, number))["inputs"][0]["data"])
        tensor = {"name": "rows", "datatype": "FP64", "shape": [1, len(values)]}
        message = request(model_name=model, inputs=[tensor], raw_input_contents=[values.tobytes()])
        calls.append(message.SerializeToString())
    options = [("grpc.use_local_subchannel_pool", 1)]
    count, end = 0, time.perf_counter() + seconds

    async def keep_asking(place: int) -> None:
        nonlocal count
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")
            while time.perf_counter() < end:
                await infer(calls[(count + place) % _BODIES])
                count += 1

    await asyncio.gather(*map(keep_asking, range(connections)))
    return count
