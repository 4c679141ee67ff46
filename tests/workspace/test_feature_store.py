"""`fb.FeatureStore` as another program uses it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import flyball as fb
from flyball.core.errors import FlyballError, InvalidInputError, UnknownNameError

_PROJECT = """
import flyball as fb
import polars as pl

customer = fb.Entity("customer_id")
payments = fb.Table("payments.parquet", entity=customer, time="paid_at")


@fb.features(payments)
def behaviour(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows
"""
_NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def store(tmp_path: Path) -> fb.FeatureStore:
    (tmp_path / "project.py").write_text(_PROJECT)
    rows = {"customer_id": [1], "paid_at": [_NOW - timedelta(days=1)], "days": [1], "share": [0.5]}
    pl.DataFrame(rows).write_parquet(tmp_path / "payments.parquet")
    made = fb.FeatureStore(tmp_path)
    made.materialise()
    return made


def _found(store: fb.FeatureStore) -> dict[str, list[Any]]:
    return store.get_online_features(["behaviour"], {"customer_id": [1, 2]}).to_dict()


@pytest.mark.parametrize("kind", ["lists", "arrays", "series", "frame", "small numbers", "naive times"])
def test_rows_may_be_pushed_in_whatever_holds_columns(store: fb.FeatureStore, kind: str) -> None:
    lists: dict[str, Any] = {"customer_id": [1, 2], "paid_at": [_NOW, _NOW], "days": [7, None], "share": [1.0, 2.0]}
    frame = pl.DataFrame(lists)
    rows: Any = {
        "lists": lists,
        "arrays": lists | {"customer_id": np.array([1, 2]), "share": np.array([1.0, 2.0])},
        "series": frame.to_dict(),
        "frame": frame,
        "small numbers": frame.with_columns(pl.col("customer_id").cast(pl.Int16), pl.col("share").cast(pl.Float32)),
        "naive times": frame.with_columns(pl.col("paid_at").dt.replace_time_zone(None).dt.cast_time_unit("ms")),
    }[kind]
    assert store.push("behaviour", rows) == 2
    assert _found(store) == {"customer_id": [1, 2], "days": [7, None], "share": [1.0, 2.0]}
    assert store.push("behaviour", frame.with_columns(paid_at=pl.lit(_NOW - timedelta(hours=1)))) == 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"days": [2**63]}, InvalidInputError, "'days' holds a value that is too large"),
        ({"days": [1.5]}, InvalidInputError, "'days' holds a value that is not an int"),
        ({"days": [True]}, InvalidInputError, "'days' holds a value that is not an int"),
        ({"share": ["half"]}, InvalidInputError, "'share' holds a value that is not a float"),
        ({"customer_id": [None]}, InvalidInputError, "'customer_id' is null"),
        ({"customer_id": np.array([1, 2])}, InvalidInputError, "pushed columns need one length"),
        ({"paid_at": [None]}, InvalidInputError, "row 0 was pushed with the time None"),
    ],
)
def test_rows_that_do_not_fit_are_refused_whole(
    store: fb.FeatureStore, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    right: dict[str, Any] = {"customer_id": [2], "paid_at": [_NOW], "days": [7], "share": [1.0]}
    with pytest.raises(error, match=message):
        store.push("behaviour", right | change)
    assert _found(store)["days"] == [1, None]


def test_what_is_not_there_is_named(store: fb.FeatureStore, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'behaviour'"):
        store.push("behavior", {})
    with pytest.raises(UnknownNameError, match="did you mean 'behaviour'"):
        store.materialise(["behavior"])
    with pytest.raises(FlyballError, match="nowhere"):
        fb.FeatureStore(tmp_path / "nowhere").materialise()


def test_a_row_of_the_future_is_refused_since_it_would_hide_all_that_come_before_it(store: fb.FeatureStore) -> None:
    row: dict[str, Any] = {"customer_id": [2], "days": [7], "share": [1.0]}
    with pytest.raises(InvalidInputError, match=r"row 0 .*'behaviour' .*which has not come yet") as caught:
        store.push("behaviour", row | {"paid_at": [datetime.now(UTC) + timedelta(hours=8)]})
    assert "UTC" in str(caught.value.hint)
    assert store.push("behaviour", row | {"paid_at": [datetime.now(UTC) + timedelta(minutes=1)]}) == 1


class _Series:
    """A column as pandas has it: a list of plain values by its method only."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Any]:
        return iter(np.array(self.values))

    def tolist(self) -> list[Any]:
        return self.values


@pytest.mark.parametrize(
    "entities",
    [
        {"customer_id": np.array([1, 2])},
        {"customer_id": list(np.array([1, 2], dtype=np.int32))},
        {"customer_id": _Series([1, 2])},
        {"customer_id": range(1, 3)},
        {"customer_id": (number for number in (1, 2))},
        {"customer_id": pl.Series([1, 2])},
        pl.DataFrame({"customer_id": [1, 2]}),
        [{"customer_id": 1}, {"customer_id": 2}],
    ],
    ids=["array", "numbers of numpy", "pandas", "range", "generator", "series", "frame", "rows"],
)
def test_entities_may_be_asked_in_whatever_holds_them(store: fb.FeatureStore, entities: Any) -> None:
    found = store.get_online_features("behaviour", entities)
    assert found.to_dict() == {"customer_id": [1, 2], "days": [1, None], "share": [0.5, None]}
    assert {type(key) for key in found.columns[0]} == {int}


def test_rows_may_be_pushed_one_by_one(store: fb.FeatureStore) -> None:
    assert store.push("behaviour", [{"customer_id": 2, "paid_at": _NOW, "days": 7, "share": 1.0}]) == 1
    assert _found(store)["days"] == [1, 7]


@pytest.mark.parametrize(
    ("features", "entities", "message"),
    [
        (["behaviour"], {"customer_id": 1}, "entities hold one value in 'customer_id' instead of a column: 1"),
        (["behaviour"], {"customer_id": "12"}, "entities hold one value in 'customer_id' instead of a column: '12'"),
        (["behaviour"], [{"customer_id": 1}, {"customer": 2}], "row 1 of entities has other names than row 0"),
        (["behaviour"], 7, "entities cannot be read from int"),
        (None, {"customer_id": [1]}, "None is no reference to a feature"),
        ([7], {"customer_id": [1]}, "7 is no reference to a feature"),
    ],
)
def test_what_holds_no_columns_is_refused(store: fb.FeatureStore, features: Any, entities: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        store.get_online_features(features, entities)


def test_one_view_and_a_time_without_a_zone_will_do(store: fb.FeatureStore) -> None:
    done = store.materialise("behaviour", until=datetime(2999, 1, 1))
    assert [one.view for one in done] == ["behaviour"]
    with pytest.raises(InvalidInputError, match="rows hold one value in 'days'"):
        store.push("behaviour", {"customer_id": [1], "paid_at": [_NOW], "days": 7, "share": [1.0]})
