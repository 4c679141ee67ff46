import errno
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from flyball.core.durations import to_us
from flyball.core.errors import BackendError, ConflictError, NotFoundError
from flyball.domain.data.expectations import column
from flyball.domain.predictions.log import LogUnavailableError
from flyball.domain.serving.answers import RequestRefusedError
from flyball.domain.serving.fleet import NothingLiveError
from flyball.domain.serving.rollouts import Move, canary, shadow
from flyball.domain.serving.scoring import ModelFailedError

from .conftest import FEATURE_TIME, REQUEST, START, House, breaks, fixed


def test_an_answer_says_who_gave_it_and_what_it_rests_on(house: House) -> None:
    house.go_live(house.add(1, lambda frame: frame["burden"] / 100 + frame["late"]))
    [answer] = house.plane.predict("credit", [REQUEST])
    assert answer.prediction == pytest.approx(1000 / 12 / 100 + 1)
    assert (answer.model_version, answer.variant, answer.endpoint, answer.status) == ("m/1", "live", "credit", "ok")
    assert answer.features["payments"].version == "v1"
    assert answer.features["payments"].event_time == FEATURE_TIME


def test_what_is_answered_is_in_the_log(house: House) -> None:
    house.go_live(house.add(1, fixed(0.5)))
    [answer] = house.plane.predict("credit", [REQUEST])
    record = house.predictions.get(answer.prediction_id)
    assert record.request_fields == REQUEST
    assert record.feature_values == {"income": 1000.0, "term": 12, "late": 1.0, "burden": 1000 / 12}
    assert (record.entity, record.prediction, record.at, record.latency_us > 0) == (
        {"customer_id": 1},
        0.5,
        START,
        True,
    )


def test_many_rows_are_answered_like_single_ones(house: House) -> None:
    house.go_live(house.add(1, lambda frame: frame["burden"]))
    rows = [{**REQUEST, "customer_id": number, "income": float(number)} for number in range(100)]
    together = [answer.prediction for answer in house.plane.predict("credit", rows)]
    assert together == [house.plane.predict_one("credit", row).prediction for row in rows]
    records = house.sealed()
    first, second = records[:100], records[100:]
    assert (
        first["features"]
        .str.json_decode(pl.Struct({"late": pl.Float64, "burden": pl.Float64}))
        .equals(second["features"].str.json_decode(pl.Struct({"late": pl.Float64, "burden": pl.Float64})))
    )


def test_a_row_is_about_its_own_time_or_the_time_it_is_asked(house: House) -> None:
    house.go_live(house.add(1, lambda frame: frame["late"].is_null().cast(float)))
    own = {**REQUEST, "applied_at": "2026-02-01T00:00:00"}
    without = {name: value for name, value in REQUEST.items() if name != "applied_at"}
    asked = [START, START + timedelta(hours=1), START + timedelta(days=2)]
    answers = house.plane.predict("credit", [own, without, without], asked)
    records = [house.predictions.get(answer.prediction_id) for answer in answers]
    assert [record.at for record in records] == asked
    assert [record.time_us for record in records[1:]] == [record.at_us for record in records[1:]]
    assert records[0].time_us == to_us(datetime(2026, 2, 1, tzinfo=UTC))
    # Stored features are those of the time it is asked, however old the row is that it is about.
    assert [answer.features["payments"].event_time for answer in answers] == [FEATURE_TIME, FEATURE_TIME, None]
    assert [answer.prediction for answer in answers] == [0.0, 0.0, 1.0]


def test_an_entity_never_seen_has_no_stored_features(house: House) -> None:
    house.go_live(house.add(1, lambda frame: frame["late"].is_null().cast(float)))
    [answer] = house.plane.predict("credit", [{**REQUEST, "customer_id": 77}])
    assert (answer.prediction, answer.features["payments"].event_time) == (1.0, None)


BAD = [
    ({"income": "x"}, "income", "type"),
    ({"income": float("nan")}, "income", "nan"),
    ({"income": None}, "income", "null"),
    ({"income": -8.0}, "income", "between"),
    ({"incme": 1}, "incme", "unknown"),
    ({"term": 1.5}, "term", "type"),
    ({"term": 2**70}, "term", "type"),
]


@pytest.mark.parametrize(("change", "field", "rule"), BAD, ids=[rule for _, _, rule in BAD])
def test_a_wrong_row_is_refused_logged_and_spoils_no_other(house: House, change: Any, field: str, rule: str) -> None:
    house.go_live(house.add(1, fixed(0.5)))
    good, bad = house.plane.predict("credit", [REQUEST, {**REQUEST, **change}])
    assert (good.status, bad.status, bad.prediction) == ("ok", "refused", None)
    assert [(problem.field, problem.rule) for problem in bad.errors] == [(field, rule)]
    record = house.predictions.get(bad.prediction_id)
    assert (record.status.value, record.reasons[0].message) == ("refused", bad.errors[0].message)


