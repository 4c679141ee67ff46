"""A small project whose model says why, and is watched for leaning on other features than in training."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from flyball.core.clock import SimulatedClock
from flyball.workspace.workspace import Workspace
from tests.stories.tiny import make_request, write_tiny

ENDPOINT = """
parcel = fb.Endpoint(
    model="lateness",
    gates=[fb.metric("auc") >= 0.4],
    monitors=[fb.attribution_drift(min_rows=50, window="3h")],
)
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = write_tiny(tmp_path_factory.mktemp("tiny"), endpoint=ENDPOINT)
    made = Workspace(folder, folder / ".flyball", clock=SimulatedClock(datetime.now(UTC)), is_durable=False)
    assert not made.run("training", is_inline=True).error
    made.loop.tick()
    yield made
    made.db.close()


def serve(workspace: Workspace, weight: float, rows: int = 100) -> None:
    workspace.predict("parcel", [make_request(n) | {"weight_kg": weight + n / 10 % 9} for n in range(rows)])
    workspace.predictions.log.rotate()
    clock = workspace.clock
    assert isinstance(clock, SimulatedClock)
    clock.advance_to(clock.now() + timedelta(minutes=61))
    workspace.loop.tick()


def test_an_answer_says_what_each_feature_added(workspace: Workspace) -> None:
    [answer] = workspace.data_plane.predict("parcel", [make_request(1)], explain=True)
    found = answer.explanation
    assert found is not None
    assert (found.method, found.scale) == ("exact linear", "log-odds")
    assert set(found.attributions) == {"weight_kg", "rush", "late_share", "heavy_rush"}
    assert found.attributions["rush"] < 0, "a parcel in a hurry is late less often"


def test_the_package_profiles_what_features_added_in_training(workspace: Workspace) -> None:
    profile = workspace.registry.open("lateness/1").profile.attributions
    assert profile is not None
    assert profile.columns["weight_kg"].n > 300


def test_parcels_heavier_than_ever_add_otherwise_to_predictions(workspace: Workspace) -> None:
    serve(workspace, 2.0)
    assert workspace.monitoring.series("parcel")[-1].state != "not-enough-data"
    for _ in range(3):
        serve(workspace, 40.0)
    found = workspace.monitoring.series("parcel")[-1]
    assert (found.state, found.monitor) == ("firing", "attribution_drift")
    assert "attribution of weight_kg" in found.message or "attribution of heavy_rush" in found.message
    [alert] = workspace.monitoring.alerts("parcel")
    assert alert.kind == "attribution_drift"
