"""What `flyball export` writes is all there is, and comes back equal."""

import json
import random
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flyball.core.hashing import digest_file
from flyball.core.settings import Settings
from flyball.server.mlflow.app import MlflowApp
from flyball.storage import catalog
from flyball.storage.catalog import TableShape, insert_rows, list_shapes, read_pages
from flyball.workspace import exporting, restoring
from flyball.workspace.archives import ArchiveDamagedError, ArchiveInvalidError
from flyball.workspace.exporting import ArchiveExistsError, export_home
from flyball.workspace.home import Home
from flyball.workspace.restoring import HomeNotEmptyError, check_archive, restore_home
from tests.server.mlflow.calls import Calls
from tests.server.mlflow.sweeping import World
from tests.servers import PostgresqlServer

_SIGNS = string.ascii_letters + string.digits + "äß🎯 '\"\\%_\n"


@pytest.fixture(name="make")
def make_homes(tmp_path: Path) -> Iterator[Callable[[str], Home]]:
    homes: list[Home] = []

    def make(name: str) -> Home:
        homes.append(Home(tmp_path, tmp_path / name, is_durable=False))
        return homes[-1]

    yield make
    for home in homes:
        home.db.close()


def fill(home: Home, rows: int, seed: int = 1) -> None:
    """Put rows of all kinds of values into every table, and files into every folder."""
    dice = random.Random(seed)
    with home.db.begin() as tx:
        for shape in list_shapes():
            catalog.clear_table(tx, shape)
            insert_rows(tx, shape, [make_row(shape, number, dice) for number in range(rows)])
            if not shape.has_key:
                insert_rows(tx, shape, [make_row(shape, 0, random.Random(9))] * 3)
    for number in range(19):
        home.blobs.put_bytes(dice.randbytes(number * 1_000))
    # Long enough to be kept in pieces that several contents share.
    long = dice.randbytes(3_000_000)
    home.blobs.put_bytes(long)
    home.blobs.put_bytes(long[:1_500_000] + b"!" + long[1_500_000:])
    for name in ("packages/ab/model.pkl", "predictions/credit/2026-01-01/x.parquet", "predictions/credit/open/y.jsonl"):
        path = home.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dice.randbytes(2_000))


def make_row(shape: TableShape, number: int, dice: random.Random) -> tuple[Any, ...]:
    return tuple(_value(column.kind, number, dice, column.name in shape.key) for column in shape.columns)


def _value(kind: str, number: int, dice: random.Random, is_key: bool) -> Any:
    if kind == "INTEGER":
        return number - 5 if is_key else dice.choice([0, -1, 2**63 - 1, -(2**63), number])
    if kind == "REAL":
        return dice.choice([0.1, -0.0, 1e308, float("inf"), -float("inf"), float(number)])
    if kind == "BLOB":
        return dice.randbytes(dice.randrange(30))
    return f"{number:04}" + "".join(dice.choices(_SIGNS, k=dice.randrange(30)))


def read_all(home: Home) -> dict[str, list[tuple[Any, ...]]]:
    with home.db.read() as tx:
        return {shape.name: [row for page in read_pages(tx, shape, 10_000) for row in page] for shape in list_shapes()}


def list_files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): digest_file(path) for path in folder.rglob("*") if path.is_file()}


def test_a_home_comes_back_equal_and_is_exported_identically(make: Callable[[str], Home], tmp_path: Path) -> None:
    home, again = make("home"), make("again")
    fill(home, 40)
    manifest = export_home(home, tmp_path / "first")
    restore_home(tmp_path / "first", again)
    export_home(again, tmp_path / "second")
    assert list_files(tmp_path / "first") == list_files(tmp_path / "second")
    assert read_all(home) == read_all(again)
    assert list(home.blobs.list_digests()) == list(again.blobs.list_digests())
    for folder in ("packages", "predictions"):
        assert list_files(home.home / folder) == list_files(again.home / folder)
    assert check_archive(tmp_path / "first") == manifest
    assert manifest.files["blobs"].files == 21 and manifest.files["predictions"].files == 2


def test_tables_are_plain_parquet(make: Callable[[str], Home], tmp_path: Path) -> None:
    home = make("home")
    with home.db.begin() as tx:
        number = home.experiments.create(tx, "one")
        run = home.client_runs.create(tx, number, run_id="r" * 32).run
        home.client_runs.log(tx, run.id, params={"depth": "3"})
    export_home(home, tmp_path / "out")
    frame = pl.read_parquet(tmp_path / "out" / "tables" / "tracking_param" / "*.parquet")
    assert frame.select("name", "value").rows() == [("depth", "3")]
    told = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert told["tables"]["tracking_run"]["rows"] == 1
    empty = pl.read_parquet(tmp_path / "out" / "tables" / "tracking_span" / "*.parquet")
    assert empty.height == 0 and empty.columns[:2] == ["trace", "id"]


