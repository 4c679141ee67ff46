"""Identifiers that sort by time."""

import os
import threading
from collections.abc import Callable

from flyball.core.clock import Clock
from flyball.core.durations import to_us

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
ID_LENGTH = 26


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
        with self._lock:
            ms = max(to_us(self._clock.now()) // 1000, self._last_ms)
            if ms == self._last_ms:
                self._tail += 1
            else:
                self._last_ms = ms
                # One bit is left free so that counting up within a millisecond never overflows.
                self._tail = int.from_bytes(self._entropy(10), "big") >> 1
            return _encode(ms, 10) + _encode(self._tail, 16)


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
    ms = 0
    for sign in identifier[:10]:
        ms = ms * 32 + _ALPHABET.index(sign)
    return ms * 1000


def _encode(number: int, length: int) -> str:
    signs = []
    for _ in range(length):
        number, digit = divmod(number, 32)
        signs.append(_ALPHABET[digit])
    return "".join(reversed(signs))
