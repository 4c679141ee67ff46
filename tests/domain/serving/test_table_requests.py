"""Rows of a table are judged and answered as live requests with the same fields are."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.domain.serving.conftest import START, FakeLookup, make_version

from flyball.domain.data.expectations import column
from flyball.domain.predictions.records import PredictionStatus
from flyball.domain.serving.loaded import LoadedVersion
from flyball.domain.serving.scoring import score_rows
from flyball.domain.serving.table_requests import TableRequests, TableUnfitError
from flyball.domain.serving.table_scoring import TableScorer, TableScores

EXPECTED = (
    column("income").between(0, 1e6),
    column("term").is_in([12, 24, 36]),
    column("customer_id").at_least(0).or_quarantine(),
    column("income").at_most(5e5).or_warn(),
    column("customer_id").below(column("term")),
)
SCHEMA = {"customer_id": pl.Int64, "income": pl.Float64, "term": pl.Int64, "applied_at": pl.Datetime("us", "UTC")}
_rows = st.lists(
    st.fixed_dictionaries(
        {
            "customer_id": st.integers(-2, 12) | st.none(),
            "income": st.sampled_from([0.0, -1.0, 1e6, 1e6 + 1, 6e5, 100.5, float("nan"), float("inf")]) | st.none(),
            "term": st.sampled_from([12, 24, 36, 13]) | st.none(),
            "applied_at": st.datetimes(datetime(2026, 1, 1), datetime(2026, 3, 2)) | st.none(),
        }
    ),
    max_size=40,
)


def answer(loaded: LoadedVersion, frame: pl.DataFrame, on_violation: Any = "refuse") -> TableScores:
    requests = TableRequests(loaded, frame.schema, "applications", on_violation)
    with TableScorer(loaded, requests, FakeLookup()) as scorer:
        return scorer.score(frame, START)


def sums(frame: pl.DataFrame) -> Any:
    total = frame.select(pl.sum_horizontal(pl.all().fill_null(0.0)))
    values = total.to_series().to_numpy()
    return np.where(values > 9e5, np.nan, values)


@settings(deadline=None, max_examples=60)
@given(_rows, st.sampled_from(["refuse", "quarantine"]))
def test_a_table_gets_what_live_would_answer(rows: list[dict[str, Any]], on_violation: Any) -> None:
    loaded = make_version("credit-risk/1", sums, *EXPECTED)
    frame = pl.DataFrame(rows, schema={**SCHEMA, "applied_at": pl.Datetime("us")}).with_columns(
        pl.col("applied_at").dt.replace_time_zone("UTC")
    )
    scores = answer(loaded, frame, on_violation)
    live = score_rows(loaded, FakeLookup(), frame.to_dicts(), [START] * frame.height, on_violation)
    answered = [number for number, one in enumerate(live) if one.status is PredictionStatus.OK]
    assert (scores.answered if scores.answered is not None else list(range(frame.height))) == answered
    assert scores.predictions["prediction"].to_list() == [live[number].prediction for number in answered]
    assert [(one.row, one.status) for one in scores.rejected] == [
        (number, one.status) for number, one in enumerate(live) if one.status is not PredictionStatus.OK
    ]
    for verdict in scores.rejected:
        if verdict.status is not PredictionStatus.ERROR:
            assert [found.message for found in verdict.violations] == [
                found.message for found in live[verdict.row].violations
            ]


def test_columns_that_are_missing_or_of_other_types_are_all_named() -> None:
    loaded = make_version("credit-risk/1", sums)
    with pytest.raises(TableUnfitError) as caught:
        TableRequests(loaded, pl.Schema({"income": pl.String, "term": pl.Float64}), "applications", "refuse")
    told = caught.value.message
    for part in ("no column 'customer_id'", "'income' is string, not float", "'term' is float, not int"):
        assert part in told


def test_narrow_types_texts_of_instants_and_an_absent_time_are_read() -> None:
    loaded = make_version("credit-risk/1", sums)
    narrow = pl.DataFrame({"customer_id": [1], "income": [5.0], "term": [12]}).cast(
        {"customer_id": pl.UInt16, "income": pl.Float32, "term": pl.Int8}
    )
    assert answer(loaded, narrow).rejected == []
    texts = narrow.with_columns(pl.lit("2026-03-01T10:00:00+02:00").alias("applied_at"))
    assert answer(loaded, texts).rejected == []
    [bad] = answer(loaded, texts.with_columns(pl.lit("the first of May").alias("applied_at"))).rejected
    assert bad.violations[0].rule == "type"


def test_a_row_that_the_model_fails_for_spoils_no_other() -> None:
    def picky(frame: pl.DataFrame) -> Any:
        if (frame["income"] == 13.0).any():
            raise RuntimeError("unlucky")
        return sums(frame)

    loaded = make_version("credit-risk/1", picky)
    frame = pl.DataFrame({"customer_id": [1] * 300, "income": [float(n % 150) for n in range(300)], "term": [12] * 300})
    scores = answer(loaded, frame)
    assert [one.row for one in scores.rejected] == [13, 163]
    assert scores.rejected[0].violations[0].message.endswith("could not predict: RuntimeError: unlucky")
    assert scores.predictions.height == 298


def test_several_classes_get_their_label_and_the_chance_of_each() -> None:
    def chances(frame: pl.DataFrame) -> Any:
        return np.tile([0.2, 0.5, 0.3], (frame.height, 1))

    loaded = make_version("credit-risk/1", chances, classes=("low", "middle", "high"))
    frame = pl.DataFrame({"customer_id": [1], "income": [1.0], "term": [12], "applied_at": [START - timedelta(1)]})
    assert answer(loaded, frame).predictions.to_dicts() == [
        {"prediction": "middle", "scores": {"low": 0.2, "middle": 0.5, "high": 0.3}}
    ]
