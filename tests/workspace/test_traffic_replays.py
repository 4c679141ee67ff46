"""Requests that really came are replayed: live proves itself first, then the candidate is compared."""

import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from flyball.cli.traffic_pictures import draw_traffic
from flyball.core.errors import NotFoundError
from flyball.workspace.traffic_replays import NoTrafficError, TrafficPlan, read_answered, replay_traffic
from flyball.workspace.traffic_report import write_traffic_report
from flyball.workspace.workspace import Workspace
from tests.stories.tiny import make_request, replace_endpoint, write_tiny

REQUESTS = 240


def open_workspace(project: Path) -> Workspace:
    return Workspace(project, project / ".flyball")


def train(project: Path) -> None:
    workspace = open_workspace(project)
    result = workspace.run("training", is_inline=True)
    assert not result.error, result.error
    workspace.deployer.take_up_first(workspace.endpoints)


def edit(project: Path, old: str, new: str) -> None:
    text = (project / "project.py").read_text()
    assert old in text
    (project / "project.py").write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a live version, answered requests of which half have turned out, and two more versions."""
    project = write_tiny(tmp_path_factory.mktemp("traffic") / "tiny")
    train(project)
    workspace = open_workspace(project)
    workspace.packages.bring_online("lateness/1")
    dice = random.Random(1)
    requests = [make_request(number) | {"weight_kg": round(dice.uniform(0, 20), 2)} for number in range(REQUESTS)]
    answers = workspace.predict("parcel", requests)
    for answer in answers[: REQUESTS // 2]:
        workspace.label(answer.prediction_id, int(dice.random() < answer.prediction))
    edit(project, "strength: float = 1.0", "strength: float = 0.0001")
    train(project)
    edit(project, "between(0, 50)", "between(0, 15).or_quarantine()")
    edit(project, 'period="30d"', 'period="20d"')
    train(project)
    return project


@pytest.fixture
def workspace(lived: Path) -> Iterator[Workspace]:
    yield open_workspace(lived)


def test_live_gives_its_own_answers_again_and_the_candidate_is_compared(workspace: Workspace, tmp_path: Path) -> None:
    result = replay_traffic(workspace, TrafficPlan(candidate="2"))
    assert (result.live, result.candidate, result.replayed) == ("lateness/1", "lateness/2", REQUESTS)
    assert (result.reproduction.same, result.reproduction.largest_difference) == (REQUESTS, 0.0)
    found = result.comparison
    assert found is not None
    assert (found.rows, found.refused, found.looked_back) == (REQUESTS, 0, {})
    assert 0 < found.flips < REQUESTS
    assert found.metric is not None
    assert (found.metric.name, found.metric.labels) == ("auc", REQUESTS // 2)
    assert found.latency is not None and found.latency.candidate_p99_ms >= found.latency.candidate_p50_ms > 0
    assert all(one.flips > found.flip_share for one in found.slices)
    assert f"gave all {REQUESTS} of its logged answers alike" in result.verdict
    told = draw_traffic(result)
    assert result.verdict in told and "weight_kg" in told
    write_traffic_report(tmp_path / "report.html", result)
    page = (tmp_path / "report.html").read_text()
    assert "lateness/2 before real traffic" in page
    assert "http" not in page and "@@" not in page


def test_the_live_version_as_its_own_candidate_differs_nowhere(workspace: Workspace) -> None:
    found = replay_traffic(workspace, TrafficPlan(candidate="lateness/1")).comparison
    assert found is not None
    assert (found.flips, found.largest_change, found.slices) == (0, 0.0, ())
    assert found.metric is not None and found.metric.gain == 0


def test_another_view_is_taken_from_its_history_and_refusals_are_counted(workspace: Workspace) -> None:
    result = replay_traffic(workspace, TrafficPlan(candidate="3"))
    found = result.comparison
    assert found is not None
    heavy = sum(
        msgspec.json.decode(text)["weight_kg"] > 15
        for text in read_answered(workspace, "parcel", result.since, result.until)["request"]
    )
    assert (found.refused, found.reasons) == (heavy, {"weight_kg: between": heavy})
    assert found.looked_back == {"shop_record": REQUESTS - heavy}
    assert f"would refuse {heavy} requests" in result.verdict


def test_a_log_that_says_otherwise_stops_the_replay_and_says_why(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = read_answered

    def read_other(*arguments: Any, **options: Any) -> pl.DataFrame:
        rows = read(*arguments, **options)
        if "prediction" not in rows.columns:  # who answered, of all
            return rows
        is_first = pl.int_range(pl.len()) < 3
        return rows.with_columns(
            prediction=pl.when(is_first).then(pl.col("prediction") + 0.1).otherwise("prediction"),
        )

    monkeypatch.setattr("flyball.workspace.traffic_replays.read_answered", read_other)
    result = replay_traffic(workspace, TrafficPlan(candidate="2"))
    assert result.comparison is None
    assert (result.reproduction.same, len(result.reproduction.examples)) == (REQUESTS - 3, 3)
    assert "for 3 requests the model itself says something else to the same inputs" in result.verdict
    assert result.verdict.endswith("So nothing can be said of lateness/2.")
    assert result.reproduction.examples[0] in draw_traffic(result)


def test_of_much_traffic_only_what_is_replayed_is_read_whole(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = read_answered
    whole: list[int] = []

    def note(*arguments: Any, **options: Any) -> pl.DataFrame:
        rows = read(*arguments, **options)
        whole.extend([rows.height] if "request" in rows.columns else [])
        return rows

    monkeypatch.setattr("flyball.workspace.traffic_replays.read_answered", note)
    result = replay_traffic(workspace, TrafficPlan(candidate="2", most_rows=7))
    assert (result.requests, result.replayed) == (REQUESTS, 7)
    assert whole == [7]


def test_unknown_versions_and_times_without_traffic_are_told(workspace: Workspace) -> None:
    with pytest.raises(NotFoundError, match="no version 9"):
        replay_traffic(workspace, TrafficPlan(candidate="9"))
    with pytest.raises(NoTrafficError, match="answered nothing since"):
        replay_traffic(workspace, TrafficPlan(candidate="2", last=timedelta(microseconds=1)))


GRAPH = """
@fb.pipeline
def training_simple():
    data = fb.training_set(parcels, label=arrivals["late"], features=[haste])
    fit, held_out = fb.split(data, test="last 25%")
    model = train(fit)
    return fb.candidate("lateness-simple", model, metrics=evaluate(model, held_out), data=fit)


