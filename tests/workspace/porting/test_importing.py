"""What an import makes of stores old, odd and changing; the files are written here, as MLflow's releases wrote them."""

import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flyball as fb
from flyball.core.errors import BackendUnavailableError, InvalidInputError
from flyball.domain.tracking.artifacts import Place
from flyball.domain.tracking.runs import RunStatus
from flyball.workspace.home import Home
from flyball.workspace.porting.importing import Importer
from flyball.workspace.porting.mlflow_store import MlflowFile
from flyball.workspace.porting.opening import open_source
from flyball.workspace.porting.records import SourceInvalidError
from flyball.workspace.porting.reports import ImportReport, draw_report
from tests.stories.system import System

# As releases before 2.0 made it: no deleted_time, no inputs, no logged models, no traces, no aliases.
OLD = """
CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, name VARCHAR(256), artifact_location VARCHAR(256),
    lifecycle_stage VARCHAR(32));
CREATE TABLE experiment_tags (key VARCHAR(250), value VARCHAR(5000), experiment_id INTEGER);
CREATE TABLE runs (run_uuid VARCHAR(32) PRIMARY KEY, name VARCHAR(250), source_type VARCHAR(20),
    source_name VARCHAR(500), entry_point_name VARCHAR(50), user_id VARCHAR(256), status VARCHAR(20),
    start_time BIGINT, end_time BIGINT, source_version VARCHAR(50), lifecycle_stage VARCHAR(20),
    artifact_uri VARCHAR(200), experiment_id INTEGER);
CREATE TABLE params (key VARCHAR(250), value VARCHAR(250), run_uuid VARCHAR(32));
CREATE TABLE tags (key VARCHAR(250), value VARCHAR(5000), run_uuid VARCHAR(32));
CREATE TABLE metrics (key VARCHAR(250), value FLOAT, timestamp BIGINT, run_uuid VARCHAR(32), step BIGINT,
    is_nan BOOLEAN);
CREATE TABLE registered_models (name VARCHAR(256), creation_time BIGINT, last_updated_time BIGINT,
    description VARCHAR(5000));
CREATE TABLE model_versions (name VARCHAR(256), version INTEGER, creation_time BIGINT, last_updated_time BIGINT,
    description VARCHAR(5000), user_id VARCHAR(256), current_stage VARCHAR(20), source VARCHAR(500),
    run_id VARCHAR(32), status VARCHAR(20), status_message VARCHAR(500), run_link VARCHAR(500));
INSERT INTO experiments VALUES (0, 'Default', './mlruns/0', 'active'), (7, 'old', './mlruns/7', 'deleted');
"""
RUN = "a" * 32