def test_all_problems_are_told_together(house: House) -> None:
    house.go_live(house.add(1, fixed(0.5)))
    with pytest.raises(RequestRefusedError) as caught:
        house.plane.predict_one("credit", {"customer_id": "a", "income": True, "colour": 1})
    assert {(problem.field, problem.rule) for problem in caught.value.problems} == {
        ("customer_id", "type"),
        ("income", "type"),
        ("term", "missing"),
        ("colour", "unknown"),
    }


@pytest.mark.parametrize("row", [None, 5, "x", [1]])
def test_a_row_that_is_no_object_is_refused(house: House, row: Any) -> None:
    house.go_live(house.add(1, fixed(0.5)))
    [answer] = house.plane.predict("credit", [row])
    assert (answer.status, answer.errors[0].rule) == ("refused", "type")


def test_an_endpoint_may_quarantine_what_it_would_refuse(tmp_path: Path) -> None:
    house = House(tmp_path, on_violation="quarantine")
    house.go_live(house.add(1, fixed(0.5)))
    answers = house.plane.predict("credit", [{**REQUEST, "income": -8.0}, {**REQUEST, "income": "x"}])
    assert [answer.status for answer in answers] == ["quarantined", "refused"]
    assert house.sealed()["status"].to_list() == ["quarantined", "refused"]


def test_each_rules_severity_counts(house: House) -> None:
    rules = (column("income").at_least(0).or_quarantine(), column("term").is_in([12]).or_warn())
    house.go_live(house.add(1, fixed(0.5), *rules))
    odd, warned = house.plane.predict("credit", [{**REQUEST, "income": -8.0}, {**REQUEST, "term": 13}])
    assert (odd.status, warned.status, warned.prediction) == ("quarantined", "ok", 0.5)
    assert warned.warnings[0].message == "term must be one of 12, but 13 was given"


def test_an_unknown_endpoint_and_one_without_a_version_are_told_apart(house: House) -> None:
    with pytest.raises(NotFoundError, match="did you mean 'credit'"):
        house.plane.predict("credti", [REQUEST])
    with pytest.raises(ConflictError, match="no version of 'm' is live"):
        house.plane.predict("credit", [REQUEST])


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (breaks("no"), "ValueError: no"),
        (fixed(float("nan")), "it gave nan"),
        (lambda _: np.ones(7), "7 predictions for 1 rows"),
    ],
)
def test_a_model_that_fails_is_logged_as_such(house: House, output: Callable[..., Any], reason: str) -> None:
    house.go_live(house.add(1, output))
    with pytest.raises(ModelFailedError, match=reason):
        house.plane.predict_one("credit", REQUEST)
    [row] = house.sealed().to_dicts()
    assert (row["status"], row["prediction"]) == ("error", None)
    assert reason in row["reasons"]


def test_several_classes_are_answered_by_name_with_their_scores(house: House) -> None:
    house.go_live(house.add(1, lambda _: [[0.2, 0.7, 0.1]], classes=("a", "b", "c")))
    answer = house.plane.predict_one("credit", REQUEST)
    assert (answer.prediction, answer.scores) == ("b", {"a": 0.2, "b": 0.7, "c": 0.1})
    assert house.predictions.get(answer.prediction_id).scores == [0.2, 0.7, 0.1]


