"""`flyball up` decides between two versions by labels, though its processes are killed on the way."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.stories.system import System, wait_for
from tests.stories.tiny import add_arrivals, make_request, write_tiny

pytestmark = pytest.mark.slow
ENDPOINT = """
parcel = fb.Endpoint(
    model="lateness",
    gates=[fb.metric("auc") >= 0.3],
    rollout=[
        fb.ab_test("label", better="lower", min_effect=0.2, at_least="1s", min_labels=50, by=["parcel_id"]),
    ],
    monitors=[fb.performance("accuracy", labels=arrivals["late"], at_least=0.01)],
)
"""
REQUESTS = 400


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    made = System(write_tiny(tmp_path / "tiny", endpoint=ENDPOINT, settings="tick_seconds = 0.2\n"))
    yield made
    made.stop()


def kill_all(system: System) -> None:
    """End every process of `flyball up` at once, as a power cut does."""
    assert system.process is not None
    family = [*psutil.Process(system.process.pid).children(recursive=True), psutil.Process(system.process.pid)]
    for process in family:
        os.kill(process.pid, signal.SIGKILL)
    system.process.wait(20)
    psutil.wait_procs(family, 20)


def test_an_ab_test_goes_on_where_it_was_and_ends_with_a_verdict(system: System) -> None:
    system.run("run", "training")
    system.up()
    assert system.live() == "lateness/1"
    system.run("run", "training", "--param", "train.strength=0.5")
    wait_for(lambda: system.events("serving.rollout.started")[1:], f"the test begins\n{system.told()}", 60)
    answers = wait_for(lambda: ask_all(system), "both versions answer", 60)
    shares = sum(answer["variant"] == "canary" for answer in answers) / REQUESTS
    assert 0.4 < shares < 0.6
    kill_all(system)
    again = System(system.project)
    try:
        again.up()
        assert "A/B test 50%: lateness/2 against lateness/1" in again.run("trial")
        repeated = {answer["parcel_id"]: answer["variant"] for answer in ask_all(again)}
        assert repeated == {answer["parcel_id"]: answer["variant"] for answer in answers}, "who had a version keeps it"
        # Parcels of the new version come in time.
        add_arrivals(
            system.project,
            [
                (number, make_request(number - 900_000)["shop_id"], int(variant == "live" or number % 4 == 0))
                for number, variant in repeated.items()
            ],
        )
        wait_for(lambda: again.live() == "lateness/2", f"the better version is live\n{again.told()}", 90)
        [decided] = again.events("loop.trial.decided")
        assert decided["data"]["decision"] == "better"
        assert decided["data"]["result"]["p_value"] < 0.05
        assert decided["data"]["result"]["effect"] == pytest.approx(0.75, abs=0.1)
        assert again.run("audit", "verify")
    finally:
        again.stop()


def ask_all(system: System) -> list[dict[str, Any]]:
    """Return who answered each request; nothing before both versions answer."""
    found = []
    for number in range(REQUESTS):
        reply = system.predict(make_request(number))
        assert reply.status == 200, reply.body
        found.append({"parcel_id": 900_000 + number, "variant": reply.body["variant"]})
        if number == 30 and len({answer["variant"] for answer in found}) < 2:
            return []
    return found
