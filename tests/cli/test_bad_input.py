"""Each bad input, through the command a user gives: it is named, the way out is told, and nothing is half-written."""

import csv
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from tests.cli.conftest import Command, Kept, Said, can_mount, look_into
from tests.stories.system import environment, find_free_ports
from tests.stories.tiny import REQUEST, replace_endpoint, write_csv

NOTHING = Kept(versions=(), snapshots=(), packages=(), unfinished=(), journal_is_whole=True)
PARCELS = "parcel_id,shop_id,sent_at,weight_kg,rush"


def assert_refused(said: Said, *words: str) -> None:
    """It ended with 1, in words; no traceback, and no excuse that it is a bug."""
    text = said.out + said.err
    print(text)
    assert said.status == 1, text
    for word in words:
        assert word in text, text
    assert "Traceback" not in text
    assert "flyball/internal" not in text


def change(project: Path, old: str, new: str) -> None:
    file = project / "project.py"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def rows_of(project: Path, table: str) -> list[dict[str, str]]:
    with (project / "data" / f"{table}.csv").open() as file:
        return list(csv.DictReader(file))


def write_rows(project: Path, table: str, rows: list[dict[str, str]]) -> None:
    write_csv(project / "data" / f"{table}.csv", ",".join(rows[0]), [list(row.values()) for row in rows])


# the project file


def test_a_project_file_that_raises_is_named_with_its_line(project: Path, flyball: Command) -> None:
    change(project, "@fb.step\ndef train", 'raise ValueError("no luck")\n\n\n@fb.step\ndef train')
    assert_refused(flyball(project, "run", "training"), "project.py line 34", "ValueError: no luck", "hint")
    assert look_into(project) == NOTHING


def test_a_project_file_with_a_wrong_syntax_is_named_with_its_line(project: Path, flyball: Command) -> None:
    change(project, "def train(", "def train((")
    assert_refused(flyball(project, "run", "training"), "project.py line")


def test_a_folder_without_a_project_file_says_how_to_make_one(tmp_path: Path, flyball: Command) -> None:
    assert_refused(flyball(tmp_path, "run", "training"), "project.py", "flyball init")


def test_a_step_whose_annotation_does_not_fit_what_it_is_given(project: Path, flyball: Command) -> None:
    change(project, "def evaluate(model: Pipeline,", "def evaluate(model: int,")
    assert_refused(flyball(project, "run", "training"), "evaluate", "model", "int", "Pipeline")
    assert look_into(project) == NOTHING


def test_a_cycle_is_named_step_by_step(project: Path, flyball: Command) -> None:
    change(project, "    model = train(fit)\n", "    fit = training()\n    model = train(fit)\n")
    assert_refused(flyball(project, "run", "training"), "training → training")
    assert look_into(project) == NOTHING


def test_two_endpoints_of_one_name(project: Path, flyball: Command) -> None:
    with (project / "project.py").open("a") as file:
        file.write('other = fb.Endpoint(model="lateness", name="parcel")\n')
    assert_refused(flyball(project, "run", "training"), "two Endpoint", "'parcel'", "hint")
    assert look_into(project) == NOTHING


def test_an_unknown_pipeline_lists_those_there_are(project: Path, flyball: Command) -> None:
    assert_refused(flyball(project, "run", "trainng"), "'trainng'", "did you mean 'training'")


def test_an_unknown_parameter_is_named(project: Path, flyball: Command) -> None:
    assert_refused(flyball(project, "run", "training", "--param", "train.strenth=2"), "strenth", "strength")
    assert look_into(project) == NOTHING


def test_a_gate_on_a_metric_that_no_step_produced(project: Path, flyball: Command) -> None:
    change(project, 'fb.metric("auc") >= 0.55', 'fb.metric("f1") >= 0.55')
    said = flyball(project, "run", "training")
    assert_refused(said, "f1", "auc", "logloss")
    kept = look_into(project)
    assert (kept.versions, kept.packages, kept.unfinished) == ((), (), ())


def test_a_setting_that_nobody_knows(project: Path, flyball: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "flyball.toml").write_text("prot = 1\n")
    assert_refused(flyball(project, "status"), "'prot'", "flyball.toml", "did you mean 'port'")
    (project / "flyball.toml").write_text('port = "many"\n')
    assert_refused(flyball(project, "status"), "'port'", "flyball.toml")
    (project / "flyball.toml").unlink()
    monkeypatch.setenv("FLYBALL_PROT", "1")
    assert_refused(flyball(project, "status"), "'prot'", "environment")