class Store:
    """A store in the making."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "mlflow.db"
        self.sql = sqlite3.connect(self.path)
        self.sql.executescript(OLD)

    def add(self, table: str, *values: Any) -> None:
        self.sql.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)

    def add_run(self, run_id: str, *, status: str = "FINISHED", experiment: int = 0, ended: int | None = 20) -> None:
        place = f"./mlruns/{experiment}/{run_id}/artifacts"
        self.add(
            "runs",
            run_id,
            "n",
            "LOCAL",
            "train.py",
            "",
            "ada",
            status,
            10,
            ended,
            "c0ffee",
            "active",
            place,
            experiment,
        )

    def add_file(self, path: str, content: bytes = b"x") -> None:
        place = self.folder / "mlruns" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)

    def bring(self, home: Home) -> ImportReport:
        self.sql.commit()
        source = open_source(f"sqlite:///{self.path}")
        try:
            return Importer(home, source).bring()
        finally:
            source.close()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "there").mkdir()
    return Store(tmp_path / "there")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path, tmp_path / "home", is_durable=False)
    yield home
    home.db.close()


def test_a_store_of_an_old_release_comes_over(store: Store, home: Home) -> None:
    store.add_run(RUN)
    store.add("params", "depth", "3", RUN)
    store.add("tags", "mlflow.source.name", "of the tag", RUN)
    store.add_file(f"0/{RUN}/artifacts/model/MLmodel", b"flavors")
    store.add("registered_models", "risk", 1, 2, None)
    place = f"./mlruns/0/{RUN}/artifacts/model"
    store.add("model_versions", "risk", 4, 3, 5, None, None, "Production", place, RUN, "READY", None, None)
    store.add("model_versions", "risk", 5, 3, 5, None, None, "Deleted_Internal", place, RUN, "READY", None, None)
    report = store.bring(home)
    assert report.is_complete, draw_report(report)
    run = home.client_runs.get(RUN)
    assert dict(tag[1:] for tag in run.tags) == {
        "mlflow.runName": "n",
        "mlflow.source.name": "of the tag",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": "c0ffee",
    }
    assert (run.run.actor, run.run.status, run.run.started_at_us) == ("ada", RunStatus.SUCCEEDED, 10_000)
    assert home.experiments.get(7).is_deleted
    version = home.client_registry.get_version("risk", 4).version
    assert (version.stage, version.source) == ("Production", place)
    # The files of a version stay, whatever becomes of its run's.
    assert version.location.startswith("mlflow-artifacts:/versions/") and version.content_digest
    assert home.client_registry.get_model("risk").latest[0].version.number == 4


def test_infinity_and_nan_come_as_they_were_logged(store: Store, home: Home) -> None:
    store.add_run(RUN)
    for step, (value, is_nan) in enumerate(
        [(1.7976931348623157e308, 0), (-1.7976931348623157e308, 0), (0.0, 1), (1e308, 0)]
    ):
        store.add("metrics", "m", value, 5, RUN, step, is_nan)
    report = store.bring(home)
    found = home.client_runs.history(RUN, "m", limit=10).rows
    values = [math.nan if row[3] else row[2] for row in found]
    assert values[:2] == [math.inf, -math.inf] and math.isnan(values[2]) and values[3] == 1e308
    assert report.counts["metric points"].here == 4


def test_what_was_added_there_comes_later_and_what_changed_here_stays(store: Store, home: Home) -> None:
    store.add_run(RUN, status="RUNNING", ended=None)
    store.add("tags", "kind", "there", RUN)
    store.add("metrics", "m", 1.0, 5, RUN, 1, 0)
    store.add_file(f"0/{RUN}/artifacts/log.txt", b"one")
    store.bring(home)
    with home.db.begin() as tx:
        home.client_runs.log(tx, RUN, tags={"kind": "here"})
    store.sql.execute("UPDATE runs SET status = 'FINISHED', end_time = 99")
    store.add("metrics", "m", 2.0, 6, RUN, 2, 0)
    store.add("params", "late", "1", RUN)
    store.add_file(f"0/{RUN}/artifacts/log.txt", b"one\ntwo")
    store.add_run("b" * 32)
    report = store.bring(home)
    assert report.is_complete and report.counts["runs"].here == 2
    run = home.client_runs.get(RUN)
    assert (run.run.status, run.run.finished_at_us) == (RunStatus.SUCCEEDED, 99_000)
    assert dict(tag[1:] for tag in run.tags)["kind"] == "here" and [param[1] for param in run.params] == ["late"]
    assert run.metrics[0][2] == 2.0 and len(home.client_runs.history(RUN, "m", limit=10).rows) == 2
    with home.artifacts.read(home.artifacts.get(Place(RUN, "log.txt"))) as reader:
        assert b"".join(reader.chunks()) == b"one\ntwo"
    events = home.journal.list_events(kinds=["tracking.runs.imported"])
    assert [event.data["runs"] for event in events] == [1, 1]


def test_experiments_meet_those_that_are_here(store: Store, home: Home) -> None:
    with home.db.begin() as tx:
        taken = [home.experiments.create(tx, name) for name in ("a", "b", "c", "d", "e", "f", "g", "same")]
    assert taken[6] == 7
    store.add("experiments", 9, "same", "./mlruns/9", "active")
    store.add("experiment_tags", "team", "risk", 9)
    store.add_run(RUN, experiment=9)
    store.add_run("b" * 32, experiment=7)
    report = store.bring(home)
    assert report.is_complete
    assert home.client_runs.get(RUN).run.experiment_id == taken[7]
    old = home.experiments.get_by_name("old")
    assert old.id == 9 and home.client_runs.get("b" * 32).run.experiment_id == 9
    assert any("has the number 9 here" in note for note in report.notes)
    assert home.experiments.get_by_name("same").tags == {"team": "risk"}


def test_what_cannot_come_is_named(store: Store, home: Home) -> None:
    store.add_run(RUN, experiment=55)
    store.add("registered_models", "risk", 1, 2, "theirs")
    store.add(
        "model_versions", "risk", 1, 3, 5, None, None, "None", "s3://bucket/m", "", "PENDING_REGISTRATION", "", ""
    )
    store.sql.execute("CREATE TABLE registered_model_aliases (name TEXT, alias TEXT, version INTEGER)")
    store.add("registered_model_aliases", "risk", "gone", 8)
    with home.db.begin() as tx:
        home.client_registry.create_model(tx, "risk", description="ours")
        home.client_registry.create_version(tx, "risk", "s3://other/place")
    report = store.bring(home)
    assert not report.is_complete
    told = "\n".join(report.differences)
    for part in (
        "experiment 55",
        "version 1 of the model 'risk' is another one",
        "PENDING_REGISTRATION",
        "no version 8",
    ):
        assert part in told, told
    assert report.counts["runs"].source == 1 and report.counts["runs"].here == 0
    assert home.client_registry.get_model("risk").description == "ours"
    assert "not all of it" in draw_report(report)


def test_what_is_damaged_is_named_and_the_rest_comes(store: Store, home: Home) -> None:
    store.add_run(RUN)
    store.add("params", "nul\0", "a\0b", RUN)
    store.sql.executescript(
        "CREATE TABLE trace_info (request_id, experiment_id, timestamp_ms, execution_time_ms, status);"
        "CREATE TABLE spans (trace_id, content, start_time_unix_nano);"
        "INSERT INTO trace_info VALUES ('tr-1', 0, 5, 6, 'NO_SUCH_STATE');"
        "INSERT INTO spans VALUES ('tr-1', '{\"name\": 7', 1), ('tr-1', '[]', 2);"
    )
    report = store.bring(home)
    assert report.differences == ["2 spans of the trace tr-1 cannot be read"]
    assert home.client_runs.get(RUN).params[0][1:] == ("nul\ufffd", "a\ufffdb")
    assert home.traces.get("tr-1").duration_us == 6_000


def test_files_elsewhere_stay_where_they_are(store: Store, home: Home) -> None:
    store.add("experiments", 3, "cloud", "s3://bucket/3", "active")
    store.sql.execute("UPDATE experiments SET artifact_location = 'mlflow-artifacts:/0' WHERE experiment_id = 0")
    store.add_run(RUN, experiment=3)
    store.sql.execute("UPDATE runs SET artifact_uri = 's3://bucket/3/x/artifacts'")
    store.add_run("b" * 32)
    store.sql.execute("UPDATE runs SET artifact_uri = 'mlflow-artifacts:/0/b/artifacts' WHERE experiment_id = 0")
    report = store.bring(home)
    assert home.client_runs.get(RUN).run.artifact_root == f"s3://bucket/3/{RUN}/artifacts"
    assert any("s3://bucket/3" in note for note in report.notes)
    assert any("--artifacts" in note for note in report.notes)


def test_a_file_whose_name_cannot_be_kept_is_named(store: Store, home: Home) -> None:
    """The rest comes."""
    store.add_run(RUN)
    store.add_file(f"0/{RUN}/artifacts/good.txt")
    store.add_file(f"0/{RUN}/artifacts/bad\\name.txt")
    report = store.bring(home)
    assert report.counts["files"].source == 2 and report.counts["files"].here == 1
    assert any("bad" in text for text in report.differences)


@pytest.mark.parametrize(
    "uri",
    [
        "missing.db",
        "postgresql://host/name",
        "mlruns",
        "sqlite:///text.txt",
        "sqlite:///other.db",
        "http://",
        "http://x:y",
    ],
)
def test_what_is_no_store_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "text.txt").write_text("no database, but a text that is long enough to be read as one" * 20)
    with sqlite3.connect("other.db") as other:
        other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(InvalidInputError):
        open_source(uri)


@pytest.mark.parametrize("uri", ["http://localhost:3592", "http://127.0.0.1:3592/", "http://[::1]:3592"])
def test_the_server_of_the_home_itself_is_no_source(uri: str) -> None:
    with pytest.raises(SourceInvalidError, match="is the server of this home itself"):
        open_source(uri, own=("127.0.0.1", 3592))


def test_a_server_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from flyball.workspace.porting import connections

    monkeypatch.setattr(connections, "_PAUSE_S", 0.0)
    with pytest.raises(BackendUnavailableError, match="does not answer"):
        open_source("http://127.0.0.1:9")


def test_a_file_is_only_read(store: Store, home: Home) -> None:
    store.add_run(RUN)
    store.sql.commit()
    before = store.path.read_bytes()
    store.path.chmod(0o444)
    store.bring(home)
    assert store.path.read_bytes() == before
    with pytest.raises(SourceInvalidError):
        MlflowFile(store.path.parent / "none.db", None)  # type: ignore[arg-type]


def test_many_points_come_in_pages(store: Store, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from flyball.workspace.porting import mlflow_store

    monkeypatch.setattr(mlflow_store, "_POINTS_AT_ONCE", 10)
    for name in ("a", "b", "c"):
        store.add_run(name * 32)
        for step in range(17):
            store.add("metrics", "m", step / 2, step, name * 32, step, 0)
    report = store.bring(home)
    assert report.counts["metric points"].here == 51
    assert home.client_runs.get("b" * 32).metrics[0][2:] == (8.0, 16, 16)


def test_the_files_of_another_home_come_over_from_its_server(home: Home, tmp_path: Path) -> None:
    system = System(tmp_path / "colleague")
    system.project.mkdir()
    system.up()
    try:
        with fb.run("tune", server=f"http://127.0.0.1:{system.port}", home=tmp_path / "mine") as run:
            run.log_metric("loss", 0.5)
            run.log_artifact("plots/größe.txt", "deep")
        source = open_source(f"http://127.0.0.1:{system.port}")
        report = Importer(home, source).bring()
        source.close()
    finally:
        system.stop()
    assert (report.counts["files"].source, report.counts["files"].here, report.is_complete) == (1, 1, True)
    with home.artifacts.read(home.artifacts.get(Place(run.id, "plots/größe.txt"))) as reader:
        assert b"".join(reader.chunks()) == b"deep"
