"""Puts the many small files of past days together: a gateway seals a file every half minute."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from flyball.core.hashing import digest_bytes, shorten
from flyball.domain.predictions import store
from flyball.domain.predictions.figures import FigureCache
from flyball.domain.predictions.frames import scan_sealed
from flyball.domain.predictions.store import Segment
from flyball.storage.db import Database

WriteSegment = Callable[[Path, str, str, str, pl.DataFrame, datetime], Segment]
READERS_TAKE = timedelta(minutes=5)
"""How long a file without a name stays for those who read it, and for the published table to follow."""
FEW_FILES = 48
_MOST_ROWS = 200_000


class Compactor:
    """Compacts one home's sealed predictions; call it only while holding the endpoint's sealing lock.

    In order: write the new file, one transaction that names it instead of the old ones, and, some minutes later, remove
    the old ones: somebody may still be reading them. After a kill they are files without a name, which sealing removes.

    Args:
        db: Where files are named.
        root: The folder of all endpoints' predictions.
        figures: Forgets what it knows of the old files.
        write: Writes a file.
    """

    def __init__(self, db: Database, root: Path, figures: FigureCache, write: WriteSegment) -> None:
        self._db = db
        self._root = root
        self._figures = figures
        self._write = write
        self._old: list[tuple[str, datetime]] = []

    def compact(self, endpoint: str, now: datetime) -> int:
        """Compact one past day of an endpoint, if one has many files, and return how many files it had."""
        for path, at in self._old:
            if now - at >= READERS_TAKE:
                (self._root / path).unlink(missing_ok=True)
        self._old = [(path, at) for path, at in self._old if now - at < READERS_TAKE]
        with self._db.read() as tx:
            day = store.find_scattered_day(
                tx, endpoint, before=f"{now:%Y-%m-%d}", more_than=FEW_FILES, small_rows=_MOST_ROWS // 4
            )
            segments = store.list_segments_of_day(tx, endpoint, day) if day is not None else []
        for group in _groups(segments):
            self._merge(endpoint, group, now)
        return len(segments)

    def _merge(self, endpoint: str, segments: Sequence[Segment], now: datetime) -> None:
        paths = [segment.path for segment in segments]
        rows = scan_sealed([self._root / path for path in paths]).collect().sort("id")
        digest = shorten(digest_bytes("\n".join(paths).encode()))
        name = f"{rows['id'][0]}-{digest}"
        merged = self._write(self._root, endpoint, segments[0].day, name, rows, now)
        with self._db.begin() as tx:
            store.delete_segments(tx, paths)
            store.insert_segment(tx, merged)
        self._figures.forget(paths)
        self._old += [(path, now) for path in paths]


def _groups(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    group: list[Segment] = []
    for segment in segments:
        if group and sum(found.rows for found in group) + segment.rows > _MOST_ROWS:
            if len(group) > 1:
                yield group
            group = []
        group.append(segment)
    if len(group) > 1:
        yield group
