"""Several processes behind one address: whichever ends, the others answer and another takes its place."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from flyball.workspace.workspace import Workspace
from tests.stories.system import find_free_ports
from tests.stories.tiny import make_request, write_tiny

pytestmark = pytest.mark.slow
ENDPOINT = """
parcel = fb.Endpoint(model="lateness", gates=[fb.metric("auc") >= 0.2], retrain=training)
"""


class Processes:
    """A gateway of three processes."""

    def __init__(self, folder: Path) -> None:
        self.project = write_tiny(folder / "tiny", endpoint=ENDPOINT, settings="gateway_processes = 3\n")
        self.home = self.project / ".flyball"
        self.workspace = Workspace(self.project, self.home)
        self.workspace.run("training")
        self.workspace.loop.tick()
        self.port = find_free_ports()
        command = [sys.executable, "-m", "flyball.server.gateway", str(self.project), str(self.home)]
        self.process = subprocess.Popen(
            [*command, "127.0.0.1", str(self.port - 1)], env=os.environ | {"FLYBALL_GRPC_PORT": "-1"}
        )
        self.wait_for(3)

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def wait_for(self, count: int) -> None:
        """Wait until so many processes answer; each connection may reach another of them."""
        deadline = time.monotonic() + 60
        while len({self.who() for _ in range(40)} - {""}) < count:
            assert time.monotonic() < deadline, [worker.pid for worker in self.workers()]
            time.sleep(0.2)

    def who(self) -> str:
        try:
            return str(self.ask("GET", "/health").get("worker", ""))
        except OSError:
            return ""

    def ask(self, method: str, path: str, content: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, None if content is None else json.dumps(content))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    yield made
    made.process.terminate()
    made.process.wait(20)


def test_killed_workers_lose_no_answered_prediction_and_are_replaced(processes: Processes) -> None:
    answered: list[str] = []
    before = {worker.pid for worker in processes.workers()}
    for number in range(120):
        if number == 40:
            processes.workers()[0].send_signal(signal.SIGKILL)
        try:
            answered.append(processes.ask("POST", "/predict/parcel", make_request(number))["prediction_id"])
        except (OSError, http.client.HTTPException):
            continue  # who asked the one that was killed knows of no answer
    assert len(answered) >= 118
    processes.wait_for(3)
    assert len({worker.pid for worker in processes.workers()} - before) == 1

    processes.process.terminate()
    processes.process.wait(20)
    processes.workspace.predictions.seal()
    logged = set(processes.workspace.predictions.scan("parcel").collect()["id"])
    assert set(answered) <= logged


def test_workers_leave_when_the_gateway_is_killed(processes: Processes) -> None:
    workers = processes.workers()
    processes.process.kill()
    gone, _ = psutil.wait_procs(workers, timeout=15)
    assert len(gone) == 3


def test_counts_of_all_workers_are_told_by_each(processes: Processes) -> None:
    for number in range(30):
        processes.ask("POST", "/predict/parcel", make_request(number))
    time.sleep(1.5)  # each tells the others once a second
    connection = http.client.HTTPConnection("127.0.0.1", processes.port, timeout=10)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    counted = [line for line in text.splitlines() if line.startswith("flyball_predictions_total{")]
    assert sum(float(line.rpartition(" ")[2]) for line in counted) == 30
