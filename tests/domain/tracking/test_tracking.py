"""Runs are opened, logged to and closed once."""

import math
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyball.core.clock import SimulatedClock
from flyball.core.errors import ConflictError
from flyball.domain.journal.service import Journal
from flyball.domain.tracking.distributions import installed_distributions
from flyball.domain.tracking.environment import EnvironmentProbe, machine
from flyball.domain.tracking.processes import is_alive, this_process
from flyball.domain.tracking.runs import MetricPoint, RunClosedError, RunNotFoundError, RunStatus
from flyball.domain.tracking.service import TrackingService
from flyball.storage.blobs import LocalBlobStore
from flyball.storage.db import Database

START = datetime(2026, 3, 1, 14, 5, tzinfo=UTC)


class Desk:
    def __init__(self, home: Path) -> None:
        self.clock = SimulatedClock(START)
        self.db = Database(f"sqlite:///{home}/flyball.db")
        self.blobs = LocalBlobStore(home / "blobs")
        self.runs = TrackingService(self.db, Journal(self.db, self.clock), self.clock, self.blobs)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_run_keeps_what_is_logged_to_it(desk: Desk, tmp_path: Path) -> None:
    run = desk.runs.start_run("training", {"rate": 0.1, "path": Path("a.csv")}, actor="user/ana", cause=7)
    desk.runs.log_params(run.id, {"rate": 0.2, "depth": None})
    desk.runs.log_metrics(run.id, {"auc": 0.7, "gain": math.nan, "loss": math.inf})
    (tmp_path / "note.txt").write_text("from a file")
    desk.runs.log_artifact(run.id, "bytes", b"abc")
    artifact = desk.runs.log_artifact(run.id, "note.txt", tmp_path / "note.txt")
    desk.runs.log_input(run.id, "snapshot", "s1")
    desk.runs.log_output(run.id, "version", "credit/3")
    desk.runs.log_note(run.id, "training_set", {"rows": 3})
    desk.runs.set_tags(run.id, {"team": "risk"})
    desk.clock.advance(timedelta(seconds=90))
    closed = desk.runs.finish_run(run.id, RunStatus.SUCCEEDED)

    assert closed.duration == timedelta(seconds=90)
    detail = desk.runs.describe_run(run.id)
    assert detail.run == closed
    assert (detail.run.actor, detail.run.cause) == ("user/ana", 7)
    assert detail.params == {"rate": 0.2, "path": "a.csv", "depth": None}
    assert detail.metrics["auc"] == 0.7
    assert math.isnan(detail.metrics["gain"])
    assert detail.metrics["loss"] == math.inf
    assert [(found.name, found.size_bytes) for found in detail.artifacts] == [("bytes", 3), ("note.txt", 11)]
    assert desk.blobs.path(artifact.digest).read_text() == "from a file"
    assert [(link.kind, link.ref) for link in detail.inputs] == [("snapshot", "s1")]
    assert desk.runs.list_runs_that_read("snapshot", "s1") == [run.id]
    assert desk.runs.list_runs_that_made("version", "credit/3") == [run.id]
    assert detail.notes == {"training_set": [{"rows": 3}]}
    assert detail.tags == {"team": "risk"}


def test_a_closed_run_takes_nothing_but_tags(desk: Desk) -> None:
    run = desk.runs.start_run("training")
    desk.runs.finish_run(run.id, RunStatus.FAILED, "it broke")
    for log in (
        lambda: desk.runs.log_params(run.id, {"a": 1}),
        lambda: desk.runs.log_metrics(run.id, {"a": 1}),
        lambda: desk.runs.log_artifact(run.id, "a", b""),
        lambda: desk.runs.log_input(run.id, "snapshot", "s"),
        lambda: desk.runs.log_note(run.id, "a", 1),
        lambda: desk.runs.finish_run(run.id, RunStatus.SUCCEEDED),
    ):
        with pytest.raises(RunClosedError, match="is failed, so nothing can be added"):
            log()
    desk.runs.set_tags(run.id, {"seen": "yes"})
    assert desk.runs.describe_run(run.id).tags == {"seen": "yes"}
    assert desk.runs.get_run(run.id).error == "it broke"


def test_an_unknown_run_is_named(desk: Desk) -> None:
    for use in (
        lambda: desk.runs.get_run("nobody"),
        lambda: desk.runs.describe_run("nobody"),
        lambda: desk.runs.log_metrics("nobody", {"a": 1}),
        lambda: desk.runs.set_tags("nobody", {}),
    ):
        with pytest.raises(RunNotFoundError, match="there is no run 'nobody'"):
            use()


def test_a_run_cannot_end_as_running(desk: Desk) -> None:
    run = desk.runs.start_run("training")
    with pytest.raises(ConflictError):
        desk.runs.finish_run(run.id, RunStatus.RUNNING)


def test_all_or_nothing_with_a_shared_transaction(desk: Desk) -> None:
    run = desk.runs.start_run("training")
    with pytest.raises(ZeroDivisionError), desk.db.begin() as tx:
        desk.runs.log_metrics(run.id, {"auc": 1.0}, tx=tx)
        desk.runs.finish_run(run.id, RunStatus.SUCCEEDED, tx=tx)
        raise ZeroDivisionError
    assert desk.runs.describe_run(run.id).metrics == {}
    assert desk.runs.get_run(run.id).status is RunStatus.RUNNING


