"""`flyball up` decides three rollouts at a time by labels, though its processes are killed on the way.

An A/B test and a bandit find the better version and take it live; a guarded canary takes a worse one back.
"""

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flyball.domain.serving.rollouts import Rollout, RolloutStatus
from flyball.domain.serving.routing import place
from flyball.workspace.workspace import Workspace
from tests.stories.system import System, send, wait_for
from tests.stories.tiny import make_lone_request, write_tiny
from tests.stories.traffic import Answered, Traffic

pytestmark = pytest.mark.slow
PROJECT = """
@fb.pipeline
def training_moved():
    data = fb.training_set(parcels, label=arrivals["late"], features=[shop_record, haste])
    model = train(data)
    return fb.candidate("moved", model, metrics=evaluate(model, data), data=data)


@fb.pipeline
def training_guarded():
    data = fb.training_set(parcels, label=arrivals["late"], features=[shop_record, haste])
    model = train(data)
    return fb.candidate("guarded", model, metrics=evaluate(model, data), data=data)


parcel = fb.Endpoint(
    model="lateness",
    rollout=[fb.ab_test("label", better="higher", min_effect=0.2, at_least="12s", min_labels=40, by=["parcel_id"])],
)
moved = fb.Endpoint(
    model="moved",
    rollout=[
        fb.bandit("label", better="higher", min_share=0.2, max_share=0.6, every="1s", at_least="20s", min_labels=20,
                  by=["parcel_id"]),
    ],
)
guarded = fb.Endpoint(model="guarded", rollout=[fb.canary(0.3, "5m", metric="accuracy", metric_by=0.1)])
"""
PIPELINES = {"parcel": "training", "moved": "training_moved", "guarded": "training_guarded"}
MODELS = {"parcel": "lateness", "moved": "moved", "guarded": "guarded"}
KILLED = ("gateway_worker", "control", "loop", "gateway_worker", "gateway", "control", "supervisor", "gateway_worker")
PARCELS = 300


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    settings = "tick_seconds = 0.2\ngateway_processes = 2\n"
    made = System(write_tiny(tmp_path / "tiny", endpoint=PROJECT, settings=settings))
    yield made
    made.stop()


class Users:
    """Keep asking all endpoints, and tell how it turned out: well for who was answered by the A/B test's or bandit's
    new version, and otherwise than predicted for who was answered by the canary. The bandit's versions do equally well
    until `differ`, so that it cannot end before its traffic has moved."""

    def __init__(self, system: System) -> None:
        self.traffic = {
            endpoint: Traffic(system.port + 1, self._request, pause_s=0.025, endpoint=endpoint)
            for endpoint in PIPELINES
        }
        self.labelled: dict[str, int] = {}
        self.differ = threading.Event()
        self._turns = {True: 0, False: 0}
        self._system = system
        self._dice = random.Random(1)
        self._is_over = threading.Event()

    @staticmethod
    def _request(number: int) -> dict[str, Any]:
        return make_lone_request(number % PARCELS)

    @contextmanager
    def coming(self) -> Iterator["Users"]:
        labelling = [threading.Thread(target=self._label, args=[endpoint], daemon=True) for endpoint in PIPELINES]
        with ExitStack() as stack:
            for traffic in self.traffic.values():
                stack.enter_context(traffic.flowing())
            for thread in labelling:
                thread.start()
            try:
                yield self
            finally:
                self._is_over.set()
                for thread in labelling:
                    thread.join(30)

    def answered(self, endpoint: str) -> list[Answered]:
        return [answer for answer in list(self.traffic[endpoint].answers) if answer.status == 200]

    def _label(self, endpoint: str) -> None:
        done = 0
        while not self._is_over.wait(0.05):
            for answer in self.answered(endpoint)[done:]:
                is_new = answer.variant == "canary"
                likely = int((answer.prediction or 0) >= 0.5)
                fits = self._dice.random() < (0.1 if is_new else 0.9)
                lucky = self._dice.random() < (0.8 if is_new else 0.4)
                value = int(likely == fits) if endpoint == "guarded" else int(lucky)
                if endpoint == "moved" and not self.differ.is_set():
                    self._turns[is_new] += 1
                    value = self._turns[is_new] % 2
                if not self._tell(answer.id, value):
                    break
                done += 1

    def _tell(self, prediction: str, value: int) -> bool:
        with suppress(OSError, ValueError):
            body = {"prediction_id": prediction, "value": value}
            if send(self._system.port, "POST", "/labels", body, timeout_s=5).status == 201:
                self.labelled[prediction] = value
                return True
        return False


