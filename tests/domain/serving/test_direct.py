"""The short way of requests: the same answers and the same log as the long way, or none."""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyball.core.clock import SimulatedClock
from flyball.domain.data.expectations import column, flatten
from flyball.domain.data.requests import RequestSchema
from flyball.domain.data.row_checks import compile_row
from flyball.domain.data.schemas import Field, Schema
from flyball.domain.data.tables import Table
from flyball.domain.features.training_sets import ViewRef
from flyball.domain.features.views import RequestFeatures
from flyball.domain.predictions.masking import Mask
from flyball.domain.registry.signatures import Signature
from flyball.domain.serving.ab_tests import ab_test
from flyball.domain.serving.bandits import bandit
from flyball.domain.serving.data_plane import DataPlane
from flyball.domain.serving.direct import Block, find_direct, list_rows
from flyball.domain.serving.direct_plane import DirectAnswer
from flyball.domain.serving.loaded import LoadedVersion
from flyball.domain.serving.rollouts import Stage, canary, shadow

from .conftest import START, House

_DROPPED = {"id", "latency_us"}
_JSON = {"request", "features", "entity", "key", "views"}


class ArrayPredictor:
    """Adds a row's numbers, as frames and as arrays; refuses those of more than 900."""

    def __init__(self, width: int = 1, factor: float = 1.0) -> None:
        self._width = width
        self._factor = factor
        self.sizes: list[int] = []

    def predict(self, frame: pl.DataFrame) -> Any:
        return self.predict_array(frame.select(pl.all().cast(pl.Float64)).to_numpy())

    def predict_array(self, inputs: Any) -> Any:
        self.sizes.append(len(inputs))
        total = np.nansum(inputs, axis=1) * self._factor
        if (total > 900).any():
            raise ValueError("too much")
        total = np.where(total < -900, np.nan, total)
        return total if self._width == 1 else np.stack([total, total * 2, -total], axis=1)


def make(ref: str, predictor: Any = None, **changes: Any) -> LoadedVersion:
    fields = [
        Field(name="customer_id", dtype="int", nullable=False),
        Field(name="income", dtype="float", nullable=False),
        Field(name="term", dtype="int"),
        Field(name="urgent", dtype="bool"),
        Field(name="channel", dtype="string"),
        Field(name="applied_at", dtype="datetime"),
    ]
    rules = flatten(
        [
            column("income").between(-500, 1_000),
            column("term").is_in([1, 2, 3]),
            column("channel").matches("[a-z]*"),
            column("customer_id").at_least(0),
        ],
        of="applications",
    )
    names = ("income", "term", "urgent", "late")
    classes = changes.pop("classes", (False, True))
    settings_: dict[str, Any] = {
        "ref": ref,
        "predictor": predictor or ArrayPredictor(),
        "signature": Signature(
            features=Schema(
                tuple(Field(name=n, dtype={"term": "int", "urgent": "bool"}.get(n, "float")) for n in names)  # type: ignore[arg-type]
            ),
            task="binary" if len(classes) == 2 else "multiclass",
            label="defaulted",
            label_dtype="bool",
            classes=classes,
        ),
        "request": RequestSchema(Schema(tuple(fields)), optional=["applied_at"]),
        "check_row": compile_row(rules),
        "rules": tuple(rules),
        "entity": ("customer_id",),
        "key": ("channel",),
        "time": "applied_at",
        "views": (ViewRef("payments", "v1", timedelta(days=1), ("customer_id",)),),
    }
    return LoadedVersion(**(settings_ | changes))


def ask(plane: DataPlane, columns: Mapping[str, Sequence[Any]], height: int) -> DirectAnswer | None:
    version = plane.find_direct("credit")
    assert version is not None
    block = version.read_columns(columns, height)
    begun = None if block is None else plane.begin_direct("credit", version, block, 0.0)
    return None if begun is None else plane.answer_direct([begun])[0]


def log_of(house: House) -> list[dict[str, Any]]:
    rows = house.sealed().sort("id").to_dicts()
    return [
        {name: json.loads(value) if name in _JSON else value for name, value in row.items() if name not in _DROPPED}
        for row in rows
    ]


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


