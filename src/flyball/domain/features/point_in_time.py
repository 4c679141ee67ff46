"""Joins that never look ahead: each row gets what was known at its time."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from flyball.core.durations import to_us

Ints = npt.NDArray[np.int64]
UInts = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

USABLE = "__usable_from"
"""The column that says from when on a row counts: the later of its time and when it was known."""
ROW = "__row"
"""The column that says which row of a frame is meant, by its number."""
_KNOWN, _CODE = "__known", "__code"
# An entity's code and a place are one number, so that one fast sort brings the rows of each entity together.
_HALF, _PLACE = np.uint64(32), np.uint64((1 << 32) - 1)
_NOBODY = (1 << 32) - 1  # the code of those that no row is about
_NEVER = -(1 << 63)


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
        self._rows = chosen
        self._entities = EntityCodes(chosen.select(by))
        self._at = _us(chosen.get_column(time))
        if known is not None and self._has_unordered_ties():
            self._rows = chosen.sort(time, _KNOWN, maintain_order=True)
            del self._placed
        self._usable = np.maximum(self._at, _us(self._rows.get_column(_KNOWN))) if known is not None else self._at
        self._is_known_at_once = known is None or np.array_equal(self._at, self._usable)

    @cached_property
    def _placed(self) -> UInts:
        """Codes and places of all rows: those of each entity together, in the order of their times."""
        return np.sort((self._entities.of(self._rows) << _HALF) | np.arange(self._rows.height, dtype=np.uint64))

    def _has_unordered_ties(self) -> bool:
        place = _places(self._placed)
        at, known = self._at[place], _us(self._rows.get_column(_KNOWN))
        tie = np.flatnonzero(self._has_next & (at[:-1] == at[1:]))
        return bool(np.any(known[place[tie]] > known[place[tie + 1]]))

    @property
    def _has_next(self) -> Bools:
        """Whether the next one of the placed rows is about the same entity, of all but the last."""
        codes = self._placed >> _HALF
        return np.asarray(codes[:-1] == codes[1:])

    def late_entities(self, most: int) -> pl.DataFrame:
        """Return keys of entities that had rows known before older ones; else, before others of the same time.

        Args:
            most: How many rows at most, the oldest such; an entity may be among them several times.
        """
        place = _places(self._placed)
        at, usable = self._at[place], self._usable[place]
        found = place[:-1][self._has_next & (usable[:-1] > usable[1:])]
        if not len(found):
            found = place[:-1][self._has_next & (at[:-1] == at[1:]) & (usable[:-1] < usable[1:])]
        return self._rows.select(pl.col(self._by).gather(pl.Series(np.sort(found)[:most])))

    def newest_in_turn(self) -> pl.DataFrame:
        """Return the rows that are ever the newest usable one of their entity, in the order of their becoming usable.

        In that order an entity's times never fall, so its newest usable row is also the one that became usable last.

        Returns:
            Keys, time, `USABLE` and `ROW`.
        """
        names = [*self._by, self._time, USABLE, ROW]
        if self._is_known_at_once:
            return self._rows.with_columns(pl.col(self._time).alias(USABLE)).select(names)
        turn, placed = self._turns
        place = turn[np.sort(_places(placed))]
        usable = pl.Series(USABLE, self._usable[place]).cast(self._rows.schema[self._time])
        rows = self._rows.select(pl.col(*self._by, self._time, ROW).gather(pl.Series(place)))
        return rows.with_columns(usable).select(names)

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
            return pl.Series(ROW, [None] * spine.height, dtype=self._rows.schema[ROW])
        asked = _us(spine.get_column(time).cast(self._rows.schema[self._time]))
        until = asked if as_of is None else np.minimum(asked, to_us(as_of))
        place = self._search(self._entities.of(spine), until)
        if ttl is not None:
            place[asked - self._at[place] > ttl // timedelta(microseconds=1)] = -1
        rows = pl.Series(self._rows.get_column(ROW).to_numpy()[place])
        return pl.select(pl.when(pl.Series(place >= 0)).then(rows).alias(ROW)).to_series()

    def _search(self, codes: UInts, until: Ints) -> Ints:
        """Return the place of the newest row usable by an instant for each entity; -1 where there is none."""
        slot = _find_last(self._placed, codes, np.searchsorted(self._at, until, side="right"))
        found = np.flatnonzero(slot >= 0)
        late = found[:0] if self._is_known_at_once else self._not_known(slot, found, until)
        left = len(self._placed)  # how far to walk at most
        while 0 < len(late) <= left:
            left -= len(late)
            slot[late] -= 1
            has_older = (slot[late] >= 0) & (self._placed[slot[late]] >> _HALF == codes[late])
            slot[late[~has_older]] = -1
            late = self._not_known(slot, late[has_older], until)
        place = np.where(slot >= 0, _places(self._placed)[slot], -1)
        if len(late):
            turn, placed = self._turns
            seen = np.searchsorted(self._usable[turn], until[late], side="right")
            slot = _find_last(placed, codes[late], seen)
            place[late] = np.where(slot >= 0, turn[_places(placed)[slot]], -1)
        return place

    def _not_known(self, slot: Ints, asked: Ints, until: Ints) -> Ints:
        """Return those of some questions for which the row found was not usable yet."""
        usable = self._usable[_places(self._placed[slot[asked]])]
        return asked[usable > until[asked]]


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
        if self._first is not None and frame.schema[keys[0]].is_integer():
            key = pl.col(keys[0]).cast(pl.Int64, strict=False)
            number = pl.when(key.is_between(self._first, self._last)).then(key - self._first)
            codes = frame.select(number).to_series()
        else:
            asked = frame.select(keys).join(self._numbered, on=keys, how="left", maintain_order="left")
            codes = asked.get_column(_CODE)
        return codes.cast(pl.UInt64).fill_null(_NOBODY).to_numpy()

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


def _places(placed: UInts) -> Ints:
    return (placed & _PLACE).astype(np.int64)


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