# tables


def test_a_missing_table_is_named_with_its_path(project: Path, flyball: Command) -> None:
    (project / "data" / "arrivals.csv").unlink()
    assert_refused(flyball(project, "run", "training"), "arrivals", "arrivals.csv")
    assert look_into(project).versions == ()


def test_an_empty_table(project: Path, flyball: Command) -> None:
    write_csv(project / "data" / "parcels.csv", PARCELS, [])
    assert_refused(flyball(project, "run", "training"), "parcels", "no rows")
    kept = look_into(project)
    assert (kept.versions, kept.packages) == ((), ())
    (project / "data" / "parcels.csv").write_bytes(b"")
    assert_refused(flyball(project, "snapshot", "parcels"), "parcels", "empty")


@pytest.mark.parametrize("column", ["shop_id", "sent_at", "parcel_id"])
def test_a_table_without_a_column_that_the_project_names(project: Path, flyball: Command, column: str) -> None:
    rows = rows_of(project, "parcels")
    for row in rows:
        del row[column]
    write_rows(project, "parcels", rows)
    assert_refused(flyball(project, "run", "training"), "parcels", f"{column!r}", "weight_kg")
    assert look_into(project).versions == ()


def test_mixed_time_zones_are_refused_with_a_row_of_each(project: Path, flyball: Command) -> None:
    rows = rows_of(project, "parcels")
    rows[5]["sent_at"] = rows[5]["sent_at"].replace("Z", "")
    write_rows(project, "parcels", rows)
    assert_refused(flyball(project, "snapshot", "parcels"), "parcels", "sent_at", "zone")
    assert look_into(project) == NOTHING


def test_dates_that_cannot_be_read_are_shown(project: Path, flyball: Command) -> None:
    rows = rows_of(project, "parcels")
    rows[7]["sent_at"] = "yesterday"
    write_rows(project, "parcels", rows)
    assert_refused(flyball(project, "snapshot", "parcels"), "parcels", "sent_at", "'yesterday'")
    assert look_into(project) == NOTHING


def test_a_changed_schema_is_refused_until_it_is_accepted(trained: Path, flyball: Command) -> None:
    before = look_into(trained)
    rows = rows_of(trained, "parcels")
    for row in rows:
        row["weight"] = row.pop("weight_kg")
    write_rows(trained, "parcels", rows)
    said = flyball(trained, "run", "training")
    assert_refused(said, "parcels", "weight_kg", "weight", "--accept-schema-change")
    assert look_into(trained) == before
    assert_refused(flyball(trained, "snapshot", "parcels"), "weight_kg", "--accept-schema-change")
    assert flyball(trained, "snapshot", "parcels", "--accept-schema-change").status == 0


def test_a_truncated_parquet_file(project: Path, flyball: Command) -> None:
    change(project, "data/parcels.csv", "data/parcels.parquet")
    path = project / "data" / "parcels.parquet"
    pl.read_csv(project / "data" / "parcels.csv", try_parse_dates=True).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-500])
    assert_refused(flyball(project, "run", "training"), "parcels", "parcels.parquet")
    assert look_into(project).versions == ()


def test_rows_that_break_an_expectation_stop_the_pipeline_in_the_words_of_a_request(
    trained: Path, flyball: Command
) -> None:
    live = flyball(trained, "predict", "parcel", "--json", json.dumps(REQUEST | {"weight_kg": -8}))
    words = "weight_kg must be between 0 and 50, but -8"
    assert_refused(live, words)
    before = look_into(trained)
    rows = rows_of(trained, "parcels")
    rows[3]["weight_kg"] = "-8"
    write_rows(trained, "parcels", rows)
    assert_refused(flyball(trained, "run", "training"), words)
    assert look_into(trained).versions == before.versions


# versions