_MISTAKES = st.sampled_from([None, "x", True, 10**20, 1.5, 7])
_ROW = st.fixed_dictionaries(
    {
        "customer_id": st.integers(-1, 20),
        "income": st.floats(-600, 1_100) | st.integers(-10, 10) | _MISTAKES,
        "term": st.integers(1, 3) | st.none() | _MISTAKES,
        "urgent": st.booleans() | st.none(),
        "channel": st.sampled_from(["web", "shop", "WEB"]) | st.none(),
        "applied_at": st.sampled_from([None, "2026-03-01T10:00:00Z", "2026-02-28", "yesterday"]),
    }
)
_RIGHT_ROW = st.fixed_dictionaries(
    {
        "customer_id": st.integers(0, 20),
        "income": st.floats(-400, 400) | st.integers(-10, 10),
        "term": st.integers(1, 3) | st.none(),
        "urgent": st.booleans() | st.none(),
        "channel": st.sampled_from(["web", "shop"]) | st.none(),
    }
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_ROW, min_size=1, max_size=3) | st.lists(_RIGHT_ROW, min_size=1, max_size=6))
def test_the_short_way_answers_and_logs_as_the_long_way_does_or_not_at_all(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    short, long = (House(tmp_path_factory.mktemp("house"), SimulatedClock(START)) for _ in range(2))
    for house in (short, long):
        house.versions["m/1"] = make("m/1")
        house.go_live("m/1")
    answers = long.plane.predict("credit", rows)

    answer = ask(short.plane, columns_of(rows), len(rows))

    is_right = all(found.status == "ok" and not found.warnings for found in answers)
    if answer is None:
        assert not is_right
        assert log_of(short) == []
        return
    assert is_right
    assert answer.values == [found.prediction for found in answers]
    assert [answer.features(row) for row in range(len(rows))] == [found.features for found in answers]
    assert log_of(short) == log_of(long)


def test_rows_with_right_values_do_go_the_short_way(house: House) -> None:
    house.versions["m/1"] = make("m/1")
    house.go_live("m/1")
    row = {"customer_id": 3, "income": 10, "term": None, "urgent": True, "channel": "web"}

    answer = ask(house.plane, columns_of([row, row]), 2)

    assert answer is not None
    assert answer.values == [14.0, 14.0]
    assert house.predictions.get(answer.ids[1]).request_fields == row
    assert len(house.sealed()) == 2
    assert house.predictions.get(answer.ids[1]).feature_values == {
        "income": 10.0,
        "term": None,
        "urgent": True,
        "late": 3.0,
    }


def test_of_several_classes_the_likeliest_is_answered_with_all_scores(house: House) -> None:
    house.versions["m/1"] = make("m/1", ArrayPredictor(3), classes=("a", "b", "c"))
    house.go_live("m/1")
    row = {"customer_id": 13, "income": 10, "term": 1, "urgent": None, "channel": None}

    answer = ask(house.plane, columns_of([row]), 1)

    assert answer is not None
    assert (answer.values, answer.scores) == (["b"], [[11.0, 22.0, -11.0]])
    assert house.sealed()["scores"].to_list() == [[11.0, 22.0, -11.0]]


def test_requests_that_come_together_are_computed_at_once_and_a_bad_one_spoils_none(house: House) -> None:
    predictor = ArrayPredictor()
    house.versions["m/1"] = make("m/1", predictor, views=())
    house.go_live("m/1")
    version = house.plane.find_direct("credit")
    assert version is not None
    rows = {"customer_id": [3], "term": [1], "urgent": [None], "channel": [None]}
    asks = []
    for income in (1.0, 2.0, 950.0, 3.0):
        block = version.read_columns(rows | {"income": [income]}, 1)
        assert block is not None
        asks.append(house.plane.begin_direct("credit", version, block, 0.0))

    together = house.plane.answer_direct([asks[0], asks[1]])  # type: ignore[list-item]
    mixed = house.plane.answer_direct(asks)  # type: ignore[arg-type]

    assert [None if found is None else found.values for found in together] == [[2.0], [3.0]]
    assert predictor.sizes[0] == 2
    assert [None if found is None else found.values for found in mixed] == [[2.0], [3.0], None, [4.0]]
    assert len(house.sealed()) == 5


def test_a_canary_and_a_shadow_take_the_short_way_too(house: House) -> None:
    house.versions["m/1"], house.versions["m/2"] = make("m/1"), make("m/2", ArrayPredictor(factor=2.0))
    house.go_live("m/1")
    house.start("m/2", shadow("1h"), canary(0.5, "1h"))
    row = {"customer_id": 13, "income": 10, "term": 1, "urgent": None, "channel": None}

    assert ask(house.plane, columns_of([row]), 1) is not None

    logged = house.sealed().sort("id")
    assert logged["variant"].to_list() == ["live", "shadow"]
    assert logged["prediction"].to_list() == [11.0, 22.0]
    assert logged["shadow_of"].to_list() == [None, logged["id"][0]]


@pytest.mark.parametrize(
    "stage",
    [
        canary(0.5, "1h"),
        ab_test("accuracy", min_effect=0.1, share=0.4, by=["income"]),
        bandit("accuracy", min_share=0.3, by=["customer_id", "nobody"]),
    ],
    ids=str,
)
def test_an_entity_gets_the_same_variant_on_both_ways(house: House, stage: Stage) -> None:
    house.versions["m/1"], house.versions["m/2"] = make("m/1"), make("m/2")
    house.go_live("m/1")
    house.start("m/2", stage)
    seen = set()
    for customer in range(30):
        row = {"customer_id": customer, "income": 10 + customer, "term": 1, "urgent": None, "channel": None}
        short, [long] = ask(house.plane, columns_of([row]), 1), house.plane.predict("credit", [row])
        assert short is not None
        assert (short.variant, short.loaded.ref) == (long.variant, long.model_version)
        seen.add(str(short.variant))
    assert seen == {"live", "canary"}
    logged = house.sealed().sort("id")
    assert logged["propensity"][::2].equals(logged["propensity"][1::2])
    assert logged["propensity"].null_count() == 0


def test_a_matrix_of_numbers_keeps_the_text_that_came(house: House) -> None:
    numbers = [field for field in make("m/1").request.schema.fields if field.name in ("customer_id", "income")]
    version = make(
        "m/1",
        request=RequestSchema(Schema(tuple(numbers))),
        rules=(),
        check_row=compile_row([]),
        key=(),
        time=None,
        views=(),
    )
    house.versions["m/1"] = version
    house.go_live("m/1")
    direct = find_direct(version)
    assert direct is not None and direct.is_matrix
    block = Block([3.0, 1.5, 4.0, 2.5], 2, text=b"[3, 1.50, 4.0, 2.5]")
    begun = house.plane.begin_direct("credit", direct, block, 0.0)
    assert begun is not None

    [answer] = house.plane.answer_direct([begun])

    assert answer is not None and answer.values == [1.5, 2.5]
    assert list_rows(direct, block) == [{"customer_id": 3, "income": 1.5}, {"customer_id": 4, "income": 2.5}]
    assert house.predictions.get(answer.ids[1]).request_fields == {"customer_id": 4, "income": 2.5}
    assert [row["entity"] for row in log_of(house)] == [{"customer_id": 3}, {"customer_id": 4}]


@pytest.mark.parametrize("numbers", [[3.5, 1.0], [float("nan"), 1.0], [3.0, float("inf")], [2.0**60, 1.0]])
def test_a_matrix_whose_numbers_may_be_wrong_goes_the_long_way(house: House, numbers: list[float]) -> None:
    fields = [field for field in make("m/1").request.schema.fields if field.name in ("customer_id", "income")]
    version = make("m/1", request=RequestSchema(Schema(tuple(fields))), rules=(), key=(), time=None, views=())
    house.versions["m/1"] = version
    house.go_live("m/1")
    direct = find_direct(version)
    assert direct is not None
    begun = house.plane.begin_direct("credit", direct, Block(numbers, 1), 0.0)
    assert begun is not None
    assert house.plane.answer_direct([begun]) == [None]


def test_versions_that_need_more_than_numbers_have_no_short_way(tmp_path: Path) -> None:
    requested = RequestFeatures("burden", Table("applications.csv", name="applications"), lambda rows: rows)
    assert find_direct(make("m/1", request_features=(requested,))) is None
    assert find_direct(make("m/1", predictor=object())) is None


def test_what_is_sensitive_is_masked_on_the_short_way_too(house: House, tmp_path: Path) -> None:
    mask = Mask({"customer_id": "hash", "income": "leave out"}, b"k" * 32)
    house.predictions.log.mask_of = lambda endpoint: mask
    house.versions["m/1"] = make("m/1")
    house.go_live("m/1")
    row = {"customer_id": 7, "income": 123.25, "term": None, "urgent": True, "channel": "web"}

    answer = ask(house.plane, columns_of([row, row]), 2)

    assert answer is not None
    for line in (path.read_bytes() for path in tmp_path.rglob("*.jsonl")):
        assert b"123.25" not in line and b'"customer_id":7' not in line
    record = house.predictions.get(answer.ids[1])
    assert record.request_fields == {**mask.keys({"customer_id": 7}), "term": None, "urgent": True, "channel": "web"}
    assert record.entity == mask.keys({"customer_id": 7})
    assert record.feature_values == {"term": None, "urgent": True, "late": 7.0}
    assert len(house.sealed()) == 2
