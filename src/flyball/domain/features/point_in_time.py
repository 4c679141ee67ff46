"""Joins that never look ahead: each row gets what was known at its time."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from flyball.core.durations import to_us

Ints = npt.NDArray[np.int64]
UInts = npt.NDArray[np.uint64]
Places = npt.NDArray[np.uint32]
Bools = npt.NDArray[np.bool_]
Result = TypeVar("Result")

USABLE = "__usable_from"
"""The column that says from when on a row counts: the later of its time and when it was known."""
ROW = "__row"
"""The column that says which row of a frame is meant, by its number."""
_KNOWN, _CODE = "__known", "__code"
# An entity's code and a place are one number, so that one fast sort brings the rows of each entity together.
_HALF, _PLACE = np.uint64(32), np.uint64((1 << 32) - 1)
_NOBODY = (1 << 32) - 1  # the code of those that no row is about
_NEVER = -(1 << 63)
_STEPS = 16  # how many rows a question may walk back over, on the average
_PART = 1 << 18  # rows or questions


class Timelines:
    """Tells for an entity and an instant the newest row whose time and known time are not later.

    Of rows with one time the last known counts, of those the last in the frame. Rows without a key or a time, or with
    ``known`` but no value in it, never count.

    A question is a search by time and, where the row found was not known yet, a walk back to the one before, which is
    much less work than an order by known time where few rows are late for anybody who asks. Where walks get long, the
    questions left are searched for among the rows in the order in which they became usable.

    Args:
        rows: Keys and times; other columns do not matter.
        by: The keys.
        time: The column that says when a row held.
        known: The one that says when it became known; by default at its time.
    """

    def __init__(self, rows: pl.DataFrame, *, by: Sequence[str], time: str, known: str | None = None) -> None:
        self._by, self._time = list(by), time
        chosen = rows.select(*by, time, pl.col(known or time).alias(_KNOWN)).with_row_index(ROW)
        if any(chosen.null_count().row(0)):
            chosen = chosen.drop_nulls()
        if not chosen.get_column(time).is_sorted():
            chosen = chosen.sort(time, maintain_order=True)
        self._rows = chosen.select(*by, time)
        self._numbers = chosen.get_column(ROW).to_numpy()
        self._at = _us(chosen.get_column(time))
        self._entities = EntityCodes(chosen.select(by))
        self._usable = self._at if known is None else np.maximum(self._at, self._ordered(chosen.get_column(_KNOWN)))
        self._is_known_at_once = known is None or np.array_equal(self._at, self._usable)

    @cached_property
    def _placed(self) -> UInts:
        """Codes and places of all rows: those of each entity together, in the order of their times."""
        placed = (self._entities.of(self._rows) << _HALF) | np.arange(self._rows.height, dtype=np.uint64)
        placed.sort()
        return placed

    def _ordered(self, known: pl.Series) -> Ints:
        """Let rows of one entity and time change places until the last known comes last; return the known times."""
        known_us, tie = _us(known), self._pairs(lambda one, other: self._at[one] == self._at[other])
        one, other = _places(self._placed[tie]), _places(self._placed[tie + 1])
        if not np.any(known_us[one] > known_us[other]):
            return known_us
        slots = np.union1d(tie, tie + 1)
        run = np.cumsum(~np.isin(slots - 1, tie))
        place = _places(self._placed[slots])
        source = place[np.lexsort((known_us[place], run))]
        known_us, self._numbers = known_us.copy(), self._numbers.copy()
        known_us[place], self._numbers[place] = known_us[source], self._numbers[source]
        return known_us

    def _pairs(self, is_meant: Callable[[Places, Places], Bools]) -> Ints:
        """Return the slots of those rows which, with the next of their entity, are of some kind."""

        def find(part: slice) -> Ints:
            placed = self._placed[part.start : part.stop + 1]
            place = _places(placed)
            has_next = (placed[:-1] ^ placed[1:]) <= _PLACE
            found: Ints = part.start + np.flatnonzero(has_next & is_meant(place[:-1], place[1:]))
            return found

        return np.concatenate(_in_parts(len(self._placed), find))

    def late_entities(self, most: int) -> pl.DataFrame:
        """Return keys of entities that had rows known before older ones; else, before others of the same time.

        Args:
            most: How many rows at most, the oldest such; an entity may be among them several times.
        """
        at, usable = self._at, self._usable
        found = self._pairs(lambda one, other: usable[one] > usable[other])
        if not len(found):
            found = self._pairs(lambda one, other: (at[one] == at[other]) & (usable[one] < usable[other]))
        place = np.sort(_places(self._placed[found]))[:most]
        return self._rows.select(pl.col(self._by).gather(pl.Series(place)))

    def newest_in_turn(self) -> pl.DataFrame:
        """Return the rows that are ever the newest usable one of their entity, in the order of their becoming usable.

        In that order an entity's times never fall, so its newest usable row is also the one that became usable last.

        Returns:
            Keys, time, `USABLE` and `ROW`.
        """
        if self._is_known_at_once:
            return self._rows.with_columns(pl.col(self._time).alias(USABLE), pl.Series(ROW, self._numbers))
        turn, placed = self._turns
        place = turn[np.sort(_places(placed))]
        usable = pl.Series(USABLE, self._usable[place]).cast(self._rows.schema[self._time])
        return self._rows.select(pl.all().gather(pl.Series(place))).with_columns(
            usable, pl.Series(ROW, self._numbers[place])
        )

    @cached_property
    def _turns(self) -> tuple[Ints, UInts]:
        """The places of rows in the order of their becoming usable; and those ever the newest, placed in this order."""
        usable = pl.DataFrame({USABLE: self._usable})
        turn = usable.select(pl.arg_sort_by(USABLE, maintain_order=True)).to_series().to_numpy().astype(np.int64)
        number = np.empty(len(turn), dtype=np.uint64)
        number[turn] = np.arange(len(turn), dtype=np.uint64)
        # From the newest row of an entity to its oldest: those count that became usable before all newer ones.
        placed = (self._placed & ~_PLACE) | number[_places(self._placed)]
        first = np.minimum.accumulate(placed[::-1])[::-1]
        return turn, placed[np.append(placed[:-1] < first[1:], True)] if len(placed) else placed

    def find(
        self, spine: pl.DataFrame, *, time: str, as_of: datetime | None = None, ttl: timedelta | None = None
    ) -> pl.Series:
        """Find for each row of a spine the newest row of its entity that was usable at its time.

        Args:
            spine: Keys and times; a row without a time or a key finds nothing.
            time: The spine's time column.
            as_of: Rows that became usable later are not used.
            ttl: A row counts until this long after its time, inclusive; for ever by default.

        Returns:
            Numbers of rows in the frame that was given at the start, in the order of the spine; null where there is
            none.
        """
        if not self._rows.height:
            return pl.Series(ROW, [None] * spine.height, dtype=pl.UInt32)
        asked = _us(spine.get_column(time).cast(self._rows.schema[self._time]))
        until = asked if as_of is None else np.minimum(asked, to_us(as_of))
        codes = self._entities.of(spine)
        walked = _in_parts(spine.height, lambda part: self._walk(codes[part], until[part]))
        place = np.concatenate([places for places, _ in walked])
        late = np.concatenate([is_late for _, is_late in walked])
        if np.any(late):
            place[late] = self._find_in_turn(codes[late], until[late])
        has_row = place >= 0
        if ttl is not None:
            has_row &= asked - self._at[place] <= ttl // timedelta(microseconds=1)
        return pl.select(pl.when(pl.Series(has_row)).then(pl.Series(self._numbers[place])).alias(ROW)).to_series()

    def _walk(self, codes: UInts, until: Ints) -> tuple[Ints, Bools]:
        """Return the place of the newest row usable by an instant for each entity; and for which walks got too long.

        The place is -1 where there is none.
        """
        slot = _find_last(self._placed, codes, np.searchsorted(self._at, until, side="right"))
        late = self._not_known(slot, np.flatnonzero(slot >= 0), until)
        left = _STEPS * len(codes)
        while 0 < len(late) <= left:
            left -= len(late)
            slot[late] -= 1
            has_older = (slot[late] >= 0) & (self._placed[slot[late]] >> _HALF == codes[late])
            slot[late[~has_older]] = -1
            late = self._not_known(slot, late[has_older], until)
        is_late = np.zeros(len(codes), dtype=np.bool_)
        is_late[late] = True
        return np.where(slot >= 0, _places(self._placed[slot]).astype(np.int64), -1), is_late

    def _not_known(self, slot: Ints, asked: Ints, until: Ints) -> Ints:
        """Return those of some questions for which the row found was not usable yet."""
        if self._is_known_at_once:
            return asked[:0]
        return asked[self._usable[_places(self._placed[slot[asked]])] > until[asked]]

    def _find_in_turn(self, codes: UInts, until: Ints) -> Ints:
        """Do what `_walk` does, by the order in which rows became usable."""
        turn, placed = self._turns
        slot = _find_last(placed, codes, np.searchsorted(self._usable[turn], until, side="right"))
        return np.where(slot >= 0, turn[_places(placed)[slot]], -1)


class EntityCodes:
    """Gives each entity that rows are about a number below 2**32 - 1.

    Args:
        rows: The keys, without nulls.
    """

    def __init__(self, rows: pl.DataFrame) -> None:
        self._rows = rows
        self._first: int | None = None
        key = rows.to_series()
        if rows.width == 1 and rows.height and key.dtype.is_integer() and key.dtype != pl.UInt64:
            self._first, self._last = int(key.min()), int(key.max())  # type: ignore[arg-type]
            if self._last - self._first >= _NOBODY:
                self._first = None

    def of(self, frame: pl.DataFrame) -> UInts:
        """Return the number of each row's entity, 2**32 - 1 where there is none."""
        keys = self._rows.columns
        if self._first is None or not frame.schema[keys[0]].is_integer():
            asked = frame.select(keys).join(self._numbered, on=keys, how="left", maintain_order="left")
            return asked.get_column(_CODE).cast(pl.UInt64).fill_null(_NOBODY).to_numpy()
        key = frame.get_column(keys[0]).cast(pl.Int64, strict=False)
        has_none = key.is_null().to_numpy() if key.null_count() else False
        number: Ints = key.fill_null(self._first).to_numpy()
        codes: UInts = np.minimum((number - self._first).view(np.uint64), np.uint64(_NOBODY))
        codes[(number < self._first) | has_none] = _NOBODY
        return codes

    @cached_property
    def _numbered(self) -> pl.DataFrame:
        return self._rows.unique(maintain_order=True).with_row_index(_CODE)


