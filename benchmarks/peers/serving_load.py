"""The load of `benchmarks.serving`: wrk for the most that a server answers, a timetable for latency at a rate."""

import asyncio
import json
import re
import statistics
import subprocess
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_BODIES = 64
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
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
    folder: Path, port: int, model: str, rows: int, seconds: int, *, connections: int, core: int | None = None
) -> dict[str, Any]:
    """Return what a server answers when every connection always waits for an answer."""
    script = folder / "bodies.lua"
    bodies = ",\n".join(f"[[{make_body(model, rows, number).decode()}]]" for number in range(_BODIES))
    script.write_text(
        f"local bodies = {{{bodies}}}\nlocal at = 0\nlocal made = {{}}\n"
        'local headers = {["Content-Type"] = "application/json"}\n'
        f'function init() for i, b in ipairs(bodies) do made[i] = wrk.format("POST", "{address(model)}", headers, b) '
        f"end end\nfunction request() at = at % {_BODIES} + 1 return made[at] end\n"
    )
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    command = [*pinned, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script)]
    done = subprocess.run([*command, f"http://127.0.0.1:{port}"], capture_output=True, text=True, check=True)
    text = done.stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(f"the server at {address(model)} did not answer all requests:\n{text}")
    latency = {name: _milliseconds(text, name) for name in ("50%", "99%")}
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])  # type: ignore[index]
    requests = int(re.search(r"(\d+) requests in", text)[1])  # type: ignore[index]
    return {"requests": requests, "per_second": round(rate), "p50_ms": latency["50%"], "p99_ms": latency["99%"]}


def _milliseconds(text: str, name: str) -> float:
    number, unit = re.search(rf"{name}\s+([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return round(float(number) * {"us": 0.001, "ms": 1.0, "s": 1_000.0}[unit], 3)


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


class Offered:
    """What became of requests that were sent by a timetable.

    Attributes:
        latencies_ms: From when each was due to be sent until all of its answer was there.
        answered: How many were answered with status 200.
        failures: How many were not.
    """

    def __init__(self) -> None:
        self.latencies_ms = array("d")
        self.answered = 0
        self.failures = 0


class _Lane(asyncio.Protocol):
    """One connection with at most one request under way."""

    def __init__(self, offered: Offered, done: Callable[["_Lane"], None]) -> None:
        self._offered = offered
        self._done = done
        self._data = b""
        self._due_s = 0.0
        self._is_open = False
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._is_open = True

    def ask(self, request: bytes, due_s: float) -> None:
        self._due_s = due_s
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        if not end or len(body) < int(_LENGTH.search(head)[1]):  # type: ignore[index]
            return
        self._data = b""
        if head.startswith(b"HTTP/1.1 200"):
            self._offered.answered += 1
            self._offered.latencies_ms.append((time.perf_counter() - self._due_s) * 1_000)
        else:
            self._offered.failures += 1
        self._done(self)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._is_open:
            return
        self._offered.failures += 1
        raise SystemExit(f"the server ended a connection: {error}")

    def close(self) -> None:
        self._is_open = False
        self._transport.close()


def offer(port: int, model: str, rate: float, seconds: float, connections: int = 16) -> Offered:
    """Send requests by a timetable, some each millisecond, which a late answer does not stop."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_offer(port, model, rate, seconds, connections))


async def _offer(port: int, model: str, rate: float, seconds: float, connections: int) -> Offered:
    head = f"POST {address(model)} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: "
    bodies = [make_body(model, 1, number) for number in range(_BODIES)]
    requests = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]
    offered = Offered()
    free: deque[_Lane] = deque()
    waiting: deque[tuple[bytes, float]] = deque()
    loop = asyncio.get_running_loop()

    def done(lane: _Lane) -> None:
        if waiting:
            lane.ask(*waiting.popleft())
        else:
            free.append(lane)

    for _ in range(connections):
        free.append((await loop.create_connection(lambda: _Lane(offered, done), "127.0.0.1", port))[1])
    lanes = list(free)
    started = time.perf_counter()
    number, count = 0, int(rate * seconds)
    while number < count:
        now = time.perf_counter()
        until = min(count, int((now - started) * rate) + 1)
        waiting.extend((requests[at % _BODIES], now) for at in range(number, until))
        number = until
        while waiting and free:
            free.popleft().ask(*waiting.popleft())
        await asyncio.sleep(0.001)
    deadline = time.perf_counter() + 30
    while offered.answered + offered.failures < count and time.perf_counter() < deadline:
        await asyncio.sleep(0.01)
    offered.failures += count - offered.answered - offered.failures
    for lane in lanes:
        lane.close()
    return offered


def summary(latencies_ms: Sequence[float]) -> dict[str, Any]:
    """Return the figures that people compare."""
    ordered = sorted(latencies_ms)
    return {
        "requests": len(ordered),
        "p50_ms": round(statistics.median(ordered), 3),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)], 3),
        "slowest_ms": round(ordered[-1], 3),
    }
