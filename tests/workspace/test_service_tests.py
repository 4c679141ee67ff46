"""A version is tested as a service: what is right passes, and each kind of fault fails its own test."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from flyball.domain.registry.service_tests import TestResult
from flyball.domain.registry.versions import Status
from flyball.domain.serving.loaded import LoadedVersion
from flyball.domain.serving.service_tests import ServiceTest
from flyball.workspace.service_tests import tell_results, test_endpoint
from flyball.workspace.workspace import Workspace
from tests.domain.serving.conftest import FakeLookup, fixed, make_version
from tests.stories.tiny import write_tiny

AT = datetime(2026, 3, 1, tzinfo=UTC)
REQUESTS = [{"customer_id": n % 9, "income": 100.0 + n, "term": 12, "applied_at": None} for n in range(30)]
REFERENCE = pl.DataFrame({"income": [1.0, 2.0], "term": [12, 24], "late": [0.0, None], "burden": [0.1, 0.2]})


def run(loaded: LoadedVersion, native: Any = None, p99_s: float | None = None) -> dict[str, TestResult]:
    test = ServiceTest(loaded, FakeLookup(), REQUESTS, AT, "refuse")
    return {result.name: result for result in test.run(REFERENCE, native, p99_s)}


def failing(output: Callable[[pl.DataFrame], Any], **arguments: Any) -> dict[str, str]:
    results = run(make_version("credit-risk/1", output), **arguments)
    return {name: result.reason for name, result in results.items() if not result.passed}


def test_a_sound_version_passes_everything() -> None:
    results = run(make_version("credit-risk/1", fixed(0.25)), p99_s=5.0)
    assert list(results) == [
        *("schema", "golden rows", "missing fields", "extreme values", "permuted fields", "load"),
    ]
    assert all(result.passed and result.cases > 0 for result in results.values()), results
    assert results["load"].value is not None and results["load"].limit == 5.0


def test_a_chance_above_one_is_no_answer() -> None:
    assert failing(fixed(1.5))["schema"] == "a chance of 1.5 is none; and 29 more of 43"


def test_a_form_that_says_something_else_than_the_model_fails_the_golden_rows() -> None:
    native = make_version("credit-risk/1", fixed(0.3)).predictor
    assert failing(fixed(0.25), native=native) == {
        "golden rows": "the form that is served differs from the model as trained by up to 0.05; and 1 more of 32"
    }


def test_an_answer_that_hangs_on_the_rows_beside_it_fails() -> None:
    told = failing(lambda frame: np.full(frame.height, 1.0 / frame.height))
    assert "a request among others gets 0.02" in told["golden rows"] or "and alone 1.0" in told["golden rows"]


def test_a_model_that_cannot_do_without_a_value_fails() -> None:
    def needs_late(frame: pl.DataFrame) -> Any:
        if frame["late"].null_count():
            raise ValueError("no lateness")
        return np.full(frame.height, 0.5)

    told = failing(needs_late)
    assert "an entity that nothing is stored of" in told["missing fields"]
    assert "ValueError: no lateness" in told["missing fields"]


def test_a_model_that_gives_nan_for_extremes_fails() -> None:
    def fragile(frame: pl.DataFrame) -> Any:
        return np.where(np.abs(frame["burden"].to_numpy()) > 1e5, np.nan, 0.5)

    told = failing(fragile)
    assert list(told) == ["extreme values"] or "extreme values" in told


def test_a_slow_model_fails_its_limit_only_where_one_is_asked_for() -> None:
    assert failing(fixed(0.5), p99_s=1e-9).keys() == {"load"}
    assert "the limit is 1e-06 ms" in failing(fixed(0.5), p99_s=1e-9)["load"]
    assert failing(fixed(0.5)) == {}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project whose first version has passed the gate and is live."""
    endpoint = 'parcel = fb.Endpoint(model="lateness", gates=[fb.service_test(p99="10s")], retrain=training)'
    project = write_tiny(tmp_path / "tiny", endpoint=endpoint)
    workspace = Workspace(project, project / ".flyball")
    result = workspace.run("training", is_inline=True)
    assert not result.error, result.error
    workspace.deployer.take_up_first(workspace.endpoints)
    return project


def test_a_gate_asks_for_the_tests_and_keeps_them_as_evidence(project: Path) -> None:
    workspace = Workspace(project, project / ".flyball")
    version = workspace.registry.get("lateness/1")
    assert version.status is Status.APPROVED
    evidence = workspace.registry.evidence("lateness/1")
    assert evidence is not None
    assert [one.name for one in evidence.results] == [
        f"service test: {name}"
        for name in ("schema", "golden rows", "missing fields", "extreme values", "permuted fields", "load")
    ]
    report = test_endpoint(workspace, "parcel")
    assert report.passed, tell_results(report.results)
    [event] = [one for one in workspace.journal.list_events() if one.kind == "serving.version.tested"]
    assert (event.subject, event.data["passed"]) == ("version/lateness/1", True)
    # Nothing of it is a prediction.
    assert workspace.predictions.count("parcel") == 0
    assert not list((workspace.home / "predictions").rglob("*.jsonl"))


def test_a_version_that_fails_its_tests_does_not_go_live(project: Path) -> None:
    text = (project / "project.py").read_text()
    (project / "project.py").write_text(text.replace('p99="10s"', 'p99="1us"'))
    workspace = Workspace(project, project / ".flyball")
    result = workspace.run("training", {"train.strength": 0.5}, is_inline=True)
    assert result.notes["version"] == ["lateness/2"], result
    assert workspace.registry.get("lateness/2").status is Status.REJECTED
    champion = workspace.registry.champion("lateness")
    assert champion is not None and champion.ref == "lateness/1"
