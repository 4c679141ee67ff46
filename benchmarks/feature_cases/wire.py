"""Features over HTTP in Feast's protocol, 8 connections: requests a second, beside a bare server and Feast's own."""

import json
import random
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.feature_cases import limits
from benchmarks.feature_cases.online import run_feast
from benchmarks.feature_cases.project import FEAST, FEATURES, KEYS, free_port, open_workspace, redis_server, wait_for

_SECONDS, _BODIES, _ROUNDS = 4, 64, 3
_BARE = Path(__file__).parents[1] / "peers" / "features_bare.py"


def http(folder: Path) -> dict[str, Any]:
    """One entity and a hundred, 20 features; on a machine of two cores the server has one, wrk and Redis the other."""
    told: dict[str, Any] = {}
    with redis_server(folder) as url:
        workspace = open_workspace(folder / "redis", url)
        workspace.materialise()
        limits.open_redis(url)[1](limits.pack(limits.newest(folder / "redis" / "rows.parquet")))
        port = free_port()
        gateway = ["-m", "flyball.server.gateway", folder / "redis", folder / "redis" / ".flyball", "127.0.0.1"]
        bare_port = free_port()
        with _running([*gateway, port], port + 1), _running([_BARE, url, bare_port], bare_port):
            for entities in (1, 100):
                script = _write_script(folder, entities)
                rates = [(_press(port + 1, script), _press(bare_port, script)) for _ in range(_ROUNDS)]
                told[f"{entities}_per_s"], told[f"{entities}_limit_per_s"] = map(max, zip(*rates, strict=True))
                told[f"{entities}_share"] = round(statistics.median(mine / bare for mine, bare in rates), 2)
        told |= _feast(folder, url)
    return told


def _feast(folder: Path, url: str) -> dict[str, Any]:
    told = run_feast(folder, "serve", url)
    if "feast" in told:
        return told
    port = free_port()
    feast = FEAST.with_name("feast")
    command = [feast, "-c", folder / "feast" / "redis", "serve", "-p", port, "--no-access-log"]
    with _running(command, port, timeout_s=90.0):
        try:
            return {f"feast_{entities}_per_s": _press(port, _write_script(folder, entities)) for entities in (1, 100)}
        except SystemExit as failed:  # its connections break where the machine is busy; our figures stand
            return {"feast": str(failed)[:200]}


@contextmanager
def _running(command: Sequence[Any], port: int, timeout_s: float = 60.0) -> Iterator[None]:
    program = [] if Path(str(command[0])).name == "feast" else [sys.executable]
    arguments = ["taskset", "-c", "0", *program, *map(str, command)]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(port, timeout_s)
            yield
        finally:
            process.terminate()


def _write_script(folder: Path, entities: int) -> Path:
    chosen = random.Random(2)
    references = [f"tx:{name}" for name in FEATURES]
    bodies = ",\n".join(
        f"[[{json.dumps({'entities': {'customer_id': chosen.sample(range(KEYS), entities)}, 'features': references})}]]"
        for _ in range(_BODIES)
    )
    script = folder / f"load_{entities}.lua"
    script.write_text(
        f"local bodies = {{{bodies}}}\nlocal at = 0\nlocal made = {{}}\n"
        'local headers = {["Content-Type"] = "application/json"}\n'
        "function init() for i, body in ipairs(bodies) do "
        'made[i] = wrk.format("POST", "/get-online-features", headers, body) end end\n'
        f"function request() at = at % {_BODIES} + 1 return made[at] end\n"
    )
    return script


def _press(port: int, script: Path) -> int:
    command = ["taskset", "-c", "1", "wrk", "-t1", "-c8", f"-d{_SECONDS}s", "-s", str(script)]
    done = subprocess.run([*command, f"http://127.0.0.1:{port}"], capture_output=True, text=True, check=True)
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise SystemExit(f"the server at port {port} did not answer all requests:\n{done.stdout}")
    return round(float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1]))  # type: ignore[index]
