"""`flyball gc`: what was deleted long ago goes with its bytes, what anything refers to stays."""

import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import flyball as fb
from flyball.core.clock import SimulatedClock
from flyball.core.errors import ConflictError, NotFoundError
from flyball.core.files import holding_lock
from flyball.domain.data.snapshots import SnapshotNotFoundError
from flyball.domain.tracking.artifacts import Place
from flyball.domain.tracking.runs import RunNotFoundError, RunStatus
from flyball.server.mlflow.app import MlflowApp
from flyball.storage.catalog import list_shapes, read_pages
from flyball.workspace.collecting import Collected, Collector
from flyball.workspace.home import Home
from flyball.workspace.workspace import Workspace
from tests.server.mlflow.calls import A, Calls
from tests.stories.tiny import write_tiny

MONTH = timedelta(days=31)


@pytest.fixture(name="home")
def make_home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path, tmp_path / "home", clock=SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC)), is_durable=False)
    yield home
    home.db.close()


def make_old(home: Home) -> None:
    """Let bytes be as if nobody had used them for long."""
    for folder in (home.home / "blobs", home.home / "packages"):
        for path in folder.rglob("*"):
            if not path.name.startswith("chunks"):
                os.utime(path, (1.0, 1.0))


def wait(home: Home) -> None:
    """Let a month pass."""
    assert isinstance(home.clock, SimulatedClock)
    home.clock.advance(MONTH)
    make_old(home)


def log_run(home: Home, name: str, experiment_id: int = 0) -> str:
    """Make a client's run with a file, a parameter, a point and a tag."""
    with home.db.begin() as tx:
        run_id = home.client_runs.create(tx, experiment_id, name=name, tags={"k": name}).run.id
        home.client_runs.log(tx, run_id, params={"p": name})
        home.artifacts.put_bytes(tx, Place(run_id, "model/weights"), f"weights of {name}".encode())
        home.artifacts.put_bytes(tx, Place(run_id, "shared"), b"the same in all")
    return run_id


def collect(home: Home, *, is_dry: bool = False) -> Collected:
    return Collector(home).collect(is_dry=is_dry)


def read(home: Home, place: Place) -> bytes:
    with home.artifacts.read(home.artifacts.get(place)) as reader:
        return b"".join(reader.chunks())


def rows_of(home: Home, run_id: str) -> int:
    """Return how many rows name a run, or stand under its number."""
    with home.db.read() as tx:
        return sum(
            run_id in map(str, row)
            for shape in list_shapes()
            if not shape.name.startswith("journal")
            for page in read_pages(tx, shape, 1 << 20)
            for row in page
        )


def test_runs_deleted_long_ago_go_with_all_that_is_theirs(home: Home) -> None:
    gone, kept, restored = (log_run(home, name) for name in ("gone", "kept", "restored"))
    with home.db.begin() as tx:
        for run_id in (gone, restored):
            home.client_runs.delete(tx, run_id)
    wait(home)
    with home.db.begin() as tx:
        home.client_runs.restore(tx, restored)
    recent = log_run(home, "recent")
    with home.db.begin() as tx:
        home.client_runs.delete(tx, recent)
    make_old(home)
    told = collect(home, is_dry=True)
    assert rows_of(home, gone) > 0
    found = collect(home)
    assert told == Collected(**{**{name: getattr(found, name) for name in found.__struct_fields__}, "is_dry": True})
    assert (found.runs, found.artifacts, found.storage.blobs) == (1, 2, 1)
    assert found.freed_bytes == len(b"weights of gone")
    assert rows_of(home, gone) == 0
    with pytest.raises(RunNotFoundError):
        home.client_runs.get(gone)
    for run_id, name in ((kept, "kept"), (restored, "restored"), (recent, "recent")):
        assert read(home, Place(run_id, "model/weights")) == f"weights of {name}".encode()
        assert read(home, Place(run_id, "shared")) == b"the same in all"
    event = home.journal.list_events(kinds=["storage.garbage.collected"])[-1]
    assert event.data == {"runs": 1, "artifacts": 2, "freed_bytes": 15}
    assert collect(home).freed_bytes == 0
    assert len(home.journal.list_events(kinds=["storage.garbage.collected"])) == 1