def _find_last(placed: UInts, codes: UInts, seen: Ints) -> Ints:
    """Return the last slot of each entity whose place is below ``seen``; -1 where there is none."""
    wanted = (codes << _HALF) | seen.astype(np.uint64)
    # In their order, questions find the slots that they read in the processor's cache.
    order = np.argsort(wanted)
    slot = np.empty(len(wanted), dtype=np.int64)
    slot[order] = np.searchsorted(placed, wanted[order]) - 1
    slot[placed[slot] >> _HALF != codes] = -1  # also those before the first slot: their code is not the last one's
    return slot


def _places(placed: UInts) -> Places:
    return placed.astype(np.uint32)  # the lower half


def _in_parts(count: int, work: Callable[[slice], Result]) -> list[Result]:
    """Work on parts of a range by several threads: NumPy lets others run meanwhile."""
    parts = [slice(start, min(start + _PART, count)) for start in range(0, max(count, 1), _PART)]
    if len(parts) == 1:
        return [work(parts[0])]
    with ThreadPoolExecutor(pl.thread_pool_size()) as threads:
        return list(threads.map(work, parts))


def _us(instants: pl.Series) -> Ints:
    return instants.to_physical().fill_null(_NEVER).to_numpy()


def join_point_in_time(
    spine: pl.DataFrame,
    features: pl.DataFrame,
    *,
    by: Sequence[str],
    time: str,
    feature_time: str,
    columns: Sequence[str],
    known: str | None = None,
    ttl: timedelta | None = None,
    event_time: str | None = None,
) -> pl.DataFrame:
    """Give each spine row at time t the newest feature row with time <= t, known <= t and t - time <= ttl.

    Ties and nulls are as in `Timelines`.

    Args:
        spine: Keys and times; its rows are kept, every one in its order.
        features: Keys, times and features.
        by: The entity's keys, named alike in both frames.
        time: The spine's time column.
        feature_time: The time column of the features.
        columns: Which feature columns to add; the spine has none of these names.
        known: The column of the features that says when a row became known; by default at its time.
        ttl: A feature row counts until this long after its time, inclusive; for ever by default.
        event_time: Also add the time of the feature row used, under this name.
    """
    found = Timelines(features, by=by, time=feature_time, known=known).find(spine, time=time, ttl=ttl)
    added = features.select(pl.col(name).gather(found) for name in columns)
    if event_time is not None:
        added = added.with_columns(features.get_column(feature_time).gather(found).alias(event_time))
    return spine.hstack(added)
