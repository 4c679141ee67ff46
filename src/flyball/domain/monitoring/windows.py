"""Windows as sums of tiles: additive counts of one endpoint, version and variant, by the hour and by the minute.

Law: the sum of the tiles of a time equals the tile of the rows of that time, in whatever order and pieces the rows
came. So a window costs the same at any traffic, and rows that are sealed late still land in the hour of their own.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec
import polars as pl

from flyball.core.durations import to_us
from flyball.domain.data.profiles import Counts
from flyball.domain.monitoring.counting import count_parts, sum_counts
from flyball.domain.monitoring.distributions import Baseline, read_inputs, read_outputs
from flyball.domain.monitoring.latencies import Histogram, place_latencies
from flyball.domain.predictions.records import PredictionStatus

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
_NO_FEATURES = "{}"
K = TypeVar("K")

BaselineOf = Callable[[str], Baseline | None]
"""Returns what a version such as ``credit-risk/3`` is compared with; None where there is no such package."""


class Tile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Counts of some rows; `+` gives the counts of both.

    Attributes:
        statuses: How many rows ended how (`PredictionStatus`).
        latencies: How long the ok ones took.
        predicted: How many predictions there are,
        total: their sum,
        squares: and the sum of their squares.
        inputs: Features over the cells of the version's profile; hours only.
        outputs: Predictions over the cells of the version's profile; hours only.
    """

    statuses: dict[str, int] = {}
    latencies: Histogram = {}
    predicted: int = 0
    total: float = 0.0
    squares: float = 0.0
    inputs: Counts | None = None
    outputs: Counts | None = None

    def __add__(self, other: "Tile") -> "Tile":
        return sum_tiles([self, other])

    @property
    def rows(self) -> int:
        """All rows, however they ended."""
        return sum(self.statuses.values())

    def ended(self, status: PredictionStatus) -> int:
        """Return how many rows ended so."""
        return self.statuses.get(status, 0)


class TilePlace(msgspec.Struct, frozen=True, order=True):
    """Where a tile lies: it covers ``[start_us, start_us + size_us)``."""

    size_us: int
    start_us: int
    version: str
    variant: str


def choose_size_us(duration_us: int) -> int:
    """Return the size of tiles for a window: minutes for short ones, hours from six hours up."""
    return MINUTE_US if duration_us < 6 * HOUR_US else HOUR_US


def cover(since: datetime, until: datetime, size_us: int) -> tuple[int, int]:
    """Return the begin and end of the tiles that cover [since, until], so up to one tile more on each side."""
    begin, end = to_us(since), to_us(until)
    return begin - begin % size_us, end - end % size_us + size_us


def sum_tiles(tiles: Iterable[Tile]) -> Tile:
    """Return the counts of all."""
    parts = list(tiles)
    if len(parts) == 1:
        return parts[0]
    return Tile(
        statuses=_sum_counts([part.statuses for part in parts]),
        latencies=_sum_counts([part.latencies for part in parts]),
        predicted=sum([part.predicted for part in parts]),
        total=sum([part.total for part in parts]),
        squares=sum([part.squares for part in parts]),
        inputs=sum_counts([part.inputs for part in parts if part.inputs is not None]),
        outputs=sum_counts([part.outputs for part in parts if part.outputs is not None]),
    )


def make_tiles(frame: pl.DataFrame, baseline_of: BaselineOf) -> dict[TilePlace, Tile]:
    """Count rows of the prediction log (`records.FRAME_SCHEMA`) into tiles of both sizes."""
    drafts: dict[tuple[int, int, str, str], _Draft] = {}
    names = ("version", "variant", "status", "features", "prediction")
    columns = [frame[name].to_list() for name in names]
    instants = frame["at"].dt.epoch("us").to_list()
    latencies = place_latencies(frame["latency_us"].fill_null(0).to_numpy()).tolist()
    for number, (at_us, latency, version, variant, status, features, prediction) in enumerate(
        zip(instants, latencies, *columns, strict=True)
    ):
        for size_us in (MINUTE_US, HOUR_US):
            key = (size_us, at_us - at_us % size_us, version, variant)
            draft = drafts.get(key) or drafts.setdefault(key, _Draft())
            draft.take(status, prediction, latency)
        if version and features != _NO_FEATURES:
            draft.with_features.append(number)
    tiles = {TilePlace(*key): draft.finish() for key, draft in drafts.items()}
    served = {TilePlace(*key): draft.with_features for key, draft in drafts.items() if draft.with_features}
    for place, inputs, outputs in _count_hours(frame, served, baseline_of):
        tiles[place] = msgspec.structs.replace(tiles[place], inputs=inputs, outputs=outputs)
    return tiles


class _Draft:
    """A tile while its rows are counted."""

    __slots__ = ("latencies", "predicted", "squares", "statuses", "total", "with_features")

    def __init__(self) -> None:
        self.statuses: dict[str, int] = {}
        self.latencies: Histogram = {}
        self.predicted = 0
        self.total = 0.0
        self.squares = 0.0
        self.with_features: list[int] = []

    def take(self, status: str, prediction: float | None, latency: int) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == PredictionStatus.OK:
            self.latencies[latency] = self.latencies.get(latency, 0) + 1
        if prediction is not None and prediction - prediction == 0:  # neither NaN nor infinite
            self.predicted += 1
            self.total += prediction
            self.squares += prediction * prediction

    def finish(self) -> Tile:
        return Tile(
            statuses=self.statuses,
            latencies=self.latencies,
            predicted=self.predicted,
            total=self.total,
            squares=self.squares,
        )


def _count_hours(
    frame: pl.DataFrame, served: Mapping[TilePlace, Sequence[int]], baseline_of: BaselineOf
) -> Iterable[tuple[TilePlace, Counts, Counts]]:
    """Count over the profiles; JSON is read once for a version, not once for each of its hours."""
    for version in {place.version for place in served}:
        baseline = baseline_of(version)
        if baseline is None:
            continue
        places = {place: numbers for place, numbers in served.items() if place.version == version}
        rows = frame[[number for numbers in places.values() for number in numbers]]
        inputs, outputs = read_inputs(baseline, rows), read_outputs(baseline, rows)
        lengths = [len(numbers) for numbers in places.values()]
        of_inputs = count_parts(baseline.profile.features, inputs, lengths)
        of_outputs = count_parts(baseline.profile.predictions, outputs, lengths)
        yield from zip(places, of_inputs, of_outputs, strict=True)


def _sum_counts(parts: Iterable[Mapping[K, int]]) -> dict[K, int]:
    total: dict[K, int] = {}
    for part in parts:
        for key, count in part.items():
            total[key] = total.get(key, 0) + count
    return total