def test_nothing_is_answered_that_cannot_be_logged(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.go_live(house.add(1, fixed(0.5)))

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(LogUnavailableError):
            house.plane.predict("credit", [REQUEST])
    assert house.plane.predict_one("credit", REQUEST).is_ok


def test_a_shadow_is_logged_and_never_touches_the_answer(house: House) -> None:
    house.go_live(house.add(1, fixed(0.25)))
    house.start(house.add(2, fixed(0.75)), shadow("1h"))
    answer = house.plane.predict_one("credit", REQUEST)
    assert (answer.prediction, answer.variant) == (0.25, "live")
    rows = house.sealed()
    assert rows["variant"].to_list() == ["live", "shadow"]
    assert rows["prediction"].to_list() == [0.25, 0.75]
    assert rows["shadow_of"].to_list() == [None, answer.prediction_id]
    assert rows["stage"].to_list() == ["shadow", "shadow"]


def test_a_shadow_that_fails_costs_nobody_anything(house: House) -> None:
    house.go_live(house.add(1, fixed(0.25)))
    house.start(house.add(2, breaks("no")), shadow("1h"))
    assert house.plane.predict_one("credit", REQUEST).prediction == 0.25
    assert house.sealed()["status"].to_list() == ["ok", "error"]


def test_a_shadows_work_can_wait_until_the_answer_is_out(house: House) -> None:
    house.go_live(house.add(1, fixed(0.25)))
    house.start(house.add(2, fixed(0.75)), shadow("1h"))
    later: list[Callable[[], None]] = []
    house.plane.predict("credit", [REQUEST], defer=later.append)
    [work] = later
    work()
    assert house.sealed()["variant"].to_list() == ["live", "shadow"]


def test_a_canary_answers_its_share_and_each_entity_sticks(house: House) -> None:
    house.go_live(house.add(1, fixed(0.25)))
    house.start(house.add(2, fixed(0.75)), canary(0.2, "1h"), canary(0.6, "1h"))
    rows = [{**REQUEST, "customer_id": number} for number in range(1_000)]

    def canaries() -> set[int]:
        answers = house.plane.predict("credit", rows)
        assert all(answer.prediction == (0.75 if answer.variant == "canary" else 0.25) for answer in answers)
        return {number for number, answer in enumerate(answers) if answer.variant == "canary"}

    few = canaries()
    assert few == canaries()
    assert 150 < len(few) < 250
    house.rollouts.apply("credit", Move.ADVANCE, reason="test")
    many = canaries()
    assert few < many
    assert 540 < len(many) < 660


def test_a_failing_canary_is_answered_by_the_live_version_and_counted(house: House) -> None:
    house.go_live(house.add(1, fixed(0.25)))
    house.start(house.add(2, breaks("no")), canary(0.99, "1h"))
    answers = house.plane.predict("credit", [{**REQUEST, "customer_id": number} for number in range(50)])
    assert {(answer.prediction, answer.status) for answer in answers} == {(0.25, "ok")}
    counts = dict(house.sealed().group_by("variant", "status").len().select("status", "len").iter_rows())
    assert counts["ok"] == 50
    assert counts["error"] > 40


def test_promotion_and_rollback_are_followed_at_once_without_loading_again(house: House) -> None:
    first, second = house.add(1, fixed(0.25)), house.add(2, fixed(0.75))
    house.go_live(first)
    house.start(second, canary(0.5, "1h"))
    house.plane.predict("credit", [REQUEST])
    house.rollouts.apply("credit", Move.PROMOTE, reason="test")
    house.go_live(second)
    assert house.plane.predict_one("credit", REQUEST).model_version == second
    house.go_live(first)
    assert house.plane.predict_one("credit", REQUEST).model_version == first
    assert house.loads == [first, second]


def test_versions_not_used_for_long_leave_memory(house: House) -> None:
    for number in range(1, 6):
        house.go_live(house.add(number, fixed(0.5)))
        house.plane.predict("credit", [REQUEST])
    house.loads.clear()
    for number in (5, 4, 3, 1):
        house.go_live(f"m/{number}")
        house.plane.predict("credit", [REQUEST])
    assert house.loads == ["m/1"]


def test_a_version_that_cannot_be_loaded_leaves_the_old_one_answering(house: House) -> None:
    first = house.add(1, fixed(0.25))
    house.go_live(first)
    house.plane.predict("credit", [REQUEST])
    house.go_live("m/2")
    for _ in range(3):
        assert house.plane.predict_one("credit", REQUEST).model_version == first
    [event] = house.journal.list_events(kinds=["serving.version.unloadable"])
    assert (event.subject, event.data["version"]) == ("version/m/2", "m/2")
    assert house.fleet.lines["credit"].problem is not None


def test_a_candidate_that_cannot_be_loaded_gets_no_traffic(house: House) -> None:
    house.go_live(house.add(1, fixed(0.25)))
    house.start("m/2", canary(0.9, "1h"))
    assert {a.model_version for a in house.plane.predict("credit", [REQUEST] * 20)} == {"m/1"}
    assert len(house.journal.list_events(kinds=["serving.version.unloadable"])) == 1


def test_the_first_version_that_cannot_be_loaded_is_named(house: House) -> None:
    house.go_live("m/1")
    with pytest.raises(NotFoundError, match="no version m/1"):
        house.plane.predict("credit", [REQUEST])
    assert not isinstance(house.fleet.lines["credit"].problem, NothingLiveError)


def test_an_answer_is_plain_json(house: House) -> None:
    house.go_live(house.add(1, fixed(0.5)))
    answer = msgspec.json.decode(msgspec.json.encode(house.plane.predict_one("credit", REQUEST)))
    assert set(answer) == {
        "prediction",
        "prediction_id",
        "model_version",
        "variant",
        "endpoint",
        "features",
        "status",
    }


def test_a_package_whose_code_raises_is_one_that_cannot_be_loaded(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(_ref: str) -> Any:
        raise KeyError("is_compiled")

    monkeypatch.setattr(house, "load", load)
    house.go_live("m/1")
    with pytest.raises(BackendError, match="m/1 cannot be loaded: KeyError: 'is_compiled'"):
        house.plane.predict("credit", [REQUEST])
