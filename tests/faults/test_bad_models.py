"""A model that raises, hangs or eats memory fails alone, and a package that was changed is refused by its digest."""

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from flyball.workspace.workspace import Workspace
from tests.stories.system import Reply, System, wait_for
from tests.stories.tiny import REQUEST, add_arrivals, make_request, write_tiny
from tests.stories.traffic import Traffic

pytestmark = pytest.mark.slow
RAISES, HANGS, EATS = 41.0, 42.0, 43.0
PROJECT = f"""
import time

import numpy as np


class Moody:
    def predict_proba(self, rows):
        weights = np.asarray(rows["weight_kg"])
        if (weights == {RAISES}).any():
            raise ValueError("too heavy for me")
        if (weights == {HANGS}).any():
            time.sleep(3_600)
        if (weights == {EATS}).any():
            np.ones(5_000_000_000)
        return np.column_stack([1 - weights / 50, weights / 50])

    def predict(self, rows):
        return self.predict_proba(rows)[:, 1] >= 0.5


@fb.step
def train_moody(data: fb.TrainingSet) -> Moody:
    return Moody()


@fb.step
def judge(model: Moody, data: fb.TrainingSet) -> dict[str, float]:
    return {{"auc": roc_auc_score(data.y, model.predict_proba(data.X)[:, 1])}}


@fb.pipeline
def training_moody():
    data = fb.training_set(parcels, label=arrivals["late"], features=[haste])
    fit, held_out = fb.split(data, test="last 25%")
    model = train_moody(fit)
    return fb.candidate("moody", model, metrics=judge(model, held_out), data=fit)


parcel = fb.Endpoint(model="lateness", gates=[fb.metric("auc") >= 0.2], rollout=[fb.canary(0.5, "1s")])
moody = fb.Endpoint(model="moody", gates=[fb.metric("auc") >= 0.2])
"""
SETTINGS = """
tick_seconds = 0.2
gateway_processes = 2
gateway_timeout_seconds = 0.5
gateway_stuck_seconds = 3.0
gateway_memory_mb = 300
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    made = System(write_tiny(tmp_path_factory.mktemp("up") / "tiny", endpoint=PROJECT, settings=SETTINGS))
    for pipeline in ("training", "training_moody"):
        made.run("run", pipeline)
    made.up()
    yield made
    made.stop()


def ask_moody(system: System, weight: float = 7.0) -> Reply:
    return system.predict(REQUEST | {"weight_kg": weight}, "moody")


def test_a_model_that_raises_hangs_or_eats_memory_fails_alone(system: System) -> None:
    with Traffic(system.port + 1, make_request).flowing() as traffic:
        assert ask_moody(system).body["prediction"] == pytest.approx(0.14)
        begun_s = time.monotonic()
        failed = ask_moody(system, RAISES)
        assert (failed.status, "too heavy for me" in failed.body["detail"]) == (502, True)
        greedy = ask_moody(system, EATS)
        assert (greedy.status, "llocate" in greedy.body["detail"]) == (502, True)
        time.sleep(0.5)
        assert {answer.status for answer in traffic.since(begun_s)} == {200}
        # In a thread while it is new; when it is known to be quick it stands in everybody's way until it is ended.
        for number in range(20):
            assert system.predict(make_request(number), "moody").status == 200
        begun_s = time.monotonic()
        workers = {process.pid for process in system.find_processes("gateway_worker")}
        with suppress(OSError):  # its process is ended while it waits
            assert ask_moody(system, HANGS).status == 504
        wait_for(
            lambda: workers - {process.pid for process in system.find_processes("gateway_worker")},
            "the process that stands still is ended",
            20,
        )
        wait_for(lambda: len(system.find_processes("gateway_worker")) == 2, "another takes its place", 20)
        assert ask_moody(system).status == 200
        time.sleep(0.5)
    late = traffic.since(begun_s)
    assert late[-1].status == 200
    # One connection at a time: it breaks once when its process is ended, if it was at that one.
    assert sum(answer.status == 0 for answer in late) <= 1
    assert {answer.status for answer in late} <= {0, 200, 504}
    answered = {answer.id for answer in traffic.answers if answer.status == 200}
    system.stop()
    workspace = Workspace(system.project, system.home)
    workspace.predictions.seal()
    assert answered <= set(workspace.predictions.scan("parcel").collect()["id"])


def flip_a_byte(workspace: Workspace, ref: str) -> None:
    """Change one bit of a version's model."""
    folder = workspace.home / "packages" / workspace.registry.get(ref).package_digest
    [file] = sorted((folder / "model").iterdir())[:1]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o600)
    file.write_bytes(data)


def test_a_package_with_a_changed_byte_is_refused_by_its_digest(system: System) -> None:
    system.stop()
    add_arrivals(system.project, [(number, number % 6, number % 2) for number in range(590, 600)])
    system.run("run", "training")
    workspace = Workspace(system.project, system.home)
    flip_a_byte(workspace, "lateness/2")
    system.up()
    [told] = wait_for(lambda: system.events("serving.version.unloadable"), "the gateway tells", 30)
    assert told["data"]["version"] == "lateness/2"
    assert "was changed" in told["data"]["reason"]
    answers = [system.predict(make_request(number)) for number in range(20)]
    assert {(answer.status, answer.body["model_version"]) for answer in answers} == {(200, "lateness/1")}
    system.stop()
    flip_a_byte(workspace, "lateness/1")
    system.launch()
    refused: Any = wait_for(lambda: _try(system), "the gateway answers", 30)
    assert (refused.status, "was changed" in refused.body["detail"]) == (502, True), refused
    assert ask_moody(system).status == 200


def _try(system: System) -> Reply | None:
    try:
        return system.predict(REQUEST)
    except OSError:
        return None