def test_approval_without_the_role_and_by_a_stranger(project: Path, flyball: Command) -> None:
    change(project, "    retrain=training,", '    retrain=training,\n    approval="risk-officer",')
    (project / "flyball.toml").write_text('[users]\nbob = ["trainee"]\nana = ["risk-officer"]\n')
    assert flyball(project, "run", "training").status == 0
    assert_refused(flyball(project, "approve", "lateness/1", "--as", "bob"), "bob", "risk-officer")
    assert_refused(flyball(project, "approve", "lateness/1", "--as", "eve"), "eve", "flyball.toml")
    assert "nothing yet" in flyball(project, "status").out
    assert flyball(project, "approve", "lateness/1", "--as", "ana").status == 0
    assert_refused(flyball(project, "approve", "lateness/1", "--as", "ana"), "lateness/1", "approved")


def test_references_that_mean_nothing(trained: Path, flyball: Command) -> None:
    assert_refused(flyball(trained, "approve", "lateness", "--as", "ana"), "'lateness'", "NAME/NUMBER")
    assert_refused(flyball(trained, "approve", "lateness/7", "--as", "ana"), "'lateness'", "no version 7")
    assert_refused(flyball(trained, "approve", "latenes/1", "--as", "ana"), "did you mean 'lateness'")
    assert_refused(flyball(trained, "history", "parsel", "--at", "2026-01-01"), "did you mean 'parcel'")
    assert_refused(flyball(trained, "history", "parcel", "--at", "soon"), "'soon'", "--at")
    assert_refused(flyball(trained, "history", "parsel"), "did you mean 'parcel'")
    assert_refused(flyball(trained, "snapshot", "parsels"), "did you mean 'parcels'")


def test_rollback_with_no_earlier_version(trained: Path, flyball: Command) -> None:
    assert_refused(flyball(trained, "rollback", "parcel"), "'lateness'", "version 1", "hint")
    assert_refused(flyball(trained, "rollback", "parsel"), "did you mean 'parcel'")
    assert "lateness/1" in flyball(trained, "status").out


def test_rollback_before_anything_was_trained(project: Path, flyball: Command) -> None:
    assert_refused(flyball(project, "rollback", "parcel"), "lateness", "hint")


def test_labels_and_traces_of_unknown_predictions(trained: Path, flyball: Command) -> None:
    assert_refused(flyball(trained, "label", "nonsense", "1"), "'nonsense'", "hint")
    assert_refused(flyball(trained, "trace", "nonsense"), "'nonsense'", "hint")


def test_predictions_of_what_is_not_there(trained: Path, flyball: Command) -> None:
    assert_refused(flyball(trained, "predict", "parsel", "--json", "{}"), "did you mean 'parcel'")
    assert_refused(flyball(trained, "predict", "parcel", "--json", "{oops"), "the request", "JSON")
    assert_refused(flyball(trained, "predict", "parcel", "--json", "[1]"), "the request")


def test_an_endpoint_whose_model_was_never_trained(project: Path, flyball: Command) -> None:
    replace_endpoint(project, 'parcel = fb.Endpoint(model="nobody")')
    assert_refused(flyball(project, "predict", "parcel", "--json", json.dumps(REQUEST)), "'nobody'", "flyball run")


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"weight_kg": None}, "weight_kg", "null"),
        ({"weight_kg": "heavy"}, "weight_kg", "heavy"),
        ({"weight_kg": 99}, "weight_kg", "between 0 and 50"),
        ({"rush": 2}, "rush", "0, 1"),
        ({"colour": "red"}, "colour", "colour"),
    ],
)
def test_a_bad_field_is_named(
    trained: Path, flyball: Command, changes: dict[str, object], field: str, words: str
) -> None:
    said = flyball(trained, "predict", "parcel", "--json", json.dumps(REQUEST | changes))
    assert_refused(said, field, words)


def test_a_missing_field_is_named(trained: Path, flyball: Command) -> None:
    request = {name: value for name, value in REQUEST.items() if name != "weight_kg"}
    assert_refused(flyball(trained, "predict", "parcel", "--json", json.dumps(request)), "weight_kg", "missing")


def test_a_first_label_that_is_no_number_is_refused_where_the_model_was_trained_on_numbers(
    trained: Path, flyball: Command
) -> None:
    prediction = json.loads(flyball(trained, "predict", "parcel", "--json", json.dumps(REQUEST)).out)["prediction_id"]
    assert_refused(flyball(trained, "label", prediction, "maybe"), "are numbers", "'maybe'")
    assert "turned out to be 1" in flyball(trained, "label", prediction, "true").out
    assert "taken back" in flyball(trained, "label", prediction, "null").out


