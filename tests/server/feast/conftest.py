"""A gateway of its own process on a project with two views, for Feast's clients."""

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flyball.workspace.workspace import Workspace
from tests.servers import redis, wait_for_port
from tests.stories.system import find_free_ports

NOW = datetime.now(UTC).replace(microsecond=0)
_PROJECT = """
import flyball as fb
import polars as pl

customer = fb.Entity("customer_id")
payments = fb.Table("payments.parquet", entity=customer, time="paid_at")
visits = fb.Table("visits.parquet", entity=fb.Entity("customer_id", "shop"), time="at")


@fb.features(payments, ttl="30d")
def behaviour(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows


@fb.features(visits)
def loyalty(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows


@fb.features(payments)
def unwritten(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows


everything = [behaviour]
some = ["behaviour:days", "loyalty:visits"]
"""


class Gateway:
    """A running gateway.

    Attributes:
        address: Where it listens.
        workspace: The same project and home, in this process.
    """

    def __init__(self, root: Path, online: str) -> None:
        (root / "project.py").write_text(_PROJECT)
        (root / "flyball.toml").write_text(f'online = "{online}"\ngrpc_port = -1\n')
        pl.DataFrame(
            {
                "customer_id": [1, 2, 3],
                "paid_at": [NOW - timedelta(days=days) for days in (1, 2, 60)],
                "days": [10, None, 30],
                "share": [0.5, float("nan"), 0.1],
                "shop": ["a", "b", "c"],
                "is_late": [True, False, True],
                "seen": [NOW - timedelta(days=1)] * 3,
            }
        ).write_parquet(root / "payments.parquet")
        pl.DataFrame({"customer_id": [1], "shop": ["a"], "at": [NOW], "visits": [7]}).write_parquet(
            root / "visits.parquet"
        )
        self.root = root
        self.workspace = Workspace(root, root / ".flyball")
        self.workspace.materialise(["behaviour", "loyalty"])
        port = find_free_ports()
        self._port = port + 1
        self.address = f"http://127.0.0.1:{port + 1}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flyball.server.gateway", str(root), str(root / ".flyball"), "127.0.0.1", str(port)],
            env=os.environ | {"POLARS_MAX_THREADS": "1"},
        )
        wait_for_port(port + 1, self.process)
        deadline = time.monotonic() + 30
        while self.get("/health")[0] != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def post(self, path: str, content: Any) -> tuple[int, Any]:
        """Send JSON and return status and JSON."""
        return self._ask("POST", path, content if isinstance(content, bytes) else json.dumps(content).encode())

    def get(self, path: str) -> tuple[int, Any]:
        """Return status and JSON."""
        return self._ask("GET", path, None)

    def text(self, path: str) -> str:
        """Return what is at an address."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def _ask(self, method: str, path: str, body: bytes | None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body is not None else {})
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")
        finally:
            connection.close()

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(timeout=30)


@pytest.fixture(scope="module", params=["lmdb", "redis"])
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    root = tmp_path_factory.mktemp("shop")
    if request.param == "lmdb":
        running = Gateway(root, "lmdb")
        yield running
        running.stop()
        return
    with redis(tmp_path_factory.mktemp("redis")) as server:
        running = Gateway(root, server.url)
        yield running
        running.stop()
