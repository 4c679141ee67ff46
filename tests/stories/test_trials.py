"""A small project whose labels decide which version goes live: by an A/B test, and by a bandit."""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flyball.core.clock import SimulatedClock
from flyball.domain.predictions.labels import GivenLabel
from flyball.domain.serving.answers import Answer
from flyball.domain.serving.rollouts import RolloutStatus
from flyball.workspace.workspace import Workspace
from tests.stories.system import System
from tests.stories.tiny import make_lone_request, write_tiny

ENDPOINT = """
parcel = fb.Endpoint(model="lateness", gates=[fb.metric("auc") >= 0.3], rollout=[STAGE])
"""


class Life:
    """A project in this process, which may be ended and begun anew at any moment."""

    def __init__(self, folder: Path, stage: str) -> None:
        self.folder = write_tiny(folder, endpoint=ENDPOINT.replace("STAGE", stage))
        self.now = datetime.now(UTC) - timedelta(days=3)
        self.sent = 0
        self.dice = random.Random(1)
        self.begun = 0
        self.begin_anew()
        for strength in (1.0, 0.5):
            assert not self.workspace.run("training", {"train.strength": strength}, is_inline=True).error
            self.workspace.loop.tick()

    def begin_anew(self) -> None:
        self.clock = SimulatedClock(self.now)
        self.begun += 1
        entropy = random.Random(self.begun).randbytes
        home = self.folder / ".flyball"
        self.workspace = Workspace(self.folder, home, clock=self.clock, entropy=entropy, is_durable=False)

    def pass_by(self, duration: timedelta) -> None:
        self.now += duration
        self.clock.advance_to(self.now)
        self.workspace.loop.tick()

    def serve(self, rows: int, turn_out: Callable[[Answer], int]) -> list[Answer]:
        """Answer requests, and learn at once how each turned out."""
        requests = [make_lone_request(self.sent + number) for number in range(rows)]
        self.sent += rows
        answers = self.workspace.data_plane.predict("parcel", requests)
        self.workspace.predictions.log.rotate()
        self.pass_by(timedelta(minutes=1))
        labels = [GivenLabel(prediction_id=found.prediction_id, value=turn_out(found)) for found in answers]
        assert self.workspace.predictions.add_labels(labels).added == rows
        self.pass_by(timedelta(minutes=30))
        return answers

    def chance(self, live: float, canary: float) -> Callable[[Answer], int]:
        """Labels of 1, more often for one variant than for the other."""
        return lambda answer: int(self.dice.random() < (canary if answer.variant == "canary" else live))

    @property
    def champion(self) -> str:
        found = self.workspace.registry.champion("lateness")
        assert found is not None
        return found.ref


def test_an_ab_test_finds_the_better_version_and_takes_it_live_over_restarts(tmp_path: Path) -> None:
    life = Life(
        tmp_path,
        'fb.ab_test("label", better="higher", min_effect=0.1, at_least="1h", min_labels=50, by=["parcel_id"])',
    )
    rounds = 0
    while life.champion == "lateness/1" and rounds < 12:
        answers = life.serve(150, life.chance(0.4, 0.75))
        rounds += 1
        look = life.workspace.deployer.look("parcel")
        if look is not None:
            assert look.result.live.rows + look.result.new.rows == 150 * rounds
        life.begin_anew()
    assert life.champion == "lateness/2", "the better version is live"
    assert 2 <= rounds < 12
    assert {answer.variant for answer in answers} == {"live", "canary"}
    [event] = life.workspace.journal.list_events(kinds=["loop.trial.decided"])
    assert event.data["decision"] == "better"
    assert event.data["result"]["p_value"] < 0.05
    [promoted] = life.workspace.journal.list_events(kinds=["serving.rollout.promoted"])[1:]
    assert "the new version is better: label is" in promoted.data["reason"]
    assert promoted.data["evidence"]["trial"]["result"]["effect"] > 0.2


