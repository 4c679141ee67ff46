"""A promotion is judged again when labels come: what a canary answered turns out only later."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from flyball.domain.predictions.labels import GivenLabel
from flyball.domain.serving.answers import Answer
from flyball.workspace.workspace import Workspace
from tests.stories.test_canaries import live, open_canary
from tests.stories.tiny import make_lone_request

ENDPOINT = """
parcel = fb.Endpoint(
    model="lateness",
    gates=[fb.metric("auc") >= 0.3],
    rollout=[fb.canary(0.5, "1h")],
    monitors=[fb.performance("accuracy", labels=arrivals["late"], at_least=0.1)],
)
"""
REVIEWED = "loop.promotion.reviewed"
Tell = Callable[[Sequence[Answer], Callable[[Answer], bool]], None]


@pytest.fixture
def answers_and_tell(tmp_path: Path) -> tuple[Workspace, Sequence[Answer], Tell]:
    """A version that was promoted without a label, what was answered until then, and how to tell what was right."""
    workspace, clock = open_canary(tmp_path, 0.9, ENDPOINT)
    requests = [make_lone_request(number) for number in range(400)]
    answers = workspace.data_plane.predict("parcel", requests)
    workspace.predictions.log.rotate()
    clock.advance_to(clock.now() + timedelta(minutes=61))
    workspace.loop.tick()
    assert live(workspace) == "lateness/2"

    def tell(answered: Sequence[Answer], is_right: Callable[[Answer], bool]) -> None:
        labels = [
            GivenLabel(prediction_id=found.prediction_id, value=(found.prediction >= 0.5) == is_right(found))
            for found in answered
        ]
        workspace.predictions.add_labels(labels)
        clock.advance_to(clock.now() + timedelta(minutes=5))
        workspace.loop.tick()

    return workspace, answers, tell


def test_what_did_worse_on_the_traffic_of_its_rollout_is_taken_back(
    answers_and_tell: tuple[Workspace, Sequence[Answer], Tell],
) -> None:
    workspace, answers, tell = answers_and_tell
    tell(answers[:6], lambda found: found.variant == "live")
    assert live(workspace) == "lateness/2", "six labels say little"
    tell(answers[6:], lambda found: found.variant == "live")
    assert live(workspace) == "lateness/1"
    [event] = workspace.journal.list_events(kinds=[REVIEWED])
    assert (event.data["verdict"], event.data["candidate"]) == ("worse", "lateness/2")
    [back] = workspace.journal.list_events(kinds=["loop.endpoint.rolled-back"])
    assert back.data["reason"].startswith("on the traffic of its rollout, accuracy is 0"), back.data["reason"]


def test_what_did_well_is_reviewed_once(answers_and_tell: tuple[Workspace, Sequence[Answer], Tell]) -> None:
    workspace, answers, tell = answers_and_tell
    tell(answers[:200], lambda found: True)
    assert not workspace.journal.list_events(kinds=[REVIEWED]), "half of the labels are still to come"
    tell(answers[200:], lambda found: True)
    tell(answers, lambda found: found.variant == "live")
    assert live(workspace) == "lateness/2"
    [event] = workspace.journal.list_events(kinds=[REVIEWED])
    assert event.data["verdict"] == "ok"
