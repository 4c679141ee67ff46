"""A home of the first schema opens with all that it held."""

import sqlite3
from importlib import resources
from pathlib import Path

import pytest

from flyball.domain.tracking.runs import RunStatus
from flyball.workspace.home import Home

_BEFORE = 10


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "home").mkdir()
    connection = sqlite3.connect(tmp_path / "home" / "flyball.db", isolation_level=None)
    folder = resources.files("flyball.storage.migrations")
    for file in sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda one: one.name):
        if int(file.name[:4]) <= _BEFORE:
            for statement in file.read_text(encoding="utf-8").split(";\n"):
                connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {_BEFORE}")
    insert = "INSERT INTO {} VALUES ({})"

    def add(table: str, *rows: tuple[object, ...]) -> None:
        connection.executemany(insert.format(table, ", ".join("?" * len(rows[0]))), rows)

    add(
        "tracking_run",
        ("r1", "training", "succeeded", "user", None, None, 1_000_000, 2_000_000, "", "p", None),
        ("r2", "training", "running", "user", 7, 5, 3_000_000, None, "", "host 1 2", None),
        ("r3", "Default", "failed", "loop", None, None, 4_000_000, 5_000_000, "broken", "p", None),
    )
    add("tracking_param", ("r1", "a", '"text"'), ("r1", "b", "3"), ("r1", "c", '"a \\"b\\""'), ("r1", "d", '["x"]'))
    add(
        "tracking_metric",
        ("r1", "auc", 0, 1_000_000, "step", 0.5),
        ("r1", "auc", 1, 900_000, "step", 0.75),
        ("r1", "odd", 0, 1_000_000, "", None),
    )
    add("tracking_tag", ("r3", "k", "v"))
    add("tracking_artifact", ("r1", "file", "d" * 64, 3))
    connection.close()
    return Home(tmp_path, tmp_path / "home")


def test_runs_keep_what_they_had(home: Home) -> None:
    runs = home.tracking.list_runs()
    assert [(run.id, run.pipeline, run.status) for run in runs] == [
        ("r3", "Default", RunStatus.FAILED),
        ("r2", "training", RunStatus.RUNNING),
        ("r1", "training", RunStatus.SUCCEEDED),
    ]
    assert (runs[1].cause, runs[0].error) == (7, "broken")
    first = home.tracking.describe_run("r1")
    assert first.params == {"a": "text", "b": 3, "c": 'a "b"', "d": ["x"]}
    assert first.metrics["auc"] == 0.75
    assert first.metrics["odd"] != first.metrics["odd"]
    assert [point.value for point in home.tracking.list_points("r1", "auc")] == [0.5, 0.75]
    assert [artifact.name for artifact in first.artifacts] == ["file"]
    assert home.tracking.describe_run("r3").tags == {"k": "v"}
    home.db.close()


def test_pipelines_are_experiments(home: Home) -> None:
    found, _ = home.experiments.search()
    assert sorted((one.id, one.name) for one in found) == [(0, "Default"), (1, "training")]
    page = home.client_runs.search([1], filter_text="params.b = '3' AND metrics.auc > 0.7")
    assert [run.run.id for run in page.runs] == ["r1"]
    assert [run.run.id for run in home.client_runs.search([0]).runs] == ["r3"]
    home.db.close()