def test_an_ab_test_a_bandit_and_a_canary_end_as_labels_say_whatever_is_killed(system: System) -> None:
    workspace = Workspace(system.project, system.home)
    for pipeline in PIPELINES.values():
        assert not workspace.run(pipeline, is_inline=True).error
    workspace.loop.tick()
    system.up()
    for pipeline in PIPELINES.values():
        assert not workspace.run(pipeline, {"train.strength": 0.5}, is_inline=True).error
    with Users(system).coming() as users:
        wait_for(
            lambda: all("canary" in {found.variant for found in users.answered(name)} for name in PIPELINES),
            f"all rollouts have begun\n{system.told()}",
            60,
        )
        dice = random.Random(20_261_121)
        for target in KILLED:
            time.sleep(dice.uniform(0.2, 1.5))
            assert system.kill(target) == target
        wait_for(
            lambda: list_rollouts(workspace, "moved")[-1].drawn_share not in (None, 0.2),
            f"the bandit moves traffic\n{list_rollouts(workspace, 'moved')}",
            90,
        )
        so_far = len(users.answered("moved"))
        wait_for(lambda: len(users.answered("moved")) > so_far + 200, "the new share is used", 60)
        users.differ.set()
        wait_for(
            lambda: all(list_rollouts(workspace, name)[-1].ended_at for name in PIPELINES),
            f"all rollouts end\n{[rollout for name in PIPELINES for rollout in list_rollouts(workspace, name)]}",
            90,
        )
    system.wait_until_ready()
    system.stop()
    workspace.predictions.seal()
    ends = {name: list_rollouts(workspace, name)[-1].status for name in PIPELINES}
    assert ends == {
        "parcel": RolloutStatus.PROMOTED,
        "moved": RolloutStatus.PROMOTED,
        "guarded": RolloutStatus.ROLLED_BACK,
    }
    for endpoint in PIPELINES:
        check_log(workspace, endpoint, users.answered(endpoint))
        check_traffic(workspace, endpoint)
    check_evidence(workspace)
    assert workspace.journal.verify().broken_at is None


def list_rollouts(workspace: Workspace, endpoint: str) -> list[Rollout]:
    return workspace.rollouts.list_rollouts(endpoint)


def check_log(workspace: Workspace, endpoint: str, answered: list[Answered]) -> None:
    """All that was answered is in the log, once, as it was answered."""
    assert len(answered) > 300
    logged = workspace.predictions.scan(endpoint).select("id", "version", "variant").collect()
    assert logged["id"].n_unique() == logged.height
    known = {row["id"]: (row["version"], row["variant"]) for row in logged.iter_rows(named=True)}
    assert {answer.id: (answer.version, answer.variant) for answer in answered}.items() <= known.items()


def check_traffic(workspace: Workspace, endpoint: str) -> None:
    """No parcel got the new version that lies outside its share, and none inside it was kept from it."""
    rollout = list_rollouts(workspace, endpoint)[-1]
    rows = workspace.predictions.scan(endpoint).filter(pl.col("rollout") == rollout.id).collect()
    shares, canaries = set(), 0
    for row in rows.iter_rows(named=True):
        is_new = row["variant"] == "canary"
        share = round(row["propensity"] if is_new else 1 - row["propensity"], 9)
        key = "shop_id" if endpoint == "guarded" else "parcel_id"
        assert is_new == (place(rollout.id, [json.loads(row["request"])[key]]) < share), row
        shares.add(share)
        canaries += is_new
    if endpoint == "moved":
        events = workspace.journal.list_events(kinds=["serving.rollout.share-drawn"], limit=10_000)
        assert shares <= {0.2} | {round(event.data["share"], 9) for event in events}
        assert all(0.2 <= share <= 0.6 for share in shares)
        assert len(shares) > 1, "the bandit moved traffic"
    else:
        assert shares == {0.5 if endpoint == "parcel" else 0.3}
        assert abs(canaries / rows.height - next(iter(shares))) < 0.12, "parcels are spread evenly"


def check_evidence(workspace: Workspace) -> None:
    """Each rollout began once and ended once, and the journal has the figures that decided it."""
    events = workspace.journal.list_events(limit=100_000)
    told: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        if event.kind in ("loop.trial.decided", "serving.rollout.promoted", "serving.rollout.rolled-back"):
            told.setdefault(event.kind, []).append(event.data | {"subject": event.subject})
    assert sorted(found["decision"] for found in told["loop.trial.decided"]) == ["better", "better"]
    [tested] = [found["result"] for found in told["loop.trial.decided"] if found["candidate"] == "lateness/2"]
    assert tested["p_value"] < 0.05
    assert tested["effect"] == pytest.approx(0.4, abs=0.2)
    [moved] = [found["result"] for found in told["loop.trial.decided"] if found["candidate"] == "moved/2"]
    assert moved["probability"] >= 0.99
    [harm] = told["serving.rollout.rolled-back"]
    assert harm["reason"].startswith("accuracy is 0."), harm
    promoted = [found for found in told["serving.rollout.promoted"] if "trial" in (found.get("evidence") or {})]
    assert len(promoted) == 2
    champions = {model: workspace.registry.champion(model) for model in MODELS.values()}
    assert {model: found.ref for model, found in champions.items() if found} == {
        "lateness": "lateness/2",
        "moved": "moved/2",
        "guarded": "guarded/1",
    }
    for name in PIPELINES:
        assert len({rollout.candidate for rollout in list_rollouts(workspace, name)}) == len(
            list_rollouts(workspace, name)
        ), "a version was rolled out twice"
