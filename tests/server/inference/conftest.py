import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.domain.serving.conftest import House
from tests.server.inference.gateway_process import make_house
from tests.stories.system import find_free_ports

REPOSITORY = Path(__file__).parents[3]
REQUEST = {"customer_id": 1, "income": 1000.0, "term": 12}


class Response:
    def __init__(self, status: int, body: bytes, headers: http.client.HTTPMessage) -> None:
        self.status = status
        self.body = body
        self.headers = headers
        self.media_type = headers["content-type"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Gateway:
    """A running gateway and the house that it serves."""

    def __init__(self, root: Path, flag: str = "", live: str | None = "m/1") -> None:
        self.root = root
        self.house: House = make_house(root)
        if live is not None:
            self.house.go_live(live)
        self.port = find_free_ports()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.server.inference.gateway_process", str(root), str(self.port), flag],
            cwd=REPOSITORY,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
        )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                if self.get("/health").status == 200:
                    return
            except OSError:
                pass
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def send(self, method: str, path: str, body: bytes | None = None, headers: Any = None) -> Response:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, {"content-type": "application/json"} if headers is None else headers)
            response = connection.getresponse()
            return Response(response.status, response.read(), response.headers)
        finally:
            connection.close()

    def get(self, path: str) -> Response:
        return self.send("GET", path)

    def predict(self, content: Any = REQUEST, endpoint: str = "credit") -> Response:
        return self.send("POST", f"/predict/{endpoint}", json.dumps(content).encode())

    def stop(self, number: int = signal.SIGTERM) -> str:
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=20)
        return errors.decode()


StartGateway = Callable[..., Gateway]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    running = Gateway(tmp_path_factory.mktemp("home"))
    yield running
    assert "Traceback" not in running.stop()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartGateway]:
    started: list[Gateway] = []

    def begin(*arguments: Any, **options: Any) -> Gateway:
        started.append(Gateway(tmp_path, *arguments, **options))
        return started[-1]

    yield begin
    for running in started:
        running.stop()


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A data plane in this process."""
    return House(tmp_path)