_points = st.lists(
    st.builds(
        MetricPoint,
        name=st.sampled_from("ab"),
        value=st.floats(allow_nan=False),
        step=st.integers(0, 3),
        logged_at=st.integers(0, 3).map(lambda seconds: START + timedelta(seconds=seconds)),
    ),
    max_size=20,
    unique_by=lambda point: (point.name, point.step, point.logged_at),
)


@settings(deadline=None, max_examples=30)
@given(_points)
def test_points_come_back_in_order_and_once(
    tmp_path_factory: pytest.TempPathFactory, points: list[MetricPoint]
) -> None:
    desk = Desk(tmp_path_factory.mktemp("home"))
    run = desk.runs.start_run("training")
    desk.runs.log_metrics(run.id, points)
    desk.runs.log_metrics(run.id, points)
    for name in "ab":
        mine = [point for point in points if point.name == name]
        expected = sorted(mine, key=lambda point: (point.step, point.logged_at or START))
        assert desk.runs.list_points(run.id, name) == expected


def test_runs_are_listed_newest_first_page_by_page(desk: Desk) -> None:
    runs = []
    for number in range(5):
        desk.clock.advance(timedelta(seconds=1))
        runs.append(desk.runs.start_run("even" if number % 2 == 0 else "odd"))
    desk.runs.finish_run(runs[0].id, RunStatus.SUCCEEDED)
    ids = [run.id for run in reversed(runs)]
    assert [run.id for run in desk.runs.list_runs()] == ids
    assert [run.id for run in desk.runs.list_runs(limit=2)] == ids[:2]
    assert [run.id for run in desk.runs.list_runs(limit=2, before=ids[1])] == ids[2:4]
    assert [run.id for run in desk.runs.list_runs(pipeline="odd")] == [ids[1], ids[3]]
    assert [run.id for run in desk.runs.list_runs(status=RunStatus.SUCCEEDED)] == [ids[4]]


def test_long_parameters_are_cut(desk: Desk) -> None:
    run = desk.runs.start_run("training", {"rows": list(range(10_000))})
    assert str(desk.runs.describe_run(run.id).params["rows"]).endswith("…")


def test_a_dead_process_is_told_from_a_living_one(desk: Desk) -> None:
    assert is_alive(this_process())
    code = "from flyball.domain.tracking.processes import this_process; print(this_process())"
    dead = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert not is_alive(dead)
    host, pid, _ = this_process().split(" ")
    assert not is_alive(f"{host} {pid} 1")
    assert is_alive(f"another-host {pid} 1")
    desk.runs.start_run("training")
    assert desk.runs.list_abandoned() == []


def test_distributions_are_those_that_the_standard_library_finds() -> None:
    def norm(name: str) -> str:
        return name.replace("_", "-").replace(".", "-").lower()

    ours = {norm(name): version for name, version in installed_distributions().items()}
    theirs = {norm(found.metadata["Name"]): found.version for found in metadata.distributions()}
    assert ours == theirs


class TestGit:
    @pytest.fixture
    def repository(self, tmp_path: Path) -> Path:
        root = tmp_path / "repository"
        (root / "project").mkdir(parents=True)
        (root / "project" / "project.py").write_text("x = 1\n")
        (root / "other.txt").write_text("elsewhere\n")
        for command in (
            ["init", "--quiet", "--initial-branch=main"],
            ["config", "user.email", "a@example.org"],
            ["config", "user.name", "A"],
            ["add", "."],
            ["commit", "--quiet", "-m", "first"],
        ):
            subprocess.run(["git", "-C", str(root), *command], check=True, env={**os.environ, "GIT_CONFIG_GLOBAL": ""})
        return root

    def facts(self, root: Path, tmp_path: Path) -> tuple[object, str]:
        blobs = LocalBlobStore(tmp_path / "blobs")
        code = EnvironmentProbe(root).facts(blobs).code
        return code, blobs.path(code.diff).read_text() if code and code.diff else ""

    def test_a_clean_commit_is_its_own_proof(self, repository: Path, tmp_path: Path) -> None:
        code, diff = self.facts(repository / "project", tmp_path)
        head = subprocess.run(
            ["git", "-C", str(repository), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        assert code is not None
        assert (code.commit, code.branch, code.changed, diff) == (head.stdout.strip(), "main", (), "")

    def test_what_is_not_committed_is_kept(self, repository: Path, tmp_path: Path) -> None:
        (repository / "project" / "project.py").write_text("x = 2\n")
        (repository / "project" / "new file.py").write_text("y = 3\n")
        (repository / "project" / "data.csv").write_text("1\n")
        (repository / "other.txt").write_text("does not belong to the project\n")
        code, diff = self.facts(repository / "project", tmp_path)
        assert set(code.changed) == {"project/project.py", "project/new file.py", "project/data.csv"}
        assert "-x = 1\n+x = 2\n" in diff
        assert "+++ b/project/new file.py\n@@ -0,0 +1,1 @@\n+y = 3\n" in diff
        assert "data.csv" not in diff
        assert "belong" not in diff

    def test_a_folder_without_git_has_no_commit(self, tmp_path: Path) -> None:
        code, _ = self.facts(tmp_path, tmp_path)
        assert code is None


def test_the_machine_is_described() -> None:
    assert {"host", "system", "architecture", "cores"} <= machine().keys()
