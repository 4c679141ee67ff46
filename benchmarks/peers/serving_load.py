"""The load of `benchmarks.serving`: wrk for the most that a server answers, a timetable for latency at a rate."""

import asyncio
import json
import re
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

_BODIES = 64
_FIELDS = {"plain": 20, "stored": 10, "voters": 20}
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


async def offer(port: int, model: str, rate: float, seconds: float, connections: int = 16) -> list[float]:
    """Send requests by a timetable and return the latencies, in milliseconds, from when each was due."""
    head = f"POST {address(model)} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: "
    bodies = [make_body(model, 1, number) for number in range(_BODIES)]
    requests = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    latencies: list[float] = []

    async def one(number: int, due: float) -> None:
        reader, writer = await free.get()
        writer.write(requests[number % _BODIES])
        reply = await reader.readuntil(b"\r\n\r\n")
        if not reply.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"the server answered {reply[:40]!r}")
        length = re.search(rb"content-length: (\d+)", reply.lower())
        await reader.readexactly(int(length[1]))  # type: ignore[index]
        latencies.append((time.perf_counter() - due) * 1_000)
        free.put_nowait((reader, writer))

    started = time.perf_counter()
    tasks: list[asyncio.Task[None]] = []
    for number in range(int(rate * seconds)):
        due = started + number / rate
        if due > time.perf_counter():
            await asyncio.sleep(due - time.perf_counter())
        tasks.append(asyncio.create_task(one(number, due)))
    await asyncio.gather(*tasks)
    while not free.empty():
        free.get_nowait()[1].close()
    return latencies


def summary(latencies_ms: list[float]) -> dict[str, Any]:
    """Return the figures that people compare."""
    ordered = sorted(latencies_ms)
    return {
        "requests": len(ordered),
        "p50_ms": round(statistics.median(ordered), 3),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)], 3),
        "slowest_ms": round(ordered[-1], 3),
    }
