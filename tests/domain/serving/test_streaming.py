"""Answers that come one after the other are those that come together."""

from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.domain.serving.conftest import REQUEST, House

from flyball.domain.serving.answers import Answer
from flyball.domain.serving.fleet import NothingLiveError
from flyball.domain.serving.rollouts import canary


class Yielding:
    """Half of the income's millionth; breaks at 13, gives no number at 14, and remembers what it was asked."""

    def __init__(self) -> None:
        self.reached: list[float] = []
        self.is_closed = False

    def make(self) -> Any:
        def answer(frame: pl.DataFrame) -> Iterator[float]:
            self.is_closed = False
            try:
                for income in frame["income"]:
                    self.reached.append(income)
                    if income == 13:
                        raise ValueError("thirteen")
                    yield float("nan") if income == 14 else income / 2e6
            finally:
                self.is_closed = True

        return answer


@pytest.fixture
def model(house: House) -> Yielding:
    made = Yielding()
    house.add(1, made.make())
    house.go_live("m/1")
    return made


def rows(*incomes: Any) -> list[Any]:
    return [REQUEST | {"income": income} for income in incomes]


def told(answers: list[Answer]) -> list[Any]:
    return [(answer.status, answer.prediction, answer.model_version, answer.variant) for answer in answers]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(incomes=st.lists(st.sampled_from([1e5, 2e5, 14, -5, "much"]), min_size=1, max_size=8))
def test_they_are_those_of_a_batch(house: House, model: Yielding, incomes: list[Any]) -> None:
    streamed = list(house.plane.stream("credit", rows(*incomes)))
    assert told(streamed) == told(house.plane.predict("credit", rows(*incomes)))


def test_each_is_in_the_log_before_it_is_answered_and_the_model_goes_no_further(house: House, model: Yielding) -> None:
    stream = house.plane.stream("credit", rows(1e5, 2e5, 3e5, 4e5))
    first, second = next(stream), next(stream)
    assert model.reached == [1e5, 2e5]
    assert house.sealed()["id"].to_list() == [first.prediction_id, second.prediction_id]
    stream.close()  # type: ignore[attr-defined]
    assert model.is_closed
    assert model.reached == [1e5, 2e5]
    assert house.sealed().height == 2


def test_a_model_that_breaks_has_failed_for_all_that_follow(house: House, model: Yielding) -> None:
    answers = list(house.plane.stream("credit", rows(1e5, 13, -5, 2e5)))
    assert [answer.status for answer in answers] == ["ok", "error", "refused", "error"]
    assert "thirteen" in answers[3].errors[0].message
    assert model.reached == [1e5, 13]
    assert sorted(house.sealed()["status"]) == ["error", "error", "ok", "refused"]


def test_too_few_answers_are_an_error_of_the_rows_without_one(house: House) -> None:
    def once(frame: pl.DataFrame) -> Iterator[float]:
        yield 0.5

    house.add(1, once)
    house.go_live("m/1")
    answers = list(house.plane.stream("credit", rows(1, 2)))
    assert [answer.status for answer in answers] == ["ok", "error"]
    assert "fewer predictions than there are rows" in answers[1].errors[0].message


def test_a_model_that_does_not_yield_is_streamed_a_few_rows_at_a_time(house: House) -> None:
    heights: list[int] = []

    def all_at_once(frame: pl.DataFrame) -> Any:
        heights.append(frame.height)
        return frame["income"] / 2e6

    house.add(1, all_at_once)
    house.go_live("m/1")
    answers = list(house.plane.stream("credit", rows(*range(70))))
    assert [answer.prediction for answer in answers] == pytest.approx([income / 2e6 for income in range(70)])
    assert heights == [32, 32, 6]


def test_nothing_live_is_told_before_the_first_answer(house: House) -> None:
    with pytest.raises(NothingLiveError):
        next(house.plane.stream("credit", rows(1)))


def test_under_a_canary_each_row_keeps_its_variant(house: House, model: Yielding) -> None:
    house.add(2, Yielding().make())
    house.start("m/2", canary(0.5, "1h"))
    requests = [REQUEST | {"customer_id": number} for number in range(20)]
    streamed = list(house.plane.stream("credit", requests))
    assert told(streamed) == told(house.plane.predict("credit", requests))
    assert {answer.variant for answer in streamed} == {"live", "canary"}
