"""Several processes behind one address: whichever ends, the others answer and another takes its place."""

import http.client
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.server.gateways import GatewayProgram
from tests.stories.tiny import make_request

pytestmark = pytest.mark.slow
ENDPOINT = """
parcel = fb.Endpoint(model="lateness", gates=[fb.metric("auc") >= 0.2], retrain=training)
"""


class Processes(GatewayProgram):
    """A gateway of three processes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, ENDPOINT, settings="gateway_processes = 3\n")
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
            return str(self.send("GET", "/health").body.get("worker", ""))
        except OSError:
            return ""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    yield made
    made.stop()


def test_killed_workers_lose_no_answered_prediction_and_are_replaced(processes: Processes) -> None:
    answered: list[str] = []
    before = {worker.pid for worker in processes.workers()}
    for number in range(120):
        if number == 40:
            processes.workers()[0].send_signal(signal.SIGKILL)
        try:
            answered.append(processes.send("POST", "/predict/parcel", make_request(number)).body["prediction_id"])
        except (OSError, http.client.HTTPException):
            continue  # who asked the one that was killed knows of no answer
    assert len(answered) >= 118
    processes.wait_for(3)
    assert len({worker.pid for worker in processes.workers()} - before) == 1

    processes.stop()
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
        processes.send("POST", "/predict/parcel", make_request(number))
    time.sleep(1.5)  # each tells the others once a second
    text = processes.send("GET", "/metrics").body
    counted = [line for line in text.splitlines() if line.startswith("flyball_predictions_total{")]
    assert sum(float(line.rpartition(" ")[2]) for line in counted) == 30