# homes


def test_a_corrupted_row_of_the_journal_is_found_and_named(trained: Path, flyball: Command) -> None:
    assert flyball(trained, "audit", "verify").status == 0
    with sqlite3.connect(trained / ".flyball" / "flyball.db") as db:
        db.execute("UPDATE journal_event SET data = replace(data, '0', '9') WHERE seq = 4")
    db.close()
    assert_refused(flyball(trained, "audit", "verify"), "event 4", "digest")
    with sqlite3.connect(trained / ".flyball" / "flyball.db") as db:
        db.execute("UPDATE journal_event SET data = '{broken' WHERE seq = 3")
    db.close()
    assert_refused(flyball(trained, "audit", "verify"), "event 3")
    said = flyball(trained, "status")
    assert "Traceback" not in said.err
    assert "flyball/internal" not in said.err


def test_a_home_that_is_no_home(trained: Path, flyball: Command, tmp_path: Path) -> None:
    (trained / ".flyball" / "flyball.db").write_bytes(b"this is no database, but it is long enough to be one" * 100)
    for name in ("flyball.db-wal", "flyball.db-shm"):
        (trained / ".flyball" / name).unlink(missing_ok=True)
    assert_refused(flyball(trained, "status"), "flyball.db", "--home")


@pytest.mark.skipif(not can_mount(), reason="no mount namespaces here")
@pytest.mark.parametrize(
    "command",
    [
        ("run", "training"),
        ("predict", "parcel", "--json", json.dumps(REQUEST)),
        ("score", "parcel", "--table", "parcels", "--out", "scores"),
        ("export", "all.tar"),
    ],
    ids=lambda command: command[0],
)
def test_a_project_on_a_disk_that_is_read_only(trained: Path, command: tuple[str, ...]) -> None:
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && cd "$0" && exec "$@"'
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script, str(trained), sys.executable, "-m", "flyball.cli.main", *command],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
        check=False,
    )
    assert_refused(Said(done.returncode, done.stdout, done.stderr), "flyball/file-refused", str(trained), "hint")


def test_a_number_of_a_version_that_no_database_holds(trained: Path, flyball: Command) -> None:
    for number in ("9" * 23, "9" * 5_000):
        assert_refused(flyball(trained, "test", "parcel", "--version", number), "is not a model version", "999")


def test_an_address_that_a_killed_system_left_misleads_nobody(trained: Path, flyball: Command) -> None:
    left = {"pid": os.getpid(), "host": "127.0.0.1", "port": find_free_ports()}
    (trained / ".flyball" / "up.json").write_text(json.dumps(left))
    said = flyball(trained, "predict", "parcel", "--json", json.dumps(REQUEST))
    assert (said.status, json.loads(said.out)["status"]) == (0, "ok")
    assert_refused(flyball(trained, "rollback", "parcel"), "no earlier version")


def test_up_refuses_to_listen_where_other_machines_may_reach_it(trained: Path, flyball: Command) -> None:
    for host in ("0.0.0.0", "::", "example.invalid"):
        assert_refused(flyball(trained, "up", "--host", host), host, "127.0.0.1")


def test_a_damaged_package_is_not_served(trained: Path, flyball: Command) -> None:
    [package] = (trained / ".flyball" / "packages").iterdir()
    model = next(path for path in (package / "model").rglob("*") if path.is_file())
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    said = flyball(trained, "predict", "parcel", "--json", json.dumps(REQUEST))
    assert_refused(said, "damaged", "hint")


def test_neither_demo_nor_init_overwrites_a_project_of_ones_own(trained: Path, flyball: Command) -> None:
    for command in (["demo", "--project", str(trained)], ["init", str(trained)]):
        assert_refused(flyball(None, *command), str(trained), "hint")
    assert (trained / "project.py").exists()


@pytest.mark.parametrize(
    "asked",
    [("data", "profile", "parcels", "--html", "project.py/page.html"), ("data", "ls", "--home", "project.py/home")],
)
def test_a_place_where_nothing_can_be_written_is_named(
    project: Path, flyball: Command, monkeypatch: pytest.MonkeyPatch, asked: tuple[str, ...]
) -> None:
    monkeypatch.chdir(project)
    assert_refused(flyball(project, *asked), "flyball/file-refused", "project.py", "hint")