def test_experiments_and_logged_models_deleted_long_ago_go(home: Home) -> None:
    with home.db.begin() as tx:
        first, second = (home.experiments.create(tx, name, tags={"k": "v"}) for name in ("first", "second"))
        run_id = home.client_runs.create(tx, first).run.id
        model = home.logged_models.create(tx, first, name="m", tags={"a": "b"}, params={"c": "d"})
        kept = home.logged_models.create(tx, second, name="m")
        for one in (model, kept):
            home.artifacts.put_bytes(tx, Place(one.id, "MLmodel"), one.id.encode())
        home.logged_models.delete(tx, model.id)
        home.experiments.delete(tx, first)
        home.experiments.delete(tx, second)
    wait(home)
    found = collect(home)
    assert (found.runs, found.experiments, found.logged_models, found.storage.blobs) == (1, 1, 1, 1)
    assert rows_of(home, run_id) == rows_of(home, model.id) == 0
    with pytest.raises(NotFoundError):
        home.experiments.get(first)
    # Its model is not deleted, so neither is what the model lies in.
    assert home.experiments.get(second).is_deleted
    assert read(home, Place(kept.id, "MLmodel")) == kept.id.encode()


def test_all_that_a_client_made_and_deleted_gives_its_bytes_back(home: Home) -> None:
    """Over the protocol: a run, a logged model, versions of both, and traces, each with files of its own."""
    app = MlflowApp(home)
    calls = Calls(app)

    def put(folder: str, name: str) -> None:
        address = f"/api/2.0/mlflow-artifacts/artifacts/{folder}/{name}"
        assert calls.send("PUT", address, os.urandom(500_000), "text/plain").status == 200

    def post(path: str, /, **fields: Any) -> Any:
        return json.loads(calls.send("POST", path, json.dumps(fields).encode()).body)

    experiment = calls.post("experiments/create", name="e")["experiment_id"]
    run = calls.post("runs/create", experiment_id=experiment)["run"]["info"]["run_id"]
    put(f"{experiment}/{run}/artifacts", "model/MLmodel")
    model = calls.post("logged-models", experiment_id=experiment)["model"]["info"]["model_id"]
    put(f"{experiment}/models/{model}/artifacts", "MLmodel")
    calls.post("registered-models/create", name="m")
    calls.post("model-versions/create", name="m", source=f"runs:/{run}/model", run_id=run)
    calls.post("model-versions/create", name="m", source=f"models:/{model}", model_id=model)
    place = {"mlflow_experiment": {"experiment_id": experiment}}
    traces = [f"tr-{number:032x}" for number in range(2)]
    for trace in traces:
        told = {"trace_id": trace, "trace_location": place, "request_time": "2026-01-01T00:00:00Z"}
        found = post("/api/3.0/mlflow/traces", trace={"trace_info": told})["trace"]["trace_info"]
        put(found["tags"]["mlflow.artifactLocation"].removeprefix("mlflow-artifacts:/"), "traces.json")
    begun = post("/api/2.0/mlflow-artifacts/mpu/create", path="f", num_parts=1)
    calls.send("PUT", f"/api/2.0/mlflow-artifacts/mpu/parts/{begun['upload_id']}/1", b"never completed", "")
    wait(home)
    found = collect(home).storage
    assert (found.blobs, found.unfinished) == (0, 1), "all is referred to but the upload"

    calls.send("DELETE", f"{A}registered-models/delete", b'{"name": "m"}')
    calls.send("DELETE", f"{A}logged-models/{model}")
    post("/api/3.0/mlflow/traces/delete-traces", experiment_id=experiment, request_ids=traces[:1])
    make_old(home)
    found = collect(home)
    assert (found.storage.blobs, found.freed_bytes) == (1, 500_000), "of the trace; all else may still be restored"
    calls.post("experiments/delete", experiment_id=experiment)
    assert isinstance(home.clock, SimulatedClock)
    home.clock.advance(MONTH)
    told = collect(home, is_dry=True)
    found = collect(home)
    assert (found.runs, found.experiments, found.logged_models, found.storage.blobs) == (1, 1, 1, 3)
    assert found.freed_bytes == told.freed_bytes == 1_500_000
    assert list(home.blobs.list_digests()) == []
    assert [rows_of(home, trace) for trace in traces] == [0, 0]
    app.close()