simple = fb.Endpoint(model="lateness-simple", gates=[fb.metric("auc") >= 0.3])
parcel = fb.Endpoint(
    model="lateness",
    gates=[fb.metric("auc") >= 0.3],
    graph=fb.route("rush", {0: fb.ensemble("lateness", "lateness-simple"), 1: fb.fallback("lateness", to=0.5)}),
)
"""


def test_what_others_of_a_graph_answered_and_what_is_masked_is_said(tmp_path: Path) -> None:
    project = write_tiny(tmp_path / "tiny", endpoint=GRAPH)
    workspace = open_workspace(project)
    for pipeline in ("training", "training_simple"):
        assert not workspace.run(pipeline, is_inline=True).error
    workspace.loop.tick()
    workspace.data_plane.predict("parcel", [make_request(number) for number in range(40)], explain=True)
    result = replay_traffic(workspace, TrafficPlan(endpoint="parcel", candidate="1"))
    assert (result.requests, result.left_out) == (20, {"several models together": 20})
    assert result.reproduction.is_proven and result.comparison is not None
    assert "left out: 20 answered by several models together" in draw_traffic(result)
    write_traffic_report(tmp_path / "report.html", result)
    assert "left out: 20 answered by several models" in (tmp_path / "report.html").read_text()

    replace_endpoint(project, GRAPH.replace("graph=", 'sensitive={"weight_kg": "hash"},\n    graph='))
    workspace = open_workspace(project)
    calm = [make_request(number) for number in range(0, 40, 2)]
    since = workspace.clock.now()
    workspace.predict("parcel", calm)
    soon = TrafficPlan(endpoint="parcel", candidate="1", last=workspace.clock.now() - since)
    with pytest.raises(NoTrafficError, match="by its own model alone, but 20 by several models together"):
        replay_traffic(workspace, soon)
    workspace.predict("parcel", [make_request(number) for number in range(1, 40, 2)])
    hidden = replay_traffic(
        workspace, TrafficPlan(endpoint="parcel", candidate="1", last=workspace.clock.now() - since)
    )
    assert hidden.comparison is None
    assert "needs weight_kg, which the log holds only masked, since the project calls it sensitive" in hidden.verdict
