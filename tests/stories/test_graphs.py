"""Two models behind one endpoint of a small project: they answer together, and one stands in for the other."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl
import pytest

from flyball.cli.pictures import draw_trace
from flyball.core.clock import SimulatedClock
from flyball.core.errors import InvalidInputError
from flyball.domain.serving.score_requests import OutputTakenError
from flyball.workspace.scores import ScorePlan, score_table
from flyball.workspace.tracing import trace_prediction
from flyball.workspace.workspace import Workspace
from tests.stories.tiny import make_request, replace_endpoint, write_tiny

ENDPOINT = """
@fb.pipeline
def training_simple():
    data = fb.training_set(parcels, label=arrivals["late"], features=[haste])
    fit, held_out = fb.split(data, test="last 25%")
    model = train(fit)
    return fb.candidate("lateness-simple", model, metrics=evaluate(model, held_out), data=fit)


def in_grams(request: dict) -> dict:
    return {**request, "weight_kg": request["weight_kg"] / 1000}


simple = fb.Endpoint(model="lateness-simple", gates=[fb.metric("auc") >= 0.3])
parcel = fb.Endpoint(
    model="lateness",
    gates=[fb.metric("auc") >= 0.3],
    graph=fb.route(
        "rush",
        {0: fb.ensemble("lateness", "lateness-simple"), 1: fb.fallback("lateness-simple", to=0.5)},
    ),
    prepare=in_grams,
    monitors=[fb.service(errors=0.1, window="50m", min_requests=5)],
)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"), endpoint=ENDPOINT)


def open_workspace(project: Path, now: datetime) -> Workspace:
    return Workspace(project, project / ".flyball", clock=SimulatedClock(now), is_durable=False)


def test_a_graph_answers_falls_back_and_tells_who_it_was(project: Path) -> None:
    now = datetime.now(UTC) - timedelta(days=1)
    workspace = open_workspace(project, now)
    assert not workspace.run("training", is_inline=True).error
    workspace.loop.tick()
    heavy = [make_request(number) | {"weight_kg": 7500.0} for number in range(20)]
    calm, hurried = heavy[0::2], heavy[1::2]
    # The simple model is not trained yet: the way without a fallback fails, the other one is answered for.
    assert {answer.status for answer in workspace.predict("parcel", calm)} == {"error"}
    assert {answer.node for answer in workspace.predict("parcel", hurried)} == {"rush=1/fallback/constant"}
    assert not workspace.run("training_simple", is_inline=True).error
    workspace.loop.tick()
    joint = workspace.predict("parcel", calm)
    assert {answer.node for answer in joint} == {"rush=0/ensemble[lateness/1, lateness-simple/1]"}
    assert {answer.model_version for answer in workspace.predict("parcel", hurried)} == {"lateness-simple/1"}
    workspace.predictions.log.rotate()
    clock = workspace.clock
    assert isinstance(clock, SimulatedClock)
    clock.advance_to(now + timedelta(minutes=30))
    workspace.loop.tick()
    rows = workspace.predictions.scan("parcel").collect()
    assert rows.filter(pl.col("status") == "error").height == 20
    [alert] = workspace.monitoring.alerts("parcel")
    assert (alert.kind, "requests failed" in alert.message) == ("service", True)
    traced = trace_prediction(workspace, joint[0].prediction_id)
    assert "answered by rush=0/ensemble[lateness/1, lateness-simple/1]" in draw_trace(traced)
    assert traced.prediction.request["weight_kg"] == 7.5, "what was prepared is what was asked"


def test_tables_are_scored_by_the_graph_or_by_a_version_that_is_named(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "tiny", endpoint=ENDPOINT)
    workspace = open_workspace(folder, datetime.now(UTC))
    assert not workspace.run("training", is_inline=True).error
    assert not workspace.run("training_simple", is_inline=True).error
    workspace.loop.tick()
    plan = ScorePlan(endpoint="parcel", table="parcels", out=tmp_path / "joint")
    with pytest.raises(InvalidInputError, match="prepares its requests by a function of its own"):
        score_table(workspace, plan)
    replace_endpoint(folder, ENDPOINT.replace("    prepare=in_grams,\n", ""))
    workspace = open_workspace(folder, datetime.now(UTC))
    result = score_table(workspace, plan)
    assert (result.rows, result.answered) == (600, 600)
    rows = (
        pl.read_parquet(plan.out).join(pl.read_csv(folder / "data" / "parcels.csv"), on="parcel_id").sort("parcel_id")
    )
    ways = {"rush=0/ensemble[lateness/1, lateness-simple/1]": "lateness/1", "rush=1": "lateness-simple/1"}
    assert dict(rows.select("node", "model_version").unique().rows()) == ways
    asked = rows.head(20).select("parcel_id", "shop_id", "weight_kg", "rush").to_dicts()
    live = workspace.predict("parcel", asked)
    assert [answer.node for answer in live] == rows.head(20)["node"].to_list()
    assert [answer.prediction for answer in live] == pytest.approx(rows.head(20)["prediction"].to_list(), abs=1e-6)
    traced = trace_prediction(workspace, rows["prediction_id"][0])
    assert traced.version is not None
    assert (traced.prediction.node, traced.version.ref) == rows.select("node", "model_version").row(0)
    with pytest.raises(InvalidInputError, match="whose stored features are those of now"):
        score_table(workspace, msgspec.structs.replace(plan, at_row_time=True))
    alone = msgspec.structs.replace(plan, version="1")
    with pytest.raises(OutputTakenError, match="it holds what a graph answered, and one model is asked now"):
        score_table(workspace, alone)
    score_table(workspace, msgspec.structs.replace(alone, all_rows=True))
    again = pl.read_parquet(plan.out)
    assert "node" not in again.columns
    assert again["model_version"].unique().to_list() == ["lateness/1"]


def test_a_graph_that_names_a_model_nobody_serves_is_told_when_the_project_is_loaded(tmp_path: Path) -> None:
    endpoint = 'parcel = fb.Endpoint(model="lateness", graph=fb.ensemble("lateness", "nothing"))'
    folder = write_tiny(tmp_path / "wrong", endpoint=endpoint)
    with pytest.raises(InvalidInputError, match="uses 'nothing', which no endpoint serves"):
        assert open_workspace(folder, datetime.now(UTC)).endpoints
