"""A small project's past, lived through under two policies; and a home that a replay has left, taken up live."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest

from flyball.domain.loop.reports import ReplayReport
from flyball.workspace.replays import DECLARED, ReplayPlan, replay_policies
from tests.stories.system import System
from tests.stories.tiny import REQUEST, write_tiny

pytestmark = pytest.mark.slow
ENDPOINT = """
parcel = fb.Endpoint(
    model="lateness",
    gates=[fb.metric("auc") >= 0.4],
    rollout=[fb.shadow("6h"), fb.canary(0.5, "6h")],
    monitors=[
        fb.drift(window="7d", min_rows=20),
        fb.performance("auc", labels=arrivals["late"], at_least=0.4, window="7d", min_labels=20),
    ],
    retrain=training,
    retrain_on=[fb.every("10d")],
)
"""


class Nobody:
    """Hears how a replay goes and says nothing."""

    def began(self, policies: Sequence[str]) -> None: ...

    def moved(self, policy: str, share: float, now: datetime) -> None: ...


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny", endpoint=ENDPOINT)


def test_two_policies_are_compared_and_the_second_time_alike(project: Path, tmp_path: Path) -> None:
    system = System(project)
    page = tmp_path / "report.html"
    arguments = ["replay", "--policy", "never", "--policy", "every 10d"]
    report = json.loads(system.run(*arguments, "--report", str(page), "--json"))
    never, often = report["policies"]
    assert (never["name"], often["name"]) == ("never", "every 10d")
    assert never["retrainings"] == 0
    assert 3 <= often["retrainings"] <= 5
    assert often["promotions"] > 1
    assert never["predictions"] == often["predictions"] > 300
    assert never["labels"] > 300
    assert never["mean_performance"] > 0.5
    assert "<html" in page.read_text()
    assert not (system.home / "flyball.db").exists(), "a replay touches nothing that is live"
    again = json.loads(system.run(*arguments, "--json"))
    for policy in (*report["policies"], *again["policies"]):
        policy.pop("training_s")
    assert again == report


def test_a_home_that_a_replay_has_left_goes_on_live(project: Path) -> None:
    system = System(project)
    plan = ReplayPlan(project=project, home=system.home, policies=(DECLARED,), into_home=True)
    report = replay_policies(plan, Nobody())
    assert isinstance(report, ReplayReport)
    [life] = report.policies
    assert life.promotions > 1
    assert system.ask("audit", "verify")["broken_at"] is None
    then = system.ask("status")["endpoints"][0]
    assert then["predictions"] >= life.predictions  # shadows are in the log, too
    system.up()
    try:
        assert system.live() == then["live"]
        answer = system.predict(REQUEST).body
        assert answer["model_version"] == then["live"]
        trace = system.ask("trace", answer["prediction_id"])
        assert trace["cause"], "the live version was made by a retraining of the replay"
        rolled = system.ask("rollback", "parcel")
        assert rolled["was_live"] == then["live"]
        assert rolled["now_live"] != then["live"]
    finally:
        system.stop()
    assert system.ask("audit", "verify")["broken_at"] is None
