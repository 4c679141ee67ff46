"""A project in which nothing changed is answered for without importing it; anything else is not."""

import os
import sqlite3
import time
from pathlib import Path

import pytest

from .lab import Project

PROJECT = """
from pathlib import Path
import polars as pl
from flyball.domain.data.recording import record
from flyball.domain.pipelines.steps import pipeline, step
import part

EVENTS = Path("note.txt")

class Reading:
    name = "read"
    outputs = 1
    def identity(self, context):
        return ""
    def run(self, context, inputs):
        for kind, value in (inputs["notes"] or {}).items():
            context.note(kind, value)
        return [path.read_text() for path in sorted(Path("tables").glob("*.csv"))]

@step
def long(count: int = 10_000, extra: str = "extra.txt") -> list[int]:
    return list(range(count)) + [EVENTS.exists(), Path("more.txt").exists()]

@pipeline
def training():
    return long()

@pipeline
def reading(notes: dict[str, object] | None = None):
    return record(Reading(), {"notes": notes})
"""


@pytest.fixture
def ready(project: Project) -> Project:
    project.write("project.py", PROJECT)
    project.write("part.py", "x = 1\n")
    project.write("tables/a.csv", "1\n")
    project.tables = ["tables/*.csv"]
    return project


def is_unchanged(project: Project, pipeline: str = "training", **options: object) -> bool:
    return bool(project.run(pipeline, **options).result["is_unchanged"])


def test_nothing_heavy_is_imported(ready: Project) -> None:
    assert not is_unchanged(ready)
    again = ready.run()
    assert again.result["is_unchanged"]
    ours = {name for name in again.modules if name.startswith("flyball.domain.")}
    assert not {name for name in ours if "data" in name or "features" in name or "graph" in name}
    packages = {name.partition(".")[0] for name in again.modules}
    assert not packages & {"polars", "numpy", "sklearn", "project", "part", "cloudpickle", "tenacity", "subprocess"}


def test_it_is_a_run_like_others(ready: Project) -> None:
    first, second = ready.run(), ready.run()
    with sqlite3.connect(ready.home / "flyball.db") as db:
        runs = db.execute("SELECT id, status, facts FROM tracking_run ORDER BY id").fetchall()
        kinds = [kind for (kind,) in db.execute("SELECT kind FROM journal_event ORDER BY seq")]
        params = db.execute(
            "SELECT r.id, p.name, p.value FROM tracking_param AS p JOIN tracking_run AS r ON r.number = p.run"
            " WHERE p.name = 'long.count' ORDER BY r.id"
        ).fetchall()
    db.close()
    assert [(run_id, status) for run_id, status, _ in runs] == [
        (first.result["run_id"], "succeeded"),
        (second.result["run_id"], "succeeded"),
    ]
    assert f'"unchanged_since":"{first.result["run_id"]}"' in runs[1][2]
    assert kinds == ["pipelines.run.started", "pipelines.run.finished"] * 2
    assert params == [(run["run_id"], "long.count", "10000") for run in (first.result, second.result)]
    assert second.reasons == {"long": f"cached since run {first.result['run_id']}"}
    assert second.result["outputs"] == first.result["outputs"]


def test_other_parameters_have_a_certificate_of_their_own(ready: Project) -> None:
    ready.run()
    assert not is_unchanged(ready, params={"long.count": "9999"})
    assert is_unchanged(ready, params={"long.count": "9999"})
    assert is_unchanged(ready)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "project.py").write_text(PROJECT + "\n# more\n"),
        lambda root: (root / "part.py").write_text("x = 2\n"),
        lambda root: (root / "part.py").unlink() or (root / "part").mkdir(),
        lambda root: (root / "polars.py").write_text("raise ImportError"),
        lambda root: (root / "flyball.toml").write_text(""),
        lambda root: (root / "tables/a.csv").write_text("2\n"),
        lambda root: (root / "tables/b.csv").write_text("2\n"),
        lambda root: (root / "tables/a.csv").rename(root / "tables/c.csv"),
        lambda root: (root / "tables/a.csv").unlink(),
        lambda root: (root / "note.txt").write_text("now it exists"),
        lambda root: (root / "more.txt").write_text("now it exists"),
        lambda root: (root / "extra.txt").write_text("now it exists"),
    ],
    ids=[
        "project file",
        "module",
        "module becomes a package",
        "new module",
        "settings",
        "table",
        "new table file",
        "renamed table file",
        "removed table file",
        "file that a constant names",
        "file that the code names",
        "file that a parameter names",
    ],
)
def test_any_change_is_seen(ready: Project, change: object) -> None:
    ready.run()
    assert is_unchanged(ready)
    change(ready.root)  # type: ignore[operator]
    process = ready.start("training")
    stdout, _ = process.communicate(timeout=60)
    assert '"is_unchanged": true' not in stdout


