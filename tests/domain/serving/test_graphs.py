"""Endpoints that are small graphs: who answers, what is logged of it, and what happens when a node fails."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from flyball.core.errors import FlyballError
from flyball.domain.loop.endpoints import Endpoint, check_graphs
from flyball.domain.serving.answers import Answer
from flyball.domain.serving.deadlines import Deadlines, LateError
from flyball.domain.serving.fleet import ServedEndpoint
from flyball.domain.serving.graphs import check_graph, constant, describe, ensemble, fallback, model, route
from flyball.domain.serving.rollouts import canary, shadow

from .conftest import REQUEST, House, breaks, fixed

NodeOf = Any


def ask(house: House, **fields: Any) -> Answer:
    [answer] = house.plane.predict("credit", [REQUEST | fields])
    return answer


def logged(house: House) -> list[dict[str, Any]]:
    return house.sealed().select("version", "variant", "status", "prediction", "node").to_dicts()


@pytest.fixture
def make_house(tmp_path: Path) -> Callable[..., House]:
    return lambda graph, **more: House(tmp_path, graph=graph, **more)


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda: model(""), "must be the name of a model"),
        (lambda: ensemble("a"), "needs at least two members"),
        (lambda: ensemble("a", 3), "ensemble was given 3, which is neither a node nor the name"),
        (lambda: ensemble("a", constant(1)), "a constant cannot be a member"),
        (lambda: ensemble("a", "b", weights=[1]), "has 2 members, but 1 weights"),
        (lambda: ensemble("a", "b", weights=[1, 0]), "must be numbers greater than 0"),
        (lambda: ensemble("a", "b", combine="median"), "must be 'mean' or 'vote'"),
        (lambda: route("", {"a": "b"}), "must be the name of a field"),
        (lambda: route("town", {}), "needs at least one case"),
        (lambda: route("town", {1.5: "a"}), "which no field is equal to for certain"),
        (lambda: route("town", {"Aix": 1}), "route was given 1"),
        (lambda: fallback(constant(1), to=2), "a constant does not fail"),
        (lambda: fallback("a", to=0.5, within="0s"), "must be longer than nothing"),
        (lambda: fallback("a", to=0.5, within="soon"), "fallback's within 'soon' is not a duration"),
        (lambda: fallback("a", to=None), "fallback was given None"),
        (lambda: constant(None), "must be a number or the name of a class"),
        (lambda: check_graph("a", "a"), "must be made by model, ensemble, route or fallback"),
        (lambda: check_graph(ensemble("b", "c"), "a"), "does not use that model but 'b', 'c'"),
        (lambda: check_graph(ensemble("a", "b"), "a", ["a"]), "uses 'b', which no endpoint serves"),
        (lambda: Endpoint(model="a", graph=ensemble("b", "c")), "does not use that model"),
        (lambda: Endpoint(model="a", prepare="tidy"), "must be a function of one request"),
        (lambda: check_graphs([Endpoint(model="a", graph=fallback("a", to="b"))]), "Declare fb.Endpoint(model='b')"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_plain_words(declare: Callable[[], object], words: str) -> None:
    with pytest.raises(FlyballError) as caught:
        declare()
    assert words in f"{caught.value} {caught.value.hint}"


def test_a_graph_as_deep_as_a_well_is_refused() -> None:
    node: NodeOf = model("a")
    for _ in range(9):
        node = fallback(node, to=0.5)
    with pytest.raises(FlyballError, match="deeper than 8"):
        check_graph(node, "a")


def test_a_graph_is_told_in_words() -> None:
    node = fallback(route("town", {"Aix": ensemble("a", "b")}, otherwise="a"), to=0.5, within="50ms")
    assert describe(node) == "by town ('Aix': mean of a, b; else a) within 50ms, else 0.5"


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        (ensemble("m", "other"), 0.4),
        (ensemble("m", "other", weights=[3, 1]), 0.3),
        (ensemble("m", "other", "third", combine="vote"), 2 / 3),
        (ensemble("m", "other", "third", weights=[2, 1, 1], combine="vote"), 0.5),
    ],
)
def test_an_ensemble_answers_together(make_house: Callable[..., House], graph: NodeOf, expected: float) -> None:
    house = make_house(graph)
    house.go_live(house.add(1, fixed(0.2)))
    house.add_other("other/3", fixed(0.6))
    house.add_other("third/1", fixed(0.8))
    answer = ask(house)
    assert answer.prediction == pytest.approx(expected)
    assert answer.node is not None and answer.node.startswith("ensemble[m/1, other/3")
    [row] = logged(house)
    assert (row["version"], row["node"], row["status"]) == ("m/1", answer.node, "ok")


@pytest.mark.parametrize(("combine", "expected", "share"), [("mean", "b", 0.55), ("vote", "b", 0.5)])
def test_an_ensemble_of_several_classes(
    make_house: Callable[..., House], combine: Any, expected: str, share: float
) -> None:
    house = make_house(ensemble("m", "other", combine=combine))
    kinds = ("a", "b", "c")
    house.go_live(house.add(1, lambda frame: [[0.1, 0.8, 0.1]] * frame.height, classes=kinds))
    house.add_other("other/1", lambda frame: [[0.2, 0.3, 0.5]] * frame.height, classes=kinds)
    answer = ask(house)
    assert answer.prediction == expected
    assert answer.scores is not None
    assert answer.scores["b"] == pytest.approx(share)
    assert sum(answer.scores.values()) == pytest.approx(1)


def test_a_field_decides_who_answers(make_house: Callable[..., House]) -> None:
    house = make_house(route("term", {12: "m", 24: "other"}))
    house.go_live(house.add(1, fixed(0.2)))
    house.add_other("other/3", fixed(0.6))
    rows = [REQUEST | {"term": term} for term in (12, 24, 36, 24)]
    answers = house.plane.predict("credit", rows)
    assert [answer.prediction for answer in answers] == [0.2, 0.6, None, 0.6]
    assert [answer.node for answer in answers] == ["term=12", "term=24", "term=otherwise", "term=24"]
    assert [answer.model_version for answer in answers[:2]] == ["m/1", "other/3"]
    assert (answers[2].status, answers[2].errors[0].message) == (
        "refused",
        "term decides who answers, and must be one of 12, 24",
    )
    assert [row["version"] for row in logged(house)] == ["m/1", "other/3", "m/1", "other/3"]


def test_everyone_else_has_a_way_too(make_house: Callable[..., House]) -> None:
    house = make_house(route("term", {24: "other"}, otherwise="m"))
    house.go_live(house.add(1, fixed(0.2)))
    house.add_other("other/3", fixed(0.6))
    assert [ask(house, term=term).prediction for term in (12, 24)] == [0.2, 0.6]
    assert ask(house, term="12").status == "refused", "the model's own checks hold as ever"


def test_a_constant_answers_for_a_model_that_fails_and_the_failure_is_logged(make_house: Callable[..., House]) -> None:
    house = make_house(fallback("m", to=0.5))
    house.go_live(house.add(1, breaks("out of order")))
    answer = ask(house)
    assert (answer.prediction, answer.status, answer.node, answer.model_version) == (0.5, "ok", "fallback/constant", "")
    failed, answered = sorted(logged(house), key=lambda row: row["status"])
    assert (failed["status"], failed["version"], failed["prediction"]) == ("error", "m/1", None)
    assert (answered["status"], answered["version"], answered["node"]) == ("ok", "", "fallback/constant")
    reasons = house.sealed()["reasons"].to_list()
    assert any("out of order" in text for text in reasons)


def test_another_model_answers_for_one_that_fails_on_some_rows(make_house: Callable[..., House]) -> None:
    def fails_for_the_rich(frame: pl.DataFrame) -> Any:
        if (frame["income"] > 5000).any():
            raise ValueError("too rich")
        return np.full(frame.height, 0.2)

    house = make_house(fallback("m", to="simple"))
    house.go_live(house.add(1, fails_for_the_rich))
    house.add_other("simple/1", fixed(0.6))
    assert ask(house).node is None
    rich = ask(house, income=9000.0)
    assert (rich.prediction, rich.model_version, rich.node) == (0.6, "simple/1", "fallback")
    refused = ask(house, income=-1.0)
    assert refused.status == "refused", "bad input is no failure"
    assert len(logged(house)) == 4


def test_a_chain_of_fallbacks_ends_where_one_answers(make_house: Callable[..., House]) -> None:
    house = make_house(fallback(fallback("m", to="simple"), to=0.5))
    house.go_live(house.add(1, breaks("first")))
    house.add_other("simple/1", breaks("second"))
    answer = ask(house)
    assert (answer.prediction, answer.node) == (0.5, "fallback/constant")
    assert [row["version"] for row in logged(house) if row["status"] == "error"] == ["m/1", "simple/1"]


def test_what_is_late_is_answered_otherwise_in_time(make_house: Callable[..., House]) -> None:
    gate = threading.Event()

    def waits(frame: pl.DataFrame) -> Any:
        gate.wait(20)
        return np.full(frame.height, 0.2)

    house = make_house(fallback("m", to=0.5, within="50ms"))
    house.go_live(house.add(1, waits))
    began = time.monotonic()
    answers = [ask(house) for _ in range(12)]
    assert time.monotonic() - began < 5, "those after the eighth do not even wait"
    assert {answer.prediction for answer in answers} == {0.5}
    gate.set()
    time.sleep(0.2)
    assert ask(house).prediction == 0.2
    late = [row for row in logged(house) if row["status"] == "error"]
    assert len(late) == 12
    assert "m did not answer within 50 ms" in answers[0].warnings[0].message


def test_a_candidate_that_fails_is_not_hidden_by_the_fallback(make_house: Callable[..., House]) -> None:
    house = make_house(fallback("m", to=0.5))
    house.go_live(house.add(1, fixed(0.2)))
    house.start(house.add(2, breaks("new and broken")), canary(0.5, "1h"))
    rows = [REQUEST | {"customer_id": number} for number in range(1, 60)]
    answers = house.plane.predict("credit", rows)
    assert {answer.prediction for answer in answers} == {0.2}
    frame = house.sealed()
    assert frame.filter(pl.col("variant") == "canary")["status"].unique().to_list() == ["error"]
    assert frame.filter(pl.col("node") == "live-for-canary").height > 10


def test_a_rollout_exchanges_the_own_model_inside_the_graph(make_house: Callable[..., House]) -> None:
    house = make_house(ensemble("m", "other"))
    house.go_live(house.add(1, fixed(0.2)))
    house.add_other("other/1", fixed(0.6))
    house.start(house.add(2, fixed(0.8)), shadow("1h"))
    assert ask(house).prediction == pytest.approx(0.4)
    frame = house.sealed()
    [beside] = frame.filter(pl.col("variant") == "shadow").to_dicts()
    assert (beside["prediction"], beside["version"]) == (pytest.approx(0.7), "m/2")


def test_a_model_of_the_graph_without_a_version_fails_alone(make_house: Callable[..., House]) -> None:
    house = make_house(route("term", {12: "m", 24: fallback("other", to=0.5)}))
    house.go_live(house.add(1, fixed(0.2)))
    assert [ask(house, term=term).prediction for term in (12, 24)] == [0.2, 0.5]
    problem = house.fleet.line("credit").problem
    assert problem is not None and "no version of 'other' is live" in problem.message
    house.add_other("other/1", fixed(0.9))
    assert ask(house, term=24).prediction == 0.9
    assert house.fleet.line("credit").problem is None


def test_models_that_answer_different_questions_do_not_meet(make_house: Callable[..., House]) -> None:
    house = make_house(ensemble("m", "other"))
    house.go_live(house.add(1, fixed(0.2)))
    house.add_other("other/1", lambda frame: [[0.2, 0.3, 0.5]] * frame.height, classes=("a", "b", "c"))
    assert ask(house).status == "error"
    problem = house.fleet.line("credit").problem
    assert problem is not None and "cannot answer at one endpoint" in problem.message


def test_requests_are_prepared_before_anything_is_checked(tmp_path: Path) -> None:
    def tidy(request: dict[str, Any]) -> dict[str, Any]:
        return {**request, "term": request["term"] * 12}

    house = House(tmp_path, prepare=tidy)
    house.go_live(house.add(1, lambda frame: frame["burden"]))
    answer = ask(house, term=2)
    assert answer.prediction == pytest.approx(1000 / 24)
    assert house.predictions.get(answer.prediction_id).request_fields["term"] == 24
    good, bad = house.plane.predict("credit", [REQUEST, {"customer_id": 1}])
    assert (good.status, bad.status) == ("ok", "error")
    assert "KeyError: 'term'" in bad.errors[0].message
    assert house.plane.find_direct("credit") is None


def test_a_preparation_that_gives_something_else_is_told(tmp_path: Path) -> None:
    house = House(tmp_path, prepare=lambda request: None)
    house.go_live(house.add(1, fixed(0.2)))
    assert "it returned NoneType instead of a dict" in ask(house).errors[0].message


def test_who_answered_is_explained(make_house: Callable[..., House]) -> None:
    house = make_house(route("term", {12: "m", 24: "other", 36: ensemble("m", "other")}))
    house.go_live(house.add(1, fixed(0.2)))
    house.add_other("other/3", fixed(0.6))
    rows = [REQUEST | {"term": term} for term in (12, 24, 36)]
    first, second, third = house.plane.predict("credit", rows, explain=True)
    assert first.explanation is not None and first.explanation.base == pytest.approx(0.2)
    assert second.explanation is not None and second.explanation.base == pytest.approx(0.6)
    assert third.explanation is None


def test_a_version_that_the_caller_names_answers_alone(make_house: Callable[..., House]) -> None:
    house = make_house(ensemble("m", "other"))
    house.go_live(house.add(1, fixed(0.2)))
    house.add_other("other/1", fixed(0.6))
    [answer] = house.plane.predict("credit", [REQUEST], pinned=house.versions["m/1"])
    assert (answer.prediction, answer.node) == (0.2, None)


def test_work_that_is_given_up_keeps_its_thread_and_no_more() -> None:
    gate = threading.Event()
    deadlines = Deadlines(workers=2)
    assert deadlines.run(lambda: 7, 1) == 7
    for _ in range(2):
        with pytest.raises(LateError):
            deadlines.run(lambda: gate.wait(20), 0.02)
    with pytest.raises(LateError):
        deadlines.run(lambda: 7, 10)
    gate.set()
    time.sleep(0.1)
    assert deadlines.run(lambda: 8, 1) == 8
    with pytest.raises(ZeroDivisionError):
        deadlines.run(lambda: 1 // 0, 1)


def test_a_thread_that_was_kept_too_long_is_replaced_so_often_that_memory_holds() -> None:
    gate = threading.Event()
    deadlines = Deadlines(workers=1, lost_after_s=0.01)
    for _ in range(8):
        with pytest.raises(LateError) as late:
            deadlines.run(lambda: gate.wait(20), 0.02)
        assert late.value.is_begun
        time.sleep(0.02)
    with pytest.raises(LateError) as late:
        deadlines.run(lambda: 7, 10)
    assert not late.value.is_begun
    gate.set()


def test_a_model_that_hangs_keeps_the_threads_of_its_own_endpoint_only(make_house: Callable[..., House]) -> None:
    gate = threading.Event()

    def hang(frame: pl.DataFrame) -> Any:
        gate.wait(20)
        return fixed(0.2)(frame)

    other = ServedEndpoint(name="second", model="other", graph=fallback("other", to=0.1, within="10s"))
    house = make_house(fallback("m", to=0.5, within="20ms"), further=[other])
    house.go_live(house.add(1, hang))
    house.add_other("other/1", fixed(0.6))
    told = [house.plane.predict("credit", [REQUEST])[0] for _ in range(9)]
    assert {answer.prediction for answer in told} == {0.5}
    assert "within 20 ms" in told[0].warnings[0].message
    assert "was not asked" in told[8].warnings[0].message
    assert house.plane.predict("second", [REQUEST])[0].prediction == 0.6
    gate.set()
