"""What a run of bytes has in common with a blob, at one alignment of the two."""

from typing import NamedTuple

LEAST_BYTES = 64
"""Of a stretch that is worth naming rather than storing: its entry in a recipe takes 8 bytes, reading it a call."""


class Stretch(NamedTuple):
    """Bytes of a run, from ``start`` to before ``stop``, that lie in a blob from ``place`` on."""

    start: int
    stop: int
    blob: str
    place: int


def common_stretches(run: bytes, first: int, old: bytes, blob: str, place: int) -> list[Stretch]:
    """Return the stretches of a run that are the same in a blob, longest possible, in order.

    Args:
        run: New bytes.
        first: Where in the run the first of the old bytes is laid.
        old: Bytes of the blob.
        blob: Its digest.
        place: Where in the blob they begin.
    """
    import numpy as np

    count = min(len(run) - first, len(old))
    if count < LEAST_BYTES:
        return []
    ours = np.frombuffer(run, np.uint8, count, first)
    theirs = np.frombuffer(old, np.uint8, count)
    edges = np.concatenate(([-1], np.flatnonzero(ours != theirs), [count]))
    long_enough = np.flatnonzero(np.diff(edges) - 1 >= LEAST_BYTES)
    return [
        Stretch(first + begin, first + end, blob, place + begin)
        for begin, end in zip((edges[long_enough] + 1).tolist(), edges[long_enough + 1].tolist(), strict=True)
    ]


def fill_gaps(found: list[Stretch], others: list[Stretch]) -> list[Stretch]:
    """Return stretches in order without overlap: all of ``found``, and of ``others`` what lies between them."""
    filled: list[Stretch] = []
    position = place = 0
    for stretch in [*found, None]:
        end = stretch.start if stretch else max([position, *(other.stop for other in others[-1:])])
        while place < len(others) and others[place].start < end:
            other = others[place]
            start, stop = max(position, other.start), min(end, other.stop)
            if stop - start >= LEAST_BYTES:
                filled.append(Stretch(start, stop, other.blob, other.place + start - other.start))
            if other.stop > end:
                break
            place += 1
        if stretch:
            filled.append(stretch)
            position = stretch.stop
    return filled
