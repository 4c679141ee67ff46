"""The unmodified client of MLflow beside a project with a pipeline and an endpoint."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.mlflow.test_client import run_script
from tests.stories.system import System, wait_for
from tests.stories.tiny import REQUEST, write_tiny

pytestmark = pytest.mark.slow
ENDPOINT = 'parcel = fb.Endpoint(model="lateness", gates=[fb.metric("auc") >= 0.55], rollout=[fb.shadow("1h")])'


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    project = write_tiny(
        tmp_path_factory.mktemp("tiny") / "project", endpoint=ENDPOINT, settings="tick_seconds = 0.5\n"
    )
    system = System(project)
    system.run("run", "training")
    system.up()
    yield system
    system.stop()


def test_versions_of_either_side_pass_the_same_gates_and_are_served(system: System, tmp_path: Path) -> None:
    run_script(system, "gates", tmp_path)

    def answers() -> bool:
        reply = system.predict(REQUEST)
        return bool(reply.status == 200 and reply.body["model_version"] == "lateness/3")

    wait_for(answers, "the endpoint answers with the version that the client registered", 30)
    prediction = system.predict(REQUEST).body["prediction_id"]
    traced = wait_for(lambda: trace(system, prediction), "the prediction's record is sealed", 30)
    [snapshot] = [found["snapshot"]["id"] for found in traced["snapshots"]]
    impact = system.ask("impact", f"snapshot/{snapshot}")
    assert {f"run/{traced['run']['run']['id']}", "version/lateness/3", "endpoint/parcel"} <= set(impact["reached"])


def trace(system: System, prediction: str) -> dict[str, Any] | None:
    reply = system.get(f"/predictions/{prediction}/trace")
    return reply.body if reply.status == 200 else None