def test_same_size_and_time_but_other_content_is_seen(ready: Project) -> None:
    table = ready.root / "tables/a.csv"
    ready.run()
    state = table.stat()
    table.write_text("2\n")
    os.utime(table, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert not is_unchanged(ready)


def test_touched_or_rewritten_files_with_the_same_content_change_nothing(ready: Project) -> None:
    ready.run()
    table = ready.root / "tables/a.csv"
    os.utime(table)
    os.utime(ready.root / "part.py")
    assert is_unchanged(ready)
    table.unlink()
    table.write_text("1\n")
    assert is_unchanged(ready)


def test_a_file_that_changes_during_the_run_is_not_certified(ready: Project) -> None:
    ready.write(
        "project.py",
        PROJECT.replace("return list(range(count)) +", 'Path("tables/a.csv").write_text("9")\n    return'),
    )
    ready.run()
    assert not is_unchanged(ready)


def test_a_lost_value_is_seen(ready: Project) -> None:
    ready.run()
    blobs = [path for path in (ready.home / "blobs").rglob("*") if path.is_file() and path.stat().st_size > 16_384]
    assert blobs
    for blob in blobs:
        blob.unlink()
    again = ready.run()
    assert again.ran == {"long"}
    assert is_unchanged(ready)


def test_another_project_in_the_same_home_is_another(ready: Project, tmp_path: Path) -> None:
    ready.run()
    other = Project(tmp_path / "other", ready.home)
    other.write("project.py", PROJECT)
    other.write("part.py", "x = 1\n")
    other.write("tables/a.csv", "1\n")
    assert not is_unchanged(other)
    assert is_unchanged(other)


def test_a_home_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    from flyball.domain.pipelines.unchanged import check_unchanged

    assert check_unchanged(tmp_path / "home", tmp_path, "training") is None
    assert not (tmp_path / "home").exists()


def test_operations_void_it_by_what_they_note(ready: Project) -> None:
    notes = {"unless_event": "x.happened", "valid_until_us": int((time.time() + 3600) * 1e6)}
    ready.run("reading", params={"notes": notes})
    assert is_unchanged(ready, "reading", params={"notes": notes})
    add_event(ready, "x.other")
    assert is_unchanged(ready, "reading", params={"notes": notes})
    add_event(ready, "x.happened")
    assert not is_unchanged(ready, "reading", params={"notes": notes})
    over = {"valid_until_us": 1}
    ready.run("reading", params={"notes": over})
    assert not is_unchanged(ready, "reading", params={"notes": over})
    ready.write("elsewhere/file.csv", "1")
    source = {"source": str(ready.root / "elsewhere")}
    ready.run("reading", params={"notes": source})
    assert is_unchanged(ready, "reading", params={"notes": source})
    ready.write("elsewhere/more.csv", "1")
    assert not is_unchanged(ready, "reading", params={"notes": source})


def test_an_event_of_the_registry_voids_what_operations_made(ready: Project) -> None:
    ready.run("reading")
    ready.run("training")
    assert is_unchanged(ready, "reading")
    add_event(ready, "registry.alias.moved")
    assert not is_unchanged(ready, "reading")
    assert is_unchanged(ready, "reading")
    assert is_unchanged(ready, "training")


def add_event(project: Project, kind: str) -> None:
    from flyball.core.clock import SystemClock
    from flyball.domain.journal.service import Journal
    from flyball.storage.db import Database

    db = Database(f"sqlite:///{project.home}/flyball.db")
    with db.begin() as tx:
        Journal(db, SystemClock()).append(tx, kind, "x/y", {})
    db.close()