def test_a_deleted_run_that_made_a_version_stays(home: Home) -> None:
    run_id = log_run(home, "trained")
    with home.db.begin() as tx:
        home.client_registry.create_model(tx, "m")
        home.client_registry.create_version(tx, "m", f"runs:/{run_id}/model", run_id=run_id)
        home.client_runs.delete(tx, run_id)
    wait(home)
    found = collect(home)
    assert (found.runs, found.kept_runs) == (0, 1)
    assert read(home, Place(run_id, "model/weights")) == b"weights of trained"
    with home.db.begin() as tx:
        home.client_registry.delete_version(tx, "m", 1)
    wait(home)
    assert collect(home).runs == 1


def test_bytes_that_come_in_stay_until_they_are_named(home: Home) -> None:
    digest = home.blobs.put_bytes(b"uploaded, and named in a moment")
    assert collect(home).freed_bytes == 0
    assert home.blobs.has(digest)
    make_old(home)
    assert collect(home).storage.blobs == 1


def test_what_a_run_in_progress_wrote_stays(home: Home) -> None:
    run = home.tracking.start_run("training")
    digest = home.blobs.put_bytes(b"what a long step has written, and will record when it ends")
    two_days_ago = home.blobs.now() - 2 * 86_400
    os.utime(home.blobs.place(digest), (two_days_ago, two_days_ago))
    assert isinstance(home.clock, SimulatedClock)
    home.clock.advance(timedelta(days=1, hours=12))
    assert collect(home).storage.blobs == 0
    home.tracking.finish_run(run.id, RunStatus.FAILED)
    assert collect(home).storage.blobs == 1


def test_old_states_of_a_table_go_unless_something_read_them(home: Home, tmp_path: Path) -> None:
    table = fb.Table("labels.csv", name="labels")
    file = tmp_path / "labels.csv"
    snapshots = []
    for number in range(6):
        rows = "".join(f"{key},{(key * 7 + number) % 10}\n" for key in range(1_000))
        file.write_text(f"key,label\n{rows}", encoding="utf-8")
        snapshots.append(home.data.watch(table))
    run = home.tracking.start_run("training")
    home.tracking.log_input(run.id, "snapshot", snapshots[2].id)
    wait(home)
    assert collect(home).snapshots == 4, "the run is not in progress any more: it is open for a month"
    home.tracking.finish_run(run.id, RunStatus.SUCCEEDED)
    for number in (2, 5):
        assert home.data.read(snapshots[number].id).collect().height == 1_000
    with pytest.raises(SnapshotNotFoundError):
        home.data.read(snapshots[0].id)
    assert len(home.data.list("labels")) == 2
    file.write_text("key,label\n" + "".join(f"{key},{key * 7 % 10}\n" for key in range(1_000)), encoding="utf-8")
    assert home.data.watch(table).id == snapshots[0].id
    assert home.data.read(snapshots[0].id).collect().height == 1_000


def test_no_state_of_a_table_goes_while_a_run_is_in_progress(home: Home, tmp_path: Path) -> None:
    table = fb.Table("labels.csv", name="labels")
    for number in range(3):
        (tmp_path / "labels.csv").write_text(f"key\n{number}\n", encoding="utf-8")
        home.data.snapshot(table)
    wait(home)
    home.tracking.start_run("training")
    assert collect(home).snapshots == 0


def test_files_that_rows_are_about_stay_with_them(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"first")
    table = fb.Table("images", files="*.png", name="images")
    first = home.data.snapshot(table)
    (folder / "a.png").write_bytes(b"second, and larger")
    second = home.data.snapshot(table)
    wait(home)
    found = collect(home)
    assert found.snapshots == 1
    files = home.data.read(second.id).collect()["file"]
    assert [Path(file).read_bytes() for file in files] == [b"second, and larger"]
    with pytest.raises(SnapshotNotFoundError):
        home.data.read(first.id)


