"""A project with one view of 20 features, its table, and the stores that the cases of the online store use."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from flyball.core.settings import Settings
from flyball.workspace.workspace import Workspace

KEYS, ROWS = 100_000, 1_000_000
FLOATS, INTS = [f"mean_{number}" for number in range(10)], [f"count_{number}" for number in range(10)]
FEATURES = [*FLOATS, *INTS]
START = datetime(2026, 1, 1, tzinfo=UTC)
FEAST = Path(__file__).parents[2] / ".peers" / "feast" / "bin" / "python"
_PROJECT = """
import flyball as fb
import polars as pl

customer = fb.Entity("customer_id")
payments = fb.Table("rows.parquet", entity=customer, time="at")


@fb.features(payments)
def tx(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows


all20 = [tx]
"""


def write_rows(path: Path, rows: int) -> None:
    """Write a table of payments; every customer has the same number of rows."""
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"customer_id": np.arange(rows) % KEYS, "seconds": rng.integers(0, 90 * 86_400, rows)})
    frame.select(
        "customer_id",
        (pl.lit(START).dt.cast_time_unit("us") + pl.duration(seconds="seconds")).alias("at"),
        *(pl.Series(name, rng.normal(size=rows)) for name in FLOATS),
        *(pl.Series(name, rng.integers(0, 1_000, rows)) for name in INTS),
    ).write_parquet(path)


def open_workspace(folder: Path, online: str, rows: int = KEYS) -> Workspace:
    """Return a project with its table, not yet materialised."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "project.py").write_text(_PROJECT)
    (folder / "flyball.toml").write_text(f'online = "{online}"\ngrpc_port = -1\n')
    write_rows(folder / "rows.parquet", rows)
    return Workspace(folder, folder / ".flyball", settings=Settings(online=online, online_timeout_seconds=5.0))


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Run Redis and yield its URL."""
    port = free_port()
    arguments = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL) as process:
        wait_for(port)
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()


def free_port() -> int:
    """Return a port below which and above which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, timeout_s: float = 60.0) -> None:
    """Wait until somebody listens at a port."""
    deadline = time.monotonic() + timeout_s
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > deadline:
            raise SystemExit(f"nothing listens at port {port}")
        time.sleep(0.05)
