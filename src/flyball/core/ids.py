"""Identifiers that sort by time."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import overload

from flyball.core.clock import Clock
from flyball.core.durations import to_us

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
ID_LENGTH = 26
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_PAGE = len(_PAIRS)
_SHIFTS = {length: range((length // 2 - 1) * 10, -1, -10) for length in (10, 14, 16)}


class IdSource:
    """Makes ids of 26 signs: 50 bits of milliseconds, then 80 bits that never repeat in a process.

    Ids from one source sort in the order in which they were made. Safe to call from several threads.

    Args:
        clock: Where the time part comes from.
        entropy: Returns the given number of random bytes; a seeded one makes a replay repeatable.
    """

    def __init__(self, clock: Clock, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._clock = clock
        self._entropy = entropy
        self._lock = threading.Lock()
        self._last_ms = -1
        self._tail = 0

    def new(self) -> str:
        """Return a new id."""
        return self._take(1)

    def new_many(self, count: int) -> "IdRange":
        """Return as many new ids, each the successor of the one before, for what one costs."""
        return IdRange(self._take(count), count)

    def _take(self, count: int) -> str:
        """Return the first of ids that nobody else gets."""
        with self._lock:
            ms = max(to_us(self._clock.now()) // 1000, self._last_ms)
            if ms != self._last_ms:
                self._last_ms = ms
                # One bit is left free so that counting up within a millisecond never overflows.
                self._tail = int.from_bytes(self._entropy(10), "big") >> 1
            else:
                self._tail += 1
            first = self._tail
            self._tail += count - 1
        return _encode(ms, 10) + _encode(first, 16)


class IdRange(Sequence[str]):
    """Ids that follow each other; only the first is written out until somebody asks for more."""

    __slots__ = ("_all", "_count", "first")

    def __init__(self, first: str, count: int) -> None:
        self.first = first
        self._count = count
        self._all: list[str] | None = [first] if count == 1 else None

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> list[str]: ...

    def __getitem__(self, at: int | slice) -> str | list[str]:
        return self._list()[at]

    def __iter__(self) -> Iterator[str]:
        return iter(self._list())

    def _list(self) -> list[str]:
        if self._all is None:
            self._all = list_ids(self.first, self._count)
        return self._all


def list_ids(first: str, count: int) -> list[str]:
    """Return an id and those that follow it, as `IdSource.new_many` makes them."""
    if count == 1:
        return [first]
    head, tail = first[:10], _decode(first[10:])
    ids: list[str] = []
    while len(ids) < count:
        # The last two signs hold 1,024 numbers; what is in front of them is written once for all of these.
        low = tail % _PAGE
        prefix = head + _encode(tail // _PAGE, 14)
        ids += [prefix + pair for pair in _PAIRS[low : low + count - len(ids)]]
        tail += _PAGE - low
    return ids


def id_offset(first: str, identifier: str) -> int:
    """Return how far an id is behind another of the same millisecond; -1 where it is of another one, or no id."""
    if first[:10] != identifier[:10] or len(identifier) != ID_LENGTH:
        return -1
    try:
        return _decode(identifier[10:]) - _decode(first[10:])
    except ValueError:
        return -1


def id_prefix(us: int) -> str:
    """Return the first 10 signs of every id made in the millisecond of ``us``; for range searches."""
    return _encode(us // 1000, 10)


def id_time_us(identifier: str) -> int:
    """Return the instant in an id, in microseconds (whole milliseconds).

    Raises:
        ValueError: The text is not an id.
    """
    if len(identifier) != ID_LENGTH:
        raise ValueError(identifier)
    return _decode(identifier[:10]) * 1000


def _encode(number: int, length: int) -> str:
    """Write a number with an even number of signs."""
    return "".join([_PAIRS[(number >> shift) & (_PAGE - 1)] for shift in _SHIFTS[length]])


def _decode(text: str) -> int:
    number = 0
    for sign in text:
        number = number * 32 + _ALPHABET.index(sign)
    return number
