"""A row as one value of a store: its two times, then what the store does not look into."""

import struct
from collections.abc import Sequence
from itertools import repeat

from flyball.storage.online.port import OnlineRow

_TIMES = struct.Struct(">qq")
pack_times, unpack_times, TIMES_BYTES = _TIMES.pack, _TIMES.unpack_from, _TIMES.size


def event_time_of(value: bytes) -> int:
    """Return the first of a value's times."""
    return int(unpack_times(value)[0])


def decode_rows(keys: Sequence[bytes], values: Sequence[bytes | None]) -> list[OnlineRow | None]:
    """Return the rows of keys, None where there is no value.

    Without a call of Python for each: a request for a hundred entities would spend much of its time here.
    """
    if not values or None in values:
        new = tuple.__new__
        return [
            None if value is None else new(OnlineRow, (key, *unpack_times(value), value[TIMES_BYTES:]))
            for key, value in zip(keys, values, strict=True)
        ]
    found = [value for value in values if value is not None]
    event_times_us, known_us = zip(*map(unpack_times, found), strict=True)
    payloads = [value[TIMES_BYTES:] for value in found]
    rows = zip(keys, event_times_us, known_us, payloads, strict=True)
    return list(map(tuple.__new__, repeat(OnlineRow), rows))
