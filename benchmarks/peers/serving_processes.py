"""Servers of `benchmarks.serving`: started on a core, waited for, and measured."""

import os
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_LIBRARIES = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
_LISTENERS = Path("/proc/net/tcp")


@contextmanager
def running(
    command: Sequence[str], core: int | None, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server, on one core if one is named, for as long as the block lasts."""
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


def wait_for_listeners(port: int, processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until each of several processes listens at one port."""
    deadline, address = time.monotonic() + 60, f":{port:04X} "
    while sum(address in line and " 0A " in line for line in _LISTENERS.read_text().splitlines()) < len(processes):
        if any(process.poll() is not None for process in processes) or time.monotonic() > deadline:
            raise SystemExit(f"{len(processes)} processes should listen at {port} and do not")
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


def cpu_s(pids: Sequence[int]) -> float:
    """Return the processor time that processes and their children took."""
    found = 0.0
    for process in [process for pid in pids for process in (pid, *map(int, _children(pid)))]:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        found += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