def test_packages_that_no_version_has_go(home: Home) -> None:
    root = home.registry.packages_root
    for name in ("a" * 64, "b" * 64):
        (root / name).mkdir(parents=True)
        (root / name / "manifest.json").write_bytes(b"{}")
    with home.db.begin() as tx:
        home.client_registry.create_model(tx, "m")
        home.client_registry.create_version(tx, "m", "s3://elsewhere/m")
        tx.execute("UPDATE registry_version SET package_digest = ?", ("a" * 64,))
    assert collect(home).packages == 0
    make_old(home)
    assert collect(home, is_dry=True).packages == 1
    assert collect(home).packages == 1
    assert [path.name for path in root.iterdir()] == ["a" * 64]


def test_two_collect_one_after_the_other(home: Home) -> None:
    home.home.mkdir(exist_ok=True)
    with holding_lock(home.home / "gc.lock", held_message="held"), pytest.raises(ConflictError, match="collecting"):
        collect(home)


def test_uploads_go_on_while_garbage_is_collected(home: Home) -> None:
    """The same few contents are written, named, unnamed and collected over and over."""
    contents = [bytes([number]) * 1_000 for number in range(5)]

    def upload() -> None:
        for number in range(40):
            place, data = Place("", f"file{number % 3}"), contents[number % 5]
            with home.artifacts.writing() as writer:
                writer.write(data)
                digest = writer.finish()
            with home.db.begin() as tx:
                home.artifacts.put(tx, place, digest, len(data))
            assert read(home, place) == data
            with home.db.begin() as tx:
                home.artifacts.delete(tx, place)
            os.utime(home.blobs.place(digest), (1.0, 1.0))
        home.db.close()

    with ThreadPoolExecutor(1) as executor:
        uploads = executor.submit(upload)
        freed = 0
        while not uploads.done():
            freed += collect(home).storage.blobs
        uploads.result()
    assert freed > 0


def test_nothing_that_a_whole_project_refers_to_goes(tmp_path: Path) -> None:
    """Every digest anywhere in the tables that names stored bytes still names them after a collection."""
    folder = write_tiny(tmp_path / "project")
    workspace = Workspace(folder, folder / ".flyball", is_durable=False)
    workspace.run("training")
    workspace.snapshot("parcels")
    blobs = set(workspace.blobs.list_digests())
    named = set()
    with workspace.db.read() as tx:
        for shape in list_shapes():
            for page in read_pages(tx, shape, 1 << 20):
                named |= {found for row in page for found in re.findall(r"\b[0-9a-f]{64}\b", str(row))}
    packages = {path.name for path in (workspace.home / "packages").iterdir()}
    assert blobs & named
    make_old(workspace)
    stray = workspace.blobs.put_bytes(b"nothing names this")
    make_old(workspace)
    found = Collector(workspace, older_than=timedelta(microseconds=1)).collect()
    assert found.storage.blobs >= 1
    assert set(workspace.blobs.list_digests()) == blobs - {stray}
    assert {path.name for path in (workspace.home / "packages").iterdir()} == packages
    workspace.db.close()


def test_each_batch_looks_only_at_its_own_runs(home: Home) -> None:
    runs = [log_run(home, str(number)) for number in range(230)]
    with home.db.begin() as tx:
        for run in runs:
            home.client_runs.delete(tx, run)
    wait(home)
    asked: list[str] = []
    with home.db.read():
        pass
    connection = home.db._backend._local.connection  # type: ignore[attr-defined]
    connection.set_trace_callback(asked.append)
    assert collect(home).runs == 230
    connection.set_trace_callback(None)
    of_all = [
        sql for sql in asked if "FROM tracking_run WHERE deleted_at_us <" in sql or "SELECT run_id, run_link" in sql
    ]
    assert 0 < len(of_all) <= 4, "what grows with the deleted runs is asked for once, not with each batch"
