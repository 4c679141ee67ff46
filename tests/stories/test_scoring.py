"""Whole tables are scored by a command that may be killed at any moment."""

import json
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from tests.stories.system import System, wait_for
from tests.stories.tiny import REQUEST, write_tiny

pytestmark = pytest.mark.slow
ROWS = 550_000
SENT_AT = datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = write_tiny(tmp_path / "tiny")
    with (folder / "project.py").open("a", encoding="utf-8") as file:
        file.write('\nqueue = fb.Table("data/queue.parquet", entity=shop, time="sent_at", key="parcel_id")\n')
    return folder


def write_queue(project: Path, rows: int) -> None:
    number = pl.int_range(rows, eager=True)
    pl.DataFrame(
        {
            "parcel_id": number,
            "shop_id": number % 6,
            "sent_at": pl.repeat(SENT_AT, rows, eager=True),
            # Every hundredth parcel is heavier than anything may be.
            "weight_kg": pl.select(pl.when(number % 100 == 0).then(60.0).otherwise(number % 20)).to_series(),
            "rush": number % 2,
        }
    ).write_parquet(project / "data" / "queue.parquet")


def test_a_killed_scoring_goes_on_and_says_what_live_says(project: Path) -> None:
    system = System(project)
    system.run("run", "training")
    write_queue(project, ROWS)
    out = project / "scores"
    process = system.begin("score", "parcel", "--table", "queue", "--out", str(out))
    wait_for(lambda: list(out.glob("*.parquet")), "the first part is written", 60)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    written = sum(pl.read_parquet(path).height for path in out.glob("*.parquet"))
    assert 0 < written < ROWS * 0.99
    result = system.ask("score", "parcel", "--table", "queue", "--out", str(out))
    assert (result["taken_up"], result["rows"], result["rejected"]) == (True, ROWS, ROWS // 100)
    assert result["reasons"] == {"weight_kg: between": ROWS // 100}
    rows = pl.read_parquet(out)
    assert rows["parcel_id"].n_unique() == rows["prediction_id"].n_unique() == rows.height == ROWS * 99 // 100
    rejects = pl.read_parquet(out.with_name("scores.rejects"))
    assert (rejects["parcel_id"] % 100 == 0).all()
    assert rejects.height == ROWS // 100
    trace = system.ask("trace", rows["prediction_id"][7])
    assert (trace["prediction"]["variant"], trace["version"]["number"]) == ("table", 1)
    assert trace["prediction"]["prediction"] == rows["prediction"][7]
    assert trace["prediction"]["request"]["parcel_id"] == rows["parcel_id"][7]
    refused = system.ask("trace", rejects["prediction_id"][0])
    assert refused["prediction"]["reasons"] == ["weight_kg must be between 0 and 50, but 60 was given"]
    write_queue(project, ROWS + 50)
    again = system.ask("score", "parcel", "--table", "queue", "--out", str(out))
    assert (again["rows"], again["taken_up"]) == (50, False)
    # What live answers to the same fields.
    live = system.run("predict", "parcel", "--json", '{"parcel_id": 5, "shop_id": 5, "weight_kg": 5.0, "rush": 1}')
    [scored] = pl.read_parquet(out).filter(pl.col("parcel_id") == 5)["prediction"]
    assert json.loads(live)["prediction"] == pytest.approx(scored, abs=1e-6)
    assert set(REQUEST) == {"parcel_id", "shop_id", "weight_kg", "rush"}


def test_features_of_each_rows_time_are_those_that_training_saw(project: Path) -> None:
    from flyball.workspace.workspace import Workspace

    system = System(project)
    system.run("run", "training")
    out = project / "past"
    system.run("score", "parcel", "--table", "parcels", "--out", str(out), "--at-row-time", "--format", "delta")
    workspace = Workspace(project, project / ".flyball")
    plan = workspace.packages.plan(workspace.project.endpoint("parcel"))
    assert plan is not None
    data = workspace.features.build_training_set(plan, as_of=datetime.now(UTC))
    model = workspace.registry.open("lateness/1").load_predictor(workspace.runtimes)
    expected = data.frame.select("parcel_id").with_columns(pl.Series("expected", model.predict(data.frame)))
    both = pl.read_delta(str(out)).join(expected, on="parcel_id")
    assert both.height == data.frame.height > 500
    assert ((both["prediction"] - both["expected"]).abs() < 1e-12).all()