def test_an_ab_test_takes_the_worse_version_back(tmp_path: Path) -> None:
    life = Life(tmp_path, 'fb.ab_test("label", better="higher", min_effect=0.1, at_least="1h", by=["parcel_id"])')
    for _ in range(8):
        life.serve(150, life.chance(0.75, 0.4))
    assert life.champion == "lateness/1"
    [event] = life.workspace.journal.list_events(kinds=["loop.trial.decided"])
    assert event.data["decision"] == "worse"
    assert life.workspace.rollouts.list_rollouts("parcel")[-1].status is RolloutStatus.ROLLED_BACK


def test_an_ab_test_without_labels_ends_when_its_time_is_over_and_keeps_what_is_live(tmp_path: Path) -> None:
    life = Life(tmp_path, 'fb.ab_test("label", better="higher", min_effect=0.1, at_least="1h", at_most="2d")')
    life.pass_by(timedelta(days=1))
    assert life.workspace.rollouts.find_running("parcel") is not None
    life.pass_by(timedelta(days=1))
    assert life.champion == "lateness/1"
    [event] = life.workspace.journal.list_events(kinds=["loop.trial.decided"])
    assert event.data["decision"] == "undecided"


def test_a_bandit_gives_the_better_version_more_traffic_and_at_last_all(tmp_path: Path) -> None:
    life = Life(
        tmp_path,
        'fb.bandit("label", better="higher", min_share=0.2, max_share=0.6, every="10m", at_least="3h", sure=0.999, '
        'by=["parcel_id"])',
    )
    shares = []
    while life.champion == "lateness/1" and len(shares) < 25:
        answers = life.serve(150, life.chance(0.5, 0.7))
        shares.append(sum(answer.variant == "canary" for answer in answers) / 150)
        life.begin_anew()
    assert life.champion == "lateness/2"
    assert shares[0] < 0.32
    assert max(shares) > 0.45
    assert max(shares) < 0.72, "the declared share is the most, but for chance"
    drawn = life.workspace.journal.list_events(kinds=["serving.rollout.share-drawn"])
    assert drawn
    assert all(0.2 <= event.data["share"] <= 0.6 for event in drawn)


def test_a_canary_whose_metric_gets_worse_is_taken_back(tmp_path: Path) -> None:
    life = Life(tmp_path, 'fb.canary(0.5, "3d", metric="accuracy", metric_by=0.05)')

    def turn_out(answer: Answer) -> int:
        likely = int(answer.prediction >= 0.5)
        return likely if life.dice.random() < (0.5 if answer.variant == "canary" else 0.9) else 1 - likely

    for _ in range(8):
        life.serve(300, turn_out)
    assert life.champion == "lateness/1"
    [event] = life.workspace.journal.list_events(kinds=["serving.rollout.rolled-back"])
    assert event.data["reason"].startswith("accuracy is 0."), event.data["reason"]


@pytest.mark.slow
def test_the_command_tells_how_a_trial_stands(tmp_path: Path) -> None:
    life = Life(tmp_path, 'fb.ab_test("label", better="higher", min_effect=0.1, min_labels=50, by=["parcel_id"])')
    life.serve(150, life.chance(0.4, 0.75))
    told = System(life.folder).run("trial", "parcel")
    assert "A/B test 50%: lateness/2 against lateness/1" in told
    assert "valid at every look" in told
    found = json.loads(System(life.folder).run("trial", "--json"))
    assert found["candidate"] == "lateness/2"


@pytest.mark.slow
def test_asking_for_a_trial_where_none_is_says_what_to_do(tmp_path: Path) -> None:
    life = Life(tmp_path, 'fb.canary(0.5, "1h", metric="accuracy", metric_by=0.05)')
    with pytest.raises(AssertionError, match="no trial is under way"):
        System(life.folder).run("trial")


def test_a_metric_that_does_not_fit_the_model_is_told_when_the_project_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="trial metric"):
        Life(tmp_path, 'fb.ab_test("auc", min_effect=0.1)')
