"""``flyball up`` in a folder that declares nothing: a server of runs, models and traces."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from flyball.core.errors import BackendUnavailableError
from flyball.workspace.live_runs import ServerDestination
from tests.stories.system import System, wait_for

LEAST = {"polars", "numpy", "pandas", "sklearn", "litestar", "pyarrow"}


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    (tmp_path / "runs").mkdir()
    made = System(tmp_path / "runs")
    yield made
    made.stop()


def test_nothing_is_loaded_that_keeping_runs_does_not_need() -> None:
    code = f"import sys, flyball.server.control; print(sorted({LEAST!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_two_processes_keep_what_clients_log(system: System) -> None:
    system.up()
    assert system.get("/health").body["parts"] == {"control": "ready"}
    assert system.process is not None
    assert len(psutil.Process(system.process.pid).children(recursive=True)) == 1
    made = system.post("/api/2.0/mlflow/runs/create", {"experiment_id": "0", "start_time": 1})
    run = made.body["run"]["info"]["run_id"]
    metric = {"run_id": run, "key": "a", "value": 1, "timestamp": 1}
    assert system.post("/api/2.0/mlflow/runs/log-metric", metric).status == 200
    assert "there is no project.py" in system.get("/status").body["detail"]
    assert [event["kind"] for event in system.get("/events").body][-1] == "tracking.run.started"
    assert "MLFLOW_TRACKING_URI" in system.told()
    nowhere = system.get("/mlflow/api/2.0/mlflow/runs/get")
    assert (nowhere.status, nowhere.body["error_code"]) == (404, "ENDPOINT_NOT_FOUND")
    assert "MLFLOW_TRACKING_URI is like" in nowhere.body["message"]
    # fb.run() does not give up what it logs because of an address with another path.
    destination = ServerDestination(f"http://127.0.0.1:{system.port}/nowhere")
    with pytest.raises(BackendUnavailableError, match="takes no runs: status 404"):
        destination.receive("r", 0, [])
    destination.close()
    with urlopen(f"http://127.0.0.1:{system.port}/", timeout=10) as page:
        assert page.headers["content-type"].startswith("text/html")
        assert b"/api/2.0/mlflow/runs/get" in page.read()


def test_it_listens_at_the_loopback_address_of_ipv6(system: System) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    (system.project / "flyball.toml").write_text('host = "::1"\n')
    system.launch()

    def answers() -> bool:
        assert system.process is not None and system.process.poll() is None, system.told()
        try:
            with urlopen(f"http://[::1]:{system.port}/health", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    wait_for(answers, "it answers at ::1")
    assert f"MLFLOW_TRACKING_URI=http://[::1]:{system.port}" in system.told()
