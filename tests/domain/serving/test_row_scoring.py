"""Rows of a table are answered by a graph as a live request with the same fields is."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.domain.serving.conftest import START, FakeLookup, fixed, make_version

from flyball.domain.predictions.records import PredictionStatus
from flyball.domain.serving.graph_scoring import GraphScorer
from flyball.domain.serving.graphs import Node, ensemble, fallback, route
from flyball.domain.serving.row_scoring import RowScorer
from flyball.domain.serving.table_requests import TableRequests
from flyball.domain.serving.table_scoring import TableScores

BROKEN = 13.0
_rows = st.lists(
    st.fixed_dictionaries(
        {
            "customer_id": st.integers(-2, 12) | st.none(),
            "income": st.sampled_from([0.0, -1.0, BROKEN, 100.5, 1e6 + 1, float("nan")]) | st.none(),
            "term": st.sampled_from([12, 24, 36]) | st.none(),
        }
    ),
    max_size=30,
)
SCHEMA = {"customer_id": pl.Int64, "income": pl.Float64, "term": pl.Int64}
GRAPH = fallback(
    route("term", {12: "m", 24: ensemble("m", "other"), 36: fallback("other", to="m")}, otherwise="m"), to=0.5
)


def picky(frame: pl.DataFrame) -> Any:
    """Raise for a whole batch where one row is broken, as models do."""
    if (frame["income"] == BROKEN).any():
        raise ValueError("broken row")
    return frame["income"].fill_null(0.0).to_numpy() / 1e6


class Bench:
    """A graph with two models, of which the endpoint's own is picky."""

    def __init__(self, graph: Node, own: Any = picky, **version: Any) -> None:
        self.loaded = make_version("m/1", own, **version)
        self.calls = 0
        self._graph = graph
        others = {"other": make_version("other/4", fixed(0.25), **version)}
        self._scorer = GraphScorer(("m", self.loaded), others, FakeLookup(), "refuse", None)

    def ask(self, rows: Any, at: Any) -> Any:
        self.calls += 1
        return self._scorer.score(self._graph, rows, at)

    def score(self, frame: pl.DataFrame, at: datetime = START) -> TableScores:
        requests = TableRequests(self.loaded, frame.schema, "applications", "refuse")
        with RowScorer(self.loaded, requests, self.ask) as scorer:
            return scorer.score(frame, at)


@settings(deadline=None, max_examples=60)
@given(_rows)
def test_a_table_gets_what_live_would_answer_each_row_alone(rows: list[dict[str, Any]]) -> None:
    bench = Bench(GRAPH)
    scores = bench.score(pl.DataFrame(rows, schema=SCHEMA))
    live = [bench.ask([row], [START])[0] for row in rows]
    answered = [number for number, one in enumerate(live) if one.status is PredictionStatus.OK]
    assert scores.answered == answered
    found = scores.predictions.select("prediction", "node", "model_version").rows()
    assert found == [
        (live[number].prediction, live[number].node, "m/1" if live[number].ref is None else live[number].ref)
        for number in answered
    ]
    assert [(one.row, one.status) for one in scores.rejected] == [
        (number, one.status) for number, one in enumerate(live) if one.status is not PredictionStatus.OK
    ]


def frame_of(incomes: list[float]) -> pl.DataFrame:
    return pl.DataFrame({"customer_id": [1] * len(incomes), "income": incomes, "term": [12] * len(incomes)})


def test_a_row_that_a_model_raises_for_falls_back_alone() -> None:
    incomes = [float(number % 100 + 20) for number in range(20_000)]
    incomes[7] = incomes[15_000] = BROKEN
    scores = Bench(fallback("m", to="other")).score(frame_of(incomes))
    assert scores.predictions.height == 20_000
    fallen = scores.predictions.with_row_index().filter(pl.col("node") == "fallback")
    assert fallen.rows() == [(7, 0.25, "other/4", "fallback"), (15_000, 0.25, "other/4", "fallback")]


def test_a_model_that_is_broken_is_not_asked_for_every_row_alone() -> None:
    bench = Bench(fallback("m", to=0.5), lambda frame: np.full(frame.height, np.nan))
    scores = bench.score(frame_of([20.0] * 3_000))
    assert (scores.predictions["node"] == "fallback/constant").all()
    assert (scores.predictions["model_version"] == "").all()
    assert bench.calls < 500


def test_a_row_that_nothing_answers_is_rejected_with_its_reason() -> None:
    scores = Bench(route("term", {24: "m"})).score(frame_of([20.0]))
    [verdict] = scores.rejected
    assert verdict.status is PredictionStatus.REFUSED
    assert "decides who answers" in verdict.violations[0].message
    [failed] = Bench(ensemble("m", "other")).score(frame_of([BROKEN])).rejected
    assert failed.status is PredictionStatus.ERROR
    assert "broken row" in failed.violations[0].message


def test_several_classes_are_told_with_their_shares() -> None:
    shares = [0.2, 0.7, 0.1]
    bench = Bench(fallback("m", to="b"), lambda frame: [shares] * frame.height, classes=("a", "b", "c"))
    scores = bench.score(frame_of([20.0, 30.0])).predictions
    assert scores["prediction"].to_list() == ["b", "b"]
    assert scores["scores"][0] == dict(zip("abc", shares, strict=True))
    assert bench.score(frame_of([])).predictions.columns == scores.columns


@pytest.mark.parametrize("kind", [pl.Decimal(10, 2), pl.Int32])
def test_columns_of_other_kinds_are_read_as_for_one_model(kind: Any) -> None:
    frame = frame_of([20.0]).with_columns(pl.Series("income", [Decimal("20")], dtype=pl.Decimal(10, 2)).cast(kind))
    assert Bench(fallback("m", to=0.5)).score(frame).predictions["prediction"].to_list() == [20 / 1e6]
