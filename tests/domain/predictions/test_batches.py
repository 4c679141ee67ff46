"""Batches: many predictions in one line, each found as if it had its own."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from flyball.core.clock import SimulatedClock
from flyball.core.encoding import to_json
from flyball.core.ids import IdSource, id_offset, list_ids
from flyball.domain.predictions.batches import BatchRecord, Layout, StoredRows, decode_batch, expand
from flyball.domain.predictions.log import PredictionLog, find_in_segment, list_open_segments, make_line, read_segment

LAYOUT = Layout(
    names=("customer_id", "income", "urgent"),
    dtypes=("int", "float", "bool"),
    inputs=("income", "urgent", "late", "absent"),
    input_dtypes=("float", "bool", "float", "float"),
    entity=("customer_id",),
    key=("order",),
)


def make_batch(first: str, rows: int, **changes: Any) -> BatchRecord:
    values = [[float(row), row * 1.5, 1.0] for row in range(rows)]
    fields: dict[str, Any] = {
        "batch": 1,
        "id": first,
        "endpoint": "credit",
        "at_us": 1_000_000,
        "variant": "live",
        "version": "m/1",
        "layout": msgspec.Raw(to_json(LAYOUT)),
        "values": [value for row in values for value in row],
        "others": {"order": [f"o{row}" for row in range(rows)]},
        "views": {"payments": StoredRows(version="v1", event_times_us=[None] * rows, columns={"late": [None] * rows})},
        "predictions": [row / 10 for row in range(rows)],
    }
    return BatchRecord(**(fields | changes))


def test_each_row_becomes_a_prediction_with_the_types_of_its_columns(clock: SimulatedClock) -> None:
    first = IdSource(clock).new()
    records = expand(decode_batch(to_json(make_batch(first, 2, shadow_of=["a", "b"], scores=[[0.1, 0.9], [0.5, 0.5]]))))
    assert [record.id for record in records] == list_ids(first, 2)
    assert records[1].request_fields == {"customer_id": 1, "income": 1.5, "urgent": True, "order": "o1"}
    assert records[1].feature_values == {"income": 1.5, "urgent": True, "late": None, "absent": None}
    assert (records[1].entity, records[1].key) == ({"customer_id": 1}, {"order": "o1"})
    assert (records[1].time_us, records[1].prediction, records[1].scores) == (1_000_000, 0.1, [0.5, 0.5])
    assert (records[1].shadow_of, records[1].views["payments"].event_time_us) == ("b", None)


def test_inputs_that_are_fields_of_the_same_types_are_taken_as_they_are(clock: SimulatedClock) -> None:
    inputs = {"inputs": ("urgent", "customer_id"), "input_dtypes": ("bool", "int")}
    layout = msgspec.structs.replace(LAYOUT, **inputs)
    batch = make_batch(IdSource(clock).new(), 1, layout=msgspec.Raw(to_json(layout)), values=[3.0, 2, None], views={})
    [record] = expand(batch)
    assert record.request_fields == {"customer_id": 3, "income": 2.0, "urgent": None, "order": "o0"}
    assert bytes(record.features) == b'{"urgent":null,"customer_id":3}'


def test_nested_and_flat_numbers_say_the_same(clock: SimulatedClock) -> None:
    batch = make_batch(IdSource(clock).new(), 3)
    nested = make_batch(batch.id, 3, values=[batch.values[at : at + 3] for at in (0, 3, 6)])
    assert expand(nested) == expand(batch)


def test_a_prediction_inside_a_batch_is_found_by_its_id(tmp_path: Path, clock: SimulatedClock, new_record: Any) -> None:
    ids = IdSource(clock)
    log = PredictionLog(tmp_path, clock, ids)
    batches = [ids.new_many(5) for _ in range(4)]
    for number in batches:
        log.append_lines("credit", make_line(to_json(make_batch(number[0], 5))), 5)
    [segment] = list_open_segments(tmp_path, "credit")
    assert len(read_segment(segment).records) == 20
    for number in batches:
        for row, identifier in enumerate(number):
            found = find_in_segment(segment, identifier)
            assert found is not None
            assert (found.id, found.prediction) == (identifier, row / 10)
    assert find_in_segment(segment, ids.new()) is None
    assert find_in_segment(segment, "nobody") is None


@given(st.lists(st.integers(1, 2_500), min_size=1, max_size=4))
def test_ids_made_together_are_those_made_one_by_one(counts: list[int]) -> None:
    clock = SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
    together, single = (IdSource(clock, lambda count: b"\x7f" * count) for _ in range(2))
    for count in counts:
        made = list(together.new_many(count))
        assert made == [single.new() for _ in range(count)]
        assert id_offset(made[0], made[-1]) == count - 1
        assert sorted(set(made)) == made
