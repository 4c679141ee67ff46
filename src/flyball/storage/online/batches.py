"""Rows as LMDB takes them: places and values, of which the newest stay."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from flyball.storage.online.values import unpack_times

_value_of = itemgetter(1)
Stored = tuple[bytes, bytes]
"""A place and its value, which begins with the row's two times."""


class Batch(NamedTuple):
    """Rows for one view, each place once.

    Attributes:
        places: Where each goes.
        values: What goes there.
        times: Event time and known-at time of each.
    """

    places: Sequence[bytes]
    values: Sequence[bytes]
    times: Sequence[tuple[int, int]]

    @classmethod
    def of(cls, stored: Sequence[Stored]) -> "Batch":
        """Return rows that were found in a file as a batch for another one."""
        values = [value for _, value in stored]
        return cls([place for place, _ in stored], values, list(map(unpack_times, values)))

    def newer_than(self, found: Sequence[Stored]) -> list[Stored]:
        """Return the rows that are newer than all that was found in their places; a tie is not newer."""
        rows = zip(self.places, self.values, strict=True)
        if not found or self._begins_after(found):  # as nearly always
            return list(rows)
        known: dict[bytes, tuple[int, int]] = {}
        for place, value in found:
            times = unpack_times(value)
            if place not in known or times > known[place]:
                known[place] = times
        return [
            (place, value)
            for (place, value), times in zip(rows, self.times, strict=True)
            if place not in known or times > known[place]
        ]

    def _begins_after(self, found: Sequence[Stored]) -> bool:
        """Tell whether all event times are later than those that were found; in case of doubt not."""
        # As bytes, times since 1970 have the order of their numbers, and those before come after all of them.
        last_us = unpack_times(max(map(_value_of, found)))[0]
        return 0 <= last_us < min(self.times)[0]


def find(transaction: Any, places: Sequence[bytes]) -> list[Stored]:
    """Return what lies in the places that hold something."""
    with transaction.cursor() as cursor:  # many at once take half the time
        found: list[Stored] = cursor.getmulti(places)
        return found


def put(transaction: Any, values: Sequence[Stored]) -> None:
    """Put values into their places, whatever is there."""
    if values:
        with transaction.cursor() as cursor:
            cursor.putmulti(values)


def put_newer(transaction: Any, batches: Sequence[Batch]) -> int:
    """Put what is newer than what its places hold; return how many rows of the last batch that were."""
    changed = 0
    for batch in batches:
        newer = batch.newer_than(find(transaction, batch.places))
        put(transaction, newer)
        changed = len(newer)
    return changed
