"""The law of windows: the sum of tiles is the tile of the rows, in whatever pieces and order they came."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.domain.monitoring.traffic import draw_features, make_baseline, make_records

from flyball.core.encoding import from_json, to_json
from flyball.domain.monitoring.windows import (
    HOUR_US,
    MINUTE_US,
    Tile,
    choose_size_us,
    cover,
    make_tiles,
    sum_tiles,
)
from flyball.domain.predictions.frames import to_frame
from flyball.domain.predictions.records import PredictionStatus

START = datetime(2026, 3, 1, tzinfo=UTC)
BASELINES = {"credit-risk/1": make_baseline(), "credit-risk/2": make_baseline("credit-risk/2", seed=1, shift=0.3)}
_row = st.tuples(
    st.integers(0, 5 * 3600),
    st.sampled_from(["credit-risk/1", "credit-risk/2", "credit-risk/3"]),
    st.sampled_from(["live", "canary", "shadow"]),
    st.sampled_from(list(PredictionStatus)),
    st.integers(1, 10**7),
)


def _frame(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    features = draw_features(np.random.default_rng(len(rows)), len(rows))
    records = []
    for number, (second, version, variant, status, latency_us) in enumerate(rows):
        records += make_records(
            features[number],
            [START + timedelta(seconds=second)],
            version=version,
            variant=variant,
            status=status,
            latency_us=latency_us,
            first=number,
        )
    return to_frame(records)


def _equal(one: Tile, other: Tile) -> bool:
    """Compare all that is counted exactly; sums of floats only nearly, since they depend on the order."""
    plain_one, plain_other = _without_sums(one), _without_sums(other)
    near = np.allclose([one.total, one.squares], [other.total, other.squares])
    return plain_one == plain_other and bool(near)


def _without_sums(tile: Tile) -> list[Any]:
    columns = [
        (name, column.cells, column.nulls)
        for counts in (tile.inputs, tile.outputs)
        if counts is not None
        for name, column in counts.columns.items()
    ]
    return [tile.statuses, tile.latencies, tile.predicted, columns]


def _whole(frame: pl.DataFrame) -> Tile:
    tiles = make_tiles(frame, BASELINES.get)
    return sum_tiles(tile for place, tile in tiles.items() if place.size_us == HOUR_US and place.version[-1] == "1")


@settings(deadline=None, max_examples=40)
@given(st.lists(_row, min_size=1, max_size=40), st.data())
def test_the_tiles_of_pieces_add_up_to_the_tiles_of_the_whole(rows: list[tuple[Any, ...]], data: st.DataObject) -> None:
    frame = _frame(rows)
    order = data.draw(st.permutations(range(len(rows))))
    cut = data.draw(st.integers(0, len(rows)))
    pieces = [frame[order[:cut]], frame[order[cut:]]]
    assert _equal(sum_tiles(_whole(piece) for piece in pieces if piece.height), _whole(frame))


@settings(deadline=None, max_examples=40)
@given(st.lists(_row, min_size=1, max_size=40), st.integers(0, 5), st.integers(0, 5))
def test_the_window_of_tiles_is_the_window_of_rows(rows: list[tuple[Any, ...]], one: int, other: int) -> None:
    frame = _frame(rows)
    since, until = START + timedelta(hours=min(one, other)), START + timedelta(hours=max(one, other))
    begin, end = cover(since, until, HOUR_US)
    at = pl.col("at").dt.epoch("us")
    inside = frame.filter(at >= begin, at < end, pl.col("version") == "credit-risk/1")
    tiles = make_tiles(frame, BASELINES.get)
    window = sum_tiles(
        tile
        for place, tile in tiles.items()
        if place.size_us == HOUR_US and begin <= place.start_us < end and place.version == "credit-risk/1"
    )
    direct = _whole(inside) if inside.height else Tile()
    assert _equal(window, direct)


@given(st.lists(_row, min_size=1, max_size=40))
@settings(deadline=None, max_examples=30)
def test_minutes_add_up_to_their_hours(rows: list[tuple[Any, ...]]) -> None:
    tiles = make_tiles(_frame(rows), BASELINES.get)
    sums = {
        size: sum_tiles(tile for place, tile in tiles.items() if place.size_us == size) for size in (MINUTE_US, HOUR_US)
    }
    assert sums[MINUTE_US].statuses == sums[HOUR_US].statuses
    assert sums[MINUTE_US].latencies == sums[HOUR_US].latencies
    assert sums[MINUTE_US].predicted == sums[HOUR_US].predicted


def test_a_tile_survives_being_written_down() -> None:
    frame = _frame([(10, "credit-risk/1", "live", PredictionStatus.OK, 900)])
    for tile in make_tiles(frame, BASELINES.get).values():
        assert from_json(to_json(tile), Tile) == tile


def test_refused_rows_count_but_their_features_do_not() -> None:
    tile = _whole(_frame([(10, "credit-risk/1", "live", PredictionStatus.REFUSED, 900)] * 3))
    assert tile.ended(PredictionStatus.REFUSED) == 3
    assert tile.inputs is None


@pytest.mark.parametrize(
    ("window", "size"),
    [(timedelta(minutes=5), MINUTE_US), (timedelta(hours=5), MINUTE_US), (timedelta(days=1), HOUR_US)],
)
def test_short_windows_are_sums_of_minutes(window: timedelta, size: int) -> None:
    assert choose_size_us(window // timedelta(microseconds=1)) == size
