"""Whole stories of one small project, through the commands and processes that a user has."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from tests.servers import postgresql
from tests.stories.system import System, wait_for
from tests.stories.tiny import REQUEST, make_lone_request, make_request, write_tiny
from tests.stories.traffic import Traffic

pytestmark = pytest.mark.slow
FAST = "tick_seconds = 0.2\n"
ROLLBACK_S = 10.0  # far above the figure, which is printed and measured on a quiet machine
"""From the command to the first answer by the old model (issue 2)."""


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    made = System(write_tiny(tmp_path / "tiny", settings=FAST))
    yield made
    made.stop()


def test_from_data_to_a_rollback_that_can_be_traced(system: System) -> None:
    assert "version lateness/1 is approved" in system.run("run", "training")
    system.up()
    answer = system.predict(REQUEST)
    assert (answer.status, answer.body["model_version"]) == (200, "lateness/1"), answer
    by_command = json.loads(system.run("predict", "parcel", "--json", json.dumps(make_request(2))))
    assert by_command["model_version"] == "lateness/1"
    prediction = answer.body["prediction_id"]
    system.run("label", prediction, "1")
    assert system.post("/labels", {"prediction_id": by_command["prediction_id"], "value": 0}).status == 201
    check_trace(system, prediction)
    second = take_live_by_another_parameter(system)
    roll_back_while_requests_flow(system)
    check_history(system, second)
    whole = system.ask("audit", "verify")
    assert whole["broken_at"] is None
    assert whole["events"] > 10
    assert system.process is not None
    family = psutil.Process(system.process.pid).children(recursive=True)
    assert len(family) >= 3
    system.stop()
    assert not [process for process in family if process.is_running()], "something of flyball up is left"
    assert system.run("audit", "verify").startswith("the journal is whole")


def test_the_whole_of_it_on_postgresql(tmp_path: Path) -> None:
    with postgresql() as server:
        settings = f'{FAST}database = "{server.new_database()}"\n'
        system = System(write_tiny(tmp_path / "tiny", settings=settings))
        try:
            test_from_data_to_a_rollback_that_can_be_traced(system)
            system.run("run", "training")
            assert system.ask("run", "training")["is_unchanged"]
        finally:
            system.stop()
    assert not (system.home / "flyball.db").exists()


def check_trace(system: System, prediction: str) -> None:
    """Every section that the issue names is there, in words and as JSON."""
    told = system.run("trace", prediction)
    for section in (
        f"prediction {prediction}",
        "turned out 1.0",
        "weight_kg=7.5",
        "features as served",
        "shop_record@",
        "endpoint parcel, variant live",
        "model lateness/1",
        "gate auc >= 0.55: met",
        "approved by the policy auto",
        "of training by user",
        "train.strength=1",
        "code",
        "environment",
        "data parcels: snapshot",
        "data arrivals: snapshot",
        "expectations: passed",
    ):
        assert section in told, f"{section!r} is missing:\n{told}"
    found = system.ask("trace", prediction)
    assert found["prediction"]["request"] == REQUEST
    assert found["prediction"]["views"]["shop_record"]["version"]
    assert [label["value"] for label in found["labels"]] == [1]
    assert found["version"]["metrics"]["auc"] > 0.55
    assert found["evidence"]["results"][0]["passed"]
    assert found["approvals"][0]["role"] == "auto"
    assert found["run"]["params"]["train.strength"] == 1.0
    assert found["run"]["run"]["facts"]["environment"]
    assert {kept["snapshot"]["table"] for kept in found["snapshots"]} == {"parcels", "arrivals"}
    assert all(report["results"] for kept in found["snapshots"] for report in kept["reports"])
    assert system.get(f"/predictions/{prediction}/trace").body == found


def take_live_by_another_parameter(system: System) -> datetime:
    """Train a second version and let it go live through shadow and canary, while requests flow."""
    with Traffic(system.port + 1, make_lone_request).flowing() as traffic:
        assert "version lateness/2 is" in system.run("run", "training", "--param", "train.strength=0.02")
        wait_for(lambda: system.live() == "lateness/2", "lateness/2 is live", 60)
        since = datetime.now(UTC)
        wait_for(lambda: traffic.answers[-1].version == "lateness/2", "lateness/2 answers")
    assert {answer.status for answer in traffic.answers} == {200}
    assert {answer.variant for answer in traffic.answers} == {"live", "canary"}
    stages = [event["kind"].rpartition(".")[2] for event in system.get("/events").body if "rollout" in event["kind"]]
    assert stages == ["started", "promoted", "started", "advanced", "promoted"]
    return since


def roll_back_while_requests_flow(system: System) -> None:
    with Traffic(system.port + 1, make_request, pause_s=0.01).flowing() as traffic:
        wait_for(lambda: len(traffic.answers) > 20, "requests flow")
        began_s = time.monotonic()
        assert "lateness/1 is live again instead of lateness/2" in system.run("rollback", "parcel", "--reason", "test")
        wait_for(lambda: traffic.answers[-1].version == "lateness/1", "lateness/1 answers")
    assert {answer.status for answer in traffic.answers} == {200}, "a request failed during the rollback"
    first = next(answer for answer in traffic.since(began_s) if answer.version == "lateness/1")
    print(f"rollback: {1000 * (first.at_s - began_s):.0f} ms from the command to the first answer by the old model")
    assert first.at_s - began_s < ROLLBACK_S
    after = [answer.version for answer in traffic.since(first.at_s)]
    assert set(after) == {"lateness/1"}, "answers went back and forth"


def check_history(system: System, second: datetime) -> None:
    then = system.run("history", "parcel", "--at", second.isoformat())
    assert "lateness/2" in then
    now = system.ask("history", "parcel", "--at", datetime.now(UTC).isoformat())
    assert now["live"]["number"] == 1
    assert "test" in now["reason"]
    before = system.ask("history", "parcel", "--at", (second - timedelta(days=1)).isoformat())
    assert before["live"] is None
    status = system.run("status")
    assert "lateness/1" in status
    assert "alerts" in status


def test_a_version_waits_for_the_role_that_its_endpoint_names(tmp_path: Path) -> None:
    settings = f'{FAST}[users]\nana = ["risk-officer"]\nbob = ["intern"]\n'
    endpoint = 'parcel = fb.Endpoint(model="lateness", gates=[fb.metric("auc") >= 0.55], approval="risk-officer")'
    system = System(write_tiny(tmp_path / "tiny", endpoint=endpoint, settings=settings))
    try:
        system.run("run", "training")
        system.up()
        refused = system.predict(REQUEST)
        assert refused.status == 409
        assert "no version of 'lateness' is live" in refused.body["detail"]
        assert system.get("/status").body["endpoints"][0]["awaiting_approval"] == ["lateness/1"]
        system.run("approve", "lateness/1", "--as", "bob", status=1)
        assert system.post("/versions/lateness/1/approve", {"user": "bob"}).status == 403
        assert system.predict(REQUEST).status == 409
        system.run("approve", "lateness/1", "--as", "ana")
        answer = wait_for(lambda: (found := system.predict(REQUEST)).status == 200 and found, "it goes live")
        trace = system.ask("trace", answer.body["prediction_id"])
        assert [(who["user"], who["role"]) for who in trace["approvals"]] == [("ana", "risk-officer")]
    finally:
        system.stop()
