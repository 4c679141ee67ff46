"""A rule says which label belongs to which row, the same for training rows and for predictions."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyball.core.encoding import from_json, to_json
from flyball.core.errors import InvalidInputError
from flyball.domain.data.tables import Entity, Table
from flyball.domain.features.labels import LabelRule, LabelRuleError, label_rule
from flyball.domain.features.matching import label_rows, match_labels

_START = datetime(2026, 1, 1, tzinfo=UTC)
_TIME = pl.Datetime("us", "UTC")
customer = Entity("customer_id")
Row = dict[str, Any]


def _day(number: int) -> datetime:
    return _START + timedelta(days=number)


def _table(name: str, **declared: Any) -> Table:
    return Table(f"data/{name}.parquet", name=name, **declared)


APPLICATIONS = _table("applications", entity=customer, time="applied_at")
OUTCOMES = _table("outcomes", entity=customer, time="observed_at", known="recorded_at")
BY_ENTITY = label_rule(APPLICATIONS, OUTCOMES["defaulted"])
_SPINE = {"customer_id": pl.Int64, "applied_at": _TIME, "income": pl.Int64}
_LABELS = {"customer_id": pl.Int64, "observed_at": _TIME, "recorded_at": _TIME, "defaulted": pl.Int64}


def test_the_same_table_matches_its_own_rows() -> None:
    sales = _table("sales", key="id", entity=Entity("house"), time="sold_at")
    rule = label_rule(sales, sales["price"])
    assert (rule.match, rule.keys, rule.spine_time, rule.label_time) == ("row", ("id",), "sold_at", "sold_at")


def test_a_key_that_holds_the_time_matches_it_once() -> None:
    sales = _table("sales", key=["id", "sold_at"], time="sold_at")
    rule = label_rule(sales, sales["price"])
    assert rule.keys == ("id", "sold_at")
    rows = pl.LazyFrame({"id": [1, 1], "sold_at": [_day(1), _day(2)], "price": [10, 20]})
    predictions = pl.LazyFrame({"prediction_id": ["p"], "id": [1], "asked_at": [_day(2)]})
    matches = match_labels(predictions, rows, rule, time="asked_at").collect()
    assert matches.select("prediction_id", "label", "label_time").rows() == [("p", 20, _day(2))]


def test_a_shared_key_is_stronger_than_a_shared_entity() -> None:
    loans = _table("loans", key="loan", entity=customer, time="applied_at")
    answers = _table("answers", key=["loan"], entity=customer, time="seen_at")
    assert label_rule(loans, answers["repaid"]).match == "key"


def test_a_shared_entity_matches_by_time() -> None:
    assert (BY_ENTITY.match, BY_ENTITY.keys, BY_ENTITY.known) == ("entity", ("customer_id",), "recorded_at")


@pytest.mark.parametrize(
    "table",
    [
        _table("o", entity=Entity("house"), time="at"),
        _table("o", entity=customer),
        _table("o", key="id"),
    ],
)
def test_tables_that_share_nothing_are_refused_with_the_way_out(table: Table) -> None:
    with pytest.raises(LabelRuleError, match=r"nothing connects the label o\['y'\] with the rows of 'applications'"):
        label_rule(APPLICATIONS, table["y"])


def test_a_rule_is_kept_as_json() -> None:
    assert from_json(to_json(BY_ENTITY), LabelRule) == BY_ENTITY


_days = st.integers(0, 6).map(_day)
_spine_rows = st.lists(
    st.fixed_dictionaries({"customer_id": st.integers(1, 2), "applied_at": _days, "income": st.integers(0, 9)}),
    max_size=6,
)
_label_rows = st.lists(
    st.fixed_dictionaries(
        {
            "customer_id": st.integers(1, 3),
            "observed_at": _days,
            "recorded_at": _days,
            "defaulted": st.integers(0, 9) | st.none(),
        }
    ),
    max_size=8,
)


def _expected(spine: list[Row], labels: list[Row], as_of: datetime) -> list[Row]:
    """Give each label to its row by looking at all of them."""
    found: dict[int, list[tuple[datetime, datetime, int, Any]]] = {}
    for order, label in enumerate(labels):
        own = [
            (row["applied_at"], number)
            for number, row in enumerate(spine)
            if row["customer_id"] == label["customer_id"] and row["applied_at"] <= label["observed_at"]
        ]
        if own and label["recorded_at"] <= as_of:
            known = (label["recorded_at"], label["observed_at"], order, label["defaulted"])
            found.setdefault(max(own)[1], []).append(known)
    newest = {number: max(known, key=lambda entry: entry[:3])[3] for number, known in found.items()}
    return [{**row, "defaulted": newest[number]} for number, row in enumerate(spine) if newest.get(number) is not None]


@settings(deadline=None, max_examples=200)
@given(_spine_rows, _label_rows, _days)
def test_a_label_belongs_to_the_newest_row_of_its_entity(spine: list[Row], labels: list[Row], as_of: datetime) -> None:
    found = label_rows(
        pl.DataFrame(spine, schema=_SPINE).lazy(),
        pl.DataFrame(labels, schema=_LABELS).lazy(),
        BY_ENTITY,
        as_of=as_of,
    )
    assert found.collect().rows(named=True) == _expected(spine, labels, as_of)


@settings(deadline=None, max_examples=100)
@given(_spine_rows, _label_rows, _days)
def test_predictions_get_the_same_labels_as_training_rows(spine: list[Row], labels: list[Row], as_of: datetime) -> None:
    frame = pl.DataFrame(spine, schema=_SPINE)
    predictions = frame.select("customer_id", pl.col("applied_at").alias("asked_at")).with_row_index("prediction_id")
    every = pl.DataFrame(labels, schema=_LABELS)
    matches = match_labels(predictions.lazy(), every.lazy(), BY_ENTITY, time="asked_at").collect()
    by_prediction: dict[int, Any] = {}
    for match in matches.filter(pl.col("label_known") <= as_of).rows(named=True):
        by_prediction[match["prediction_id"]] = match["label"]
    trained = label_rows(frame.lazy(), every.lazy(), BY_ENTITY, as_of=as_of).collect()["defaulted"].to_list()
    assert [by_prediction[number] for number in sorted(by_prediction) if by_prediction[number] is not None] == trained


def test_a_key_gives_every_row_with_it_the_last_known_label() -> None:
    loans = _table("loans", key="loan")
    answers = _table("answers", key="loan", time="seen_at")
    rule = label_rule(loans, answers["repaid"])
    found = label_rows(
        pl.LazyFrame({"loan": ["a", "b", "a", None]}),
        pl.LazyFrame(
            {"loan": ["a", "a", "c", None], "seen_at": [_day(2), _day(1), _day(1), _day(1)], "repaid": [1.5, 0.5, 9, 9]}
        ),
        rule,
    )
    assert found.collect().rows() == [("a", 1.5), ("a", 1.5)]


def test_rows_of_one_table_keep_their_own_labels() -> None:
    bikes = _table("bikes", time="hour")
    rows = pl.LazyFrame({"hour": [_day(1), _day(1), _day(2)], "rented": [3.0, 4.0, float("nan")], "wind": [1, 2, 3]})
    found = label_rows(rows, rows, label_rule(bikes, bikes["rented"])).collect()
    assert found.rows(named=True) == [
        {"hour": _day(1), "wind": 1, "rented": 3.0},
        {"hour": _day(1), "wind": 2, "rented": 4.0},
    ]


def test_a_corrected_row_keeps_what_was_asked_and_gets_what_turned_out() -> None:
    sales = _table("sales", key="id", time="sold_at", known="filed_at")
    rows = pl.LazyFrame(
        {
            "id": [1, 1, 2],
            "sold_at": [_day(1)] * 3,
            "filed_at": [_day(5), _day(2), _day(3)],
            "rooms": [4, 3, 2],
            "price": [400, 300, 200],
        }
    )
    rule = label_rule(sales, sales["price"])
    later, earlier = (label_rows(rows, rows, rule, as_of=_day(day)).collect() for day in (9, 4))
    assert later.select("id", "rooms", "price").rows() == [(1, 3, 400), (2, 2, 200)]
    assert earlier.select("id", "rooms", "price").rows() == [(1, 3, 300), (2, 2, 200)]


def test_a_label_that_was_taken_back_is_none() -> None:
    labels = [
        {"customer_id": 1, "observed_at": _day(3), "recorded_at": _day(3), "defaulted": 1},
        {"customer_id": 1, "observed_at": _day(3), "recorded_at": _day(4), "defaulted": None},
    ]
    spine = pl.DataFrame([{"customer_id": 1, "applied_at": _day(1), "income": 5}], schema=_SPINE).lazy()
    for day, rows in ((3, 1), (4, 0)):
        found = label_rows(spine, pl.DataFrame(labels, schema=_LABELS).lazy(), BY_ENTITY, as_of=_day(day))
        assert found.collect().height == rows


def test_predictions_without_keys_and_time_cannot_be_matched() -> None:
    plain = _table("plain")
    with pytest.raises(InvalidInputError, match="'plain' cannot be matched"):
        match_labels(pl.LazyFrame({"id": [1]}), pl.LazyFrame({"y": [1]}), label_rule(plain, plain["y"]))
