"""Rows as LMDB takes them: places and values, of which the newest stay."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from flyball.storage.online.values import event_time_of, unpack_times

_BEFORE_1970 = 0x80  # the sign, in the first byte of a time
Stored = tuple[bytes, bytes]
"""A place and its value, which begins with the row's two times."""


class Batch(NamedTuple):
    """Rows for one view, each place once.

    Attributes:
        places: Where each goes.
        values: What goes there.
    """

    places: Sequence[bytes]
    values: Sequence[bytes]

    def put_newer(self, transaction: Any, *others: Sequence[Stored]) -> int:
        """Put the rows that are newer than what the places hold, there and in others; return how many were.

        A tie is not newer.
        """
        found = find(transaction, self.places)
        for other in others:
            found += other
        rows = zip(self.places, self.values, strict=True)
        if not found or self._is_after(found):  # as nearly always
            put(transaction, rows)
            return len(self.places)
        known: dict[bytes, tuple[int, int]] = {}
        for place, value in found:
            times = unpack_times(value)
            if place not in known or times > known[place]:
                known[place] = times
        newer = [(place, value) for place, value in rows if place not in known or unpack_times(value) > known[place]]
        put(transaction, newer)
        return len(newer)

    def _is_after(self, found: Sequence[Stored]) -> bool:
        """Tell whether all event times are later than those that were found; in case of doubt not."""
        # As bytes, times since 1970 have the order of their numbers, and those before come after all of them.
        last, first = max(value for _, value in found), min(self.values)
        is_ordered = last[0] < _BEFORE_1970 and max(self.values)[0] < _BEFORE_1970
        return is_ordered and event_time_of(last) < event_time_of(first)


def find(transaction: Any, places: Sequence[bytes]) -> list[Stored]:
    """Return what lies in the places that hold something."""
    with transaction.cursor() as cursor:  # many at once take half the time
        found: list[Stored] = cursor.getmulti(places)
        return found


def put(transaction: Any, values: Iterable[Stored]) -> None:
    """Put values into their places, whatever is there."""
    with transaction.cursor() as cursor:
        cursor.putmulti(values)


def put_newer(transaction: Any, batches: Sequence[Batch]) -> int:
    """Put what is newer than what its places hold; return how many rows of the last batch that were."""
    return [batch.put_newer(transaction) for batch in batches][-1]
