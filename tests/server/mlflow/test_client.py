"""The unmodified client of MLflow, in its own environment, against ``flyball up``."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers import peer_python
from tests.stories.system import System

SCRIPTS = Path(__file__).parent / "clients"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    project = tmp_path_factory.mktemp("project")
    (project / "project.py").write_text("import flyball as fb\n", encoding="utf-8")
    (project / "flyball.toml").write_text("webhooks_to_private_addresses = true\n", encoding="utf-8")
    system = System(project)
    system.up()
    yield system
    system.stop()


def run_script(system: System, name: str, folder: Path, *, peer: str = "mlflow") -> None:
    """Run a client's script; it asserts, and ends with 0."""
    done = subprocess.run(
        [peer_python(peer), "-W", "ignore", str(SCRIPTS / f"{name}.py"), f"http://127.0.0.1:{system.port}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")},
    )
    assert done.returncode == 0, f"{done.stdout[-3_000:]}\n{done.stderr[-6_000:]}\n{system.told()}"


@pytest.mark.slow
def test_experiments_and_runs(system: System, tmp_path: Path) -> None:
    run_script(system, "tracking", tmp_path)


@pytest.mark.slow
def test_programs_of_an_older_release(system: System, tmp_path: Path) -> None:
    run_script(system, "older", tmp_path, peer="mlflow2")


@pytest.mark.slow
def test_traces(system: System, tmp_path: Path) -> None:
    run_script(system, "tracing", tmp_path)


@pytest.mark.slow
def test_what_people_train_with(system: System, tmp_path: Path) -> None:
    run_script(system, "learning", tmp_path)


@pytest.mark.slow
def test_artifacts(system: System, tmp_path: Path) -> None:
    run_script(system, "artifacts", tmp_path)


@pytest.mark.slow
def test_the_calls_of_the_client_for_r(system: System) -> None:
    """As mlflow-R sends them: plain JSON, experiment ids and times as texts, ``run_uuid`` beside ``run_id``."""
    prefix = "/api/2.0/mlflow"
    made = system.post(f"{prefix}/experiments/create", {"name": "from R"})
    number = made.body["experiment_id"]
    tags = [{"key": "mlflow.source.language", "value": "R"}]
    body = {"experiment_id": number, "user_id": "ada", "start_time": "1700000000000", "tags": tags}
    run = system.post(f"{prefix}/runs/create", body).body["run"]
    run_id = run["info"]["run_uuid"]
    both = {"run_uuid": run_id, "run_id": run_id}
    for path, fields in (
        ("log-parameter", {"key": "alpha", "value": "0.5"}),
        ("log-metric", {"key": "rmse", "value": 0.79, "timestamp": "1700000000100", "step": "0"}),
        ("set-tag", {"key": "k", "value": "v"}),
        ("update", {"status": "FINISHED", "end_time": "1700000000200"}),
    ):
        assert system.post(f"{prefix}/runs/{path}", both | fields).status == 200
    found = system.get(f"{prefix}/runs/get?run_uuid={run_id}&run_id={run_id}").body["run"]
    assert found["info"]["status"] == "FINISHED"
    assert json.dumps(found["data"]["metrics"]) == json.dumps(
        [{"key": "rmse", "value": 0.79, "timestamp": 1_700_000_000_100, "step": 0}]
    )


@pytest.mark.slow
def test_webhooks(system: System, tmp_path: Path) -> None:
    run_script(system, "webhooks", tmp_path)


@pytest.mark.slow
def test_the_registry_logged_models_and_prompts(system: System, tmp_path: Path) -> None:
    run_script(system, "registry", tmp_path)


@pytest.mark.slow
def test_the_client_serves_a_model_that_the_registry_holds(system: System, tmp_path: Path) -> None:
    run_script(system, "serve", tmp_path)