def test_every_kind_of_column_can_be_written() -> None:
    for shape in list_shapes():
        assert shape.key and {column.kind for column in shape.columns} <= set(exporting.KINDS), shape.name


@pytest.mark.parametrize("target_bytes", [1, 500, 1_000_000])
def test_pages_hold_every_row_once(
    make: Callable[[str], Home], target_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where equal rows of a table without a key meet the end of a page."""
    monkeypatch.setattr(catalog, "_FIRST_PAGE", 3)
    home = make("home")
    fill(home, 25)
    with home.db.read() as tx:
        for shape in list_shapes():
            names = ", ".join(column.name for column in shape.columns)
            found = [row for page in read_pages(tx, shape, target_bytes) for row in page]
            expected = tx.tuples(f"SELECT {names} FROM {shape.name} ORDER BY {', '.join(shape.key)}")
            assert found == expected, shape.name


def test_nothing_is_there_after_a_failure(
    make: Callable[[str], Home], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, again = make("home"), make("again")
    fill(home, 5)

    def tell(what: str) -> None:
        if what == "tracking_tag":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_home(home, tmp_path / "out", tell=tell)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))
    export_home(home, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        restore_home(tmp_path / "out", again, tell=tell)
    with again.db.read() as tx:
        assert tx.value("SELECT count(*) FROM journal_event") == 0
        assert tx.value("SELECT name FROM tracking_experiment") == "Default"
    restore_home(tmp_path / "out", again)
    assert read_all(home) == read_all(again)


def test_an_archive_never_mixes_with_other_files(make: Callable[[str], Home], tmp_path: Path) -> None:
    home = make("home")
    (tmp_path / "empty").mkdir()
    export_home(home, tmp_path / "empty")
    with pytest.raises(ArchiveExistsError):
        export_home(home, tmp_path / "empty")
    (tmp_path / "file").touch()
    with pytest.raises(ArchiveExistsError):
        export_home(home, tmp_path / "file")


def test_a_home_with_content_is_not_overwritten(make: Callable[[str], Home], tmp_path: Path) -> None:
    home, again = make("home"), make("again")
    fill(home, 3)
    export_home(home, tmp_path / "out")
    with again.db.begin() as tx:
        again.experiments.create(tx, "mine")
    with pytest.raises(HomeNotEmptyError, match="--home"):
        restore_home(tmp_path / "out", again)


def test_every_damaged_file_is_noticed(make: Callable[[str], Home], tmp_path: Path) -> None:
    home = make("home")
    fill(home, 3)
    export_home(home, tmp_path / "out")
    names = ["tables/tracking_run/00000.parquet", "listing/00000.parquet", "packages/ab/model.pkl"]
    names.append(next(path for path in list_files(tmp_path / "out") if path.startswith("blobs/")))
    for place, name in enumerate(names):
        path = tmp_path / "out" / name
        again = make(f"again {place}")
        good = path.read_bytes()
        for bad in (good[:-1], bytes([good[0] ^ 1]) + good[1:] if good else b"x", None):
            path.unlink() if bad is None else path.write_bytes(bad)
            with pytest.raises(ArchiveDamagedError, match=name):
                check_archive(tmp_path / "out")
            with pytest.raises(ArchiveDamagedError, match=name):
                restore_home(tmp_path / "out", again)
            path.write_bytes(good)
        assert read_all(again)["tracking_run"] == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda told: told.update(format=2), "reads 1"),
        (lambda told: told["migrations"].pop(), "another schema"),
        (lambda told: told["tables"].pop("tracking_run"), "tracking_run"),
        (lambda told: told["listing"][0].update(path="../outside"), "leads out"),
        (lambda told: told.update(tables=7), "cannot be read"),
    ],
)
def test_a_manifest_is_not_believed(
    make: Callable[[str], Home], tmp_path: Path, change: Callable[[Any], Any], said: str
) -> None:
    export_home(make("home"), tmp_path / "out")
    path = tmp_path / "out" / "manifest.json"
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))
    with pytest.raises(ArchiveInvalidError, match=said):
        restore_home(tmp_path / "out", make("again"))
    path.write_text("no json")
    with pytest.raises(ArchiveInvalidError):
        check_archive(tmp_path / "out")
    with pytest.raises(ArchiveInvalidError, match=r"manifest\.json"):
        check_archive(tmp_path)


def test_what_is_sealed_already_is_not_taken_twice(make: Callable[[str], Home], tmp_path: Path) -> None:
    home = make("home")
    opened = home.home / "predictions" / "credit" / "open"
    opened.mkdir(parents=True)
    for name in ("sealed.jsonl", "fresh.jsonl", ".half.tmp"):
        (opened / name).write_bytes(b"x")
    with home.db.begin() as tx:
        tx.execute("INSERT INTO prediction_sealed_source (name, endpoint) VALUES ('sealed', 'credit')")
    export_home(home, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "predictions").rglob("*") if path.is_file()] == ["fresh.jsonl"]


def test_the_reader_of_parts_stays_within_its_archive(tmp_path: Path) -> None:
    for path in ("/etc/passwd", "../x", "a/../../x", ""):
        with pytest.raises(ArchiveInvalidError):
            restoring._within(tmp_path, path)


def test_a_home_goes_from_one_database_to_the_other_and_back(
    tmp_path: Path, postgresql_server: PostgresqlServer
) -> None:
    """With all that clients of MLflow make: byte for byte the same archive, and the same answers."""

    def open_home(name: str, database: str = "") -> Home:
        settings = Settings(database=database, webhooks_to_private_addresses=True)
        return Home(tmp_path, tmp_path / name, settings=settings, is_durable=False)

    homes = [open_home("first"), open_home("second", postgresql_server.new_database()), open_home("third")]
    archives = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    asked: list[tuple[str, str, bytes]] = []
    answers: list[bytes] = []
    for place, (home, archive) in enumerate(zip(homes, archives, strict=True)):
        app = MlflowApp(home)
        if place:
            restore_home(archives[place - 1], home)
        else:
            asked = make_all(home, Calls(app))
        export_home(home, archive)
        assert list_files(archive) == list_files(archives[0])
        replies = [Calls(app).send(*one) for one in asked]
        assert [reply.status for reply in replies] == [200] * len(asked)
        answers = answers or [reply.body for reply in replies]
        assert [reply.body for reply in replies] == answers
        app.close()
    assert read_all(homes[0]) == read_all(homes[1]) == read_all(homes[2])
    for home in homes:
        home.db.close()


def make_all(home: Home, calls: Calls) -> list[tuple[str, str, bytes]]:
    """Make one of everything, a trace with spans, and what MLflow's clients can say of numbers; return questions."""
    world = World(home, calls)
    values = [("m", "NaN"), ("m", "Infinity"), ("m", "-Infinity"), ("m", 1e308), ("m", -0.0), ("m", 5e-324)]
    points = [{"key": key, "value": value, "timestamp": 7, "step": step} for step, (key, value) in enumerate(values)]
    calls.post("runs/log-batch", run_id=world.run, metrics=points, tags=[{"key": "é", "value": "名\n"}])
    span = {"traceId": "0" * 31 + "1", "spanId": "0" * 15 + "1", "name": "s", "startTimeUnixNano": "1", "kind": 1}
    spans = {"resourceSpans": [{"scopeSpans": [{"spans": [span | {"endTimeUnixNano": "2000000"}]}]}]}
    headers = {"x-mlflow-experiment-id": world.experiment}
    assert calls.send("POST", "/v1/traces", json.dumps(spans).encode(), headers=headers).status == 200
    trace = f"tr-{span['traceId']}"
    a, b = "/api/2.0/mlflow", "/api/3.0/mlflow"
    listing = {"experiment_ids": [world.experiment]}
    found = {"locations": [{"mlflow_experiment": {"experiment_id": world.experiment}}]}
    return [
        ("GET", f"{a}/runs/get?run_id={world.run}", b""),
        ("GET", f"{a}/metrics/get-history?run_id={world.run}&metric_key=m", b""),
        ("POST", f"{a}/runs/search", json.dumps(listing).encode()),
        ("POST", f"{a}/experiments/search", b"{}"),
        ("GET", f"{a}/registered-models/get?name={world.model_name}", b""),
        ("POST", f"{a}/model-versions/search", b"{}"),
        ("GET", f"{a}/logged-models/{world.model}", b""),
        ("GET", f"{a}/webhooks", b""),
        ("POST", f"{b}/traces/search", json.dumps(found).encode()),
        ("GET", f"{b}/traces/get?trace_id={trace}", b""),
        ("GET", f"{b}/traces/{world.trace}", b""),
        ("GET", f"/api/2.0/mlflow-artifacts/artifacts/{world.root}/model/MLmodel", b""),
    ]
