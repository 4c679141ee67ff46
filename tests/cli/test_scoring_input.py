"""Scoring, replaying and testing, asked for what cannot be: named, with the way out, and nothing half-written."""

import json
from pathlib import Path

from tests.cli.conftest import Command
from tests.cli.test_bad_input import assert_refused
from tests.stories.tiny import REQUEST


def test_nothing_is_scored_before_a_version_is_live(project: Path, flyball: Command) -> None:
    out = project / "scores"
    said = flyball(project, "score", "parcel", "--table", "parcels", "--out", str(out))
    assert_refused(said, "no version of 'lateness' is live", "flyball run")
    assert not out.exists()


def test_unknown_names_are_told_with_close_ones(trained: Path, flyball: Command) -> None:
    out = str(trained / "scores")
    assert_refused(flyball(trained, "score", "parcels", "--table", "parcels", "--out", out), "endpoint", "'parcel'")
    assert_refused(flyball(trained, "score", "parcel", "--table", "parcel", "--out", out), "table", "'parcels'")
    table = ("score", "parcel", "--table", "parcels", "--out", out)
    assert_refused(flyball(trained, *table, "--version", "7"), "has no version 7", "1")
    assert_refused(flyball(trained, *table, "--version", "other/1"), "other/1 is no version of 'lateness'")
    assert_refused(flyball(trained, *table, "--version", "newest"), "'lateness/newest' is not a model version")
    assert_refused(flyball(trained, *table, "--keep", "colour"), "no column 'colour'")
    assert not (trained / "scores").exists()


def test_outputs_that_cannot_be_are_refused(trained: Path, flyball: Command) -> None:
    (trained / "mine").mkdir()
    (trained / "mine" / "notes.txt").write_text("keep")
    table = ("score", "parcel", "--table", "parcels", "--out")
    assert_refused(flyball(trained, *table, str(trained / "mine")), "serving/output-taken", "holds something already")
    assert_refused(flyball(trained, *table, str(trained / "project.py")), "it is a file")
    assert_refused(flyball(trained, *table, "s3://bucket/scores"), "must be a folder of this machine")
    assert_refused(
        flyball(trained, "score", "parcel", "--table", "arrivals", "--out", str(trained / "scores")),
        *("serving/table-unfit", "no column 'weight_kg'", "no column 'rush'"),
    )
    assert sorted(path.name for path in (trained / "mine").iterdir()) == ["notes.txt"]


def test_a_replay_of_traffic_needs_traffic_and_a_version(trained: Path, flyball: Command) -> None:
    replay = ("replay", "parcel", "--candidate")
    assert_refused(flyball(trained, *replay, "1"), "workspace/no-traffic", "answered nothing since", "--last")
    assert_refused(flyball(trained, *replay, "9"), "has no version 9")
    assert_refused(flyball(trained, *replay, "1", "--last", "soon"), "--last 'soon' is not a duration")
    assert flyball(trained, "predict", "parcel", "--json", json.dumps(REQUEST)).status == 0
    assert_refused(flyball(trained, *replay, "1", "--threshold", "5"), "the threshold 5 is no chance")
    assert flyball(trained, *replay, "1", "--threshold", "0.4").status == 0
    assert flyball(trained, *replay, "1", "--policy", "never").status == 2
    assert flyball(trained, "replay", "--last", "3d").status == 2


def test_a_test_of_a_service_is_judged_by_its_status(trained: Path, flyball: Command) -> None:
    passed = flyball(trained, "test", "parcel")
    assert (passed.status, passed.out.count("ok  ")) == (0, 6)
    slow = flyball(trained, "test", "parcel", "--p99", "1us")
    assert slow.status == 1
    assert "FAILED  load" in slow.out and "the limit is 0.001 ms" in slow.out
    assert_refused(flyball(trained, "test", "parcel", "--p99", "fast"), "--p99 'fast' is not a duration")
    assert_refused(flyball(trained, "test", "nobody"), "no endpoint")


def test_an_online_store_that_is_away_is_no_fault_of_the_model(trained: Path, flyball: Command) -> None:
    (trained / "flyball.toml").write_text('online = "redis://127.0.0.1:1/0"')
    said = flyball(trained, "predict", "parcel", "--json", json.dumps(REQUEST))
    assert said.status == 75
    assert "serving/features-unavailable" in said.err and "online_fallback" in said.err
