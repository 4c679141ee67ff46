"""A canary shares out shops, not requests: what is compared are shops, however often each of them asks."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flyball.core.clock import SimulatedClock
from flyball.domain.serving.routing import place
from flyball.workspace.workspace import Workspace
from tests.stories.tiny import make_request, write_tiny

ENDPOINT = 'parcel = fb.Endpoint(model="lateness", gates=[fb.metric("auc") >= 0.3], rollout=[fb.canary(0.5, "1h")])'
REQUESTS = 400


def open_canary(folder: Path, strength: float, endpoint: str = ENDPOINT) -> tuple[Workspace, SimulatedClock]:
    """Return a project in which a second version, trained otherwise, has half of the shops."""
    clock = SimulatedClock(datetime.now(UTC) - timedelta(days=3))
    project = write_tiny(folder / "tiny", endpoint=endpoint)
    entropy = random.Random(3).randbytes
    workspace = Workspace(project, project / ".flyball", clock=clock, entropy=entropy, is_durable=False)
    for value in (1.0, strength):
        assert not workspace.run("training", {"train.strength": value}, is_inline=True).error
        workspace.loop.tick()
    assert workspace.rollouts.find_running("parcel") is not None
    return workspace, clock


def serve(workspace: Workspace, clock: SimulatedClock, *, shops: int) -> dict[str, Any]:
    """Answer requests of so many shops, half of them the canary's; return how the spread of predictions was judged at
    the stage's end."""
    rollout = workspace.rollouts.find_running("parcel")
    assert rollout is not None
    sides: dict[bool, list[int]] = {True: [], False: []}
    shop = 1_000
    while min(map(len, sides.values())) < shops // 2:
        sides[place(rollout.id, [shop]) < 0.5].append(shop)
        shop += 1
    asking = [*sides[True][: shops // 2], *sides[False][: shops // 2]]
    dice = random.Random(4)
    requests = [
        make_request(number) | {"shop_id": asking[number % shops], "weight_kg": dice.uniform(0, 20)}
        for number in range(REQUESTS)
    ]
    variants = {answer.variant for answer in workspace.data_plane.predict("parcel", requests)}
    assert variants == {"live", "canary"}
    workspace.predictions.log.rotate()
    clock.advance_to(clock.now() + timedelta(minutes=61))
    workspace.loop.tick()
    ends = ["serving.rollout.promoted", "serving.rollout.rolled-back"]
    comparisons = workspace.journal.list_events(kinds=ends)[-1].data["evidence"]["comparisons"]
    [found] = [found for found in comparisons if found["what"] == "distribution"]
    return found


def live(workspace: Workspace) -> str:
    champion = workspace.registry.champion("lateness")
    assert champion is not None
    return champion.ref


def test_a_few_shops_say_nothing_of_how_predictions_are_spread(tmp_path: Path) -> None:
    workspace, clock = open_canary(tmp_path, 0.9)
    found = serve(workspace, clock, shops=6)
    assert found["state"] == "not-enough-data"
    assert live(workspace) == "lateness/2"


def test_many_shops_give_away_a_version_that_answers_all_alike(tmp_path: Path) -> None:
    workspace, clock = open_canary(tmp_path, 1e-9)
    found = serve(workspace, clock, shops=REQUESTS)
    assert found["state"] == "worse", found["message"]
    assert live(workspace) == "lateness/1"


def test_predictions_are_read_again_only_when_there_are_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, clock = open_canary(tmp_path, 0.9)
    read = workspace.predictions.sample_figures
    readings: list[str] = []

    def note(*arguments: Any, **options: Any) -> Any:
        readings.append(options["variant"])
        return read(*arguments, **options)

    monkeypatch.setattr(workspace.predictions, "sample_figures", note)
    found = []
    for _ in range(2):
        workspace.data_plane.predict("parcel", [make_request(number) for number in range(30)])
        workspace.predictions.log.rotate()
        for _ in range(3):
            clock.advance(timedelta(seconds=1))
            workspace.loop.tick()
        found.append(len(readings))
    assert found == [2, 4]
    assert workspace.rollouts.find_running("parcel") is not None
