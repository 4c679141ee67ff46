"""Features of many entities in columns: each value says what it is worth, and nobody fails for another."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flyball.core.clock import SimulatedClock
from flyball.core.durations import to_us
from flyball.core.errors import FlyballError, InvalidInputError, UnknownNameError
from flyball.domain.features.online import NotMaterialisedError
from flyball.workspace.workspace import Workspace

_PROJECT = """
import flyball as fb
import polars as pl

customer = fb.Entity("customer_id")
account = fb.Entity("customer_id", "account")
payments = fb.Table("payments.parquet", entity=customer, time="paid_at")
balances = fb.Table("balances.parquet", entity=account, time="at")


@fb.features(payments, ttl="10d")
def behaviour(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows


@fb.features(balances)
def balance(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows


@fb.features(payments)
def never(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows
"""
_START = datetime(2026, 1, 1, tzinfo=UTC)


def _day(number: float) -> datetime:
    return _START + timedelta(days=number)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root: Path = tmp_path_factory.mktemp("vectors")
    (root / "project.py").write_text(_PROJECT)
    pl.DataFrame(
        {
            "customer_id": [1, 2, 3, 4],
            "paid_at": [_day(15), _day(19), _day(1), _day(19)],
            "days": [10, None, 30, 40],
            "amount": [0.5, float("nan"), 1.5, 2.5],
        }
    ).write_parquet(root / "payments.parquet")
    pl.DataFrame(
        {"customer_id": [1, 1], "account": ["a", "b"], "at": [_day(3), _day(4)], "amount": [1.0, 2.0]}
    ).write_parquet(root / "balances.parquet")
    workspace = Workspace(root, root / ".flyball", clock=SimulatedClock(_day(20)))
    for name in ("behaviour", "balance"):
        workspace.features.materialise(workspace.project.views[name])
    return workspace


def test_each_value_says_what_it_is_worth(workspace: Workspace) -> None:
    vectors = workspace.get_online_features(["behaviour:days"], {"customer_id": [1, 2, 3, 99, None, "4", "x"]})
    assert vectors.names == ["customer_id", "days"]
    assert list(vectors.columns[1]) == [10, None, None, None, None, 40, None]
    assert list(vectors.statuses[1]) == [
        "present", "null", "outdated", "not_found", "not_found", "present", "not_found",
    ]  # fmt: skip
    times = [_day(15), _day(19), _day(1)]
    assert list(vectors.event_times_us[1])[:4] == [*map(to_us, times), 0]
    assert set(vectors.statuses[0]) == {"key"}


def test_views_of_several_entities_are_asked_at_once_in_the_order_of_the_request(workspace: Workspace) -> None:
    entities: Mapping[str, Sequence[Any]] = {"account": ["b", "c"], "customer_id": [1, 1]}
    vectors = workspace.get_online_features(["balance", "behaviour:days"], entities)
    assert vectors.to_dict() == {"customer_id": [1, 1], "account": ["b", "c"], "amount": [2.0, None], "days": [10, 10]}
    assert vectors.to_frame().shape == (2, 4)
    full = workspace.get_online_features(
        [workspace.project.views["balance"], "behaviour"], entities, has_full_names=True
    )
    assert full.names == ["customer_id", "account", "balance__amount", "behaviour__days", "behaviour__amount"]


def test_a_version_may_be_named(workspace: Workspace) -> None:
    version = workspace.features.view_version(workspace.project.views["behaviour"])
    vectors = workspace.get_online_features([f"behaviour@{version}:days"], {"customer_id": [1]})
    assert vectors.columns[1][0] == 10
    with pytest.raises(NotMaterialisedError, match="version 0000 of feature view 'behaviour'"):
        workspace.get_online_features(["behaviour@0000"], {"customer_id": [1]})


def test_no_entity_is_an_answer_without_rows(workspace: Workspace) -> None:
    vectors = workspace.get_online_features(["behaviour"], {"customer_id": []})
    assert [list(column) for column in vectors.columns] == [[], [], []]


@pytest.mark.parametrize(
    ("features", "entities", "error", "message"),
    [
        ([], {"customer_id": [1]}, InvalidInputError, "no feature is asked"),
        (["behaviours:days"], {"customer_id": [1]}, UnknownNameError, "did you mean 'behaviour'"),
        (["behaviour:day"], {"customer_id": [1]}, UnknownNameError, "did you mean 'days'"),
        ([":days"], {"customer_id": [1]}, InvalidInputError, "':days' is no reference to a feature"),
        (["behaviour:"], {"customer_id": [1]}, InvalidInputError, "is no reference"),
        (["behaviour@:days"], {"customer_id": [1]}, InvalidInputError, "is no reference"),
        (["never:days"], {"customer_id": [1]}, NotMaterialisedError, "no online rows yet"),
        (["balance"], {"customer_id": [1]}, InvalidInputError, "the key 'account' is missing"),
        (["behaviour"], {"customer_id": [1], "shop": [1]}, InvalidInputError, "'shop' is no key"),
        (["balance"], {"customer_id": [1], "account": []}, InvalidInputError, "customer_id has 1, account has 0"),
        (["balance", "behaviour"], {"customer_id": [1], "account": ["a"]}, InvalidInputError, "called 'amount'"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(
    workspace: Workspace, features: list[str], entities: dict[str, list[Any]], error: type[FlyballError], message: str
) -> None:
    with pytest.raises(error, match=message):
        workspace.get_online_features(features, entities)
