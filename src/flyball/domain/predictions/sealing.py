"""Turns finished segments of the log into Parquet files, each exactly once.

In order: claim finished segments, write the Parquet files, then one transaction that names the files, keeps what
labels match by and marks the segments as sealed, then remove the segments. Killed after any of these, the next run
finds either segments not yet marked (and writes the files anew) or marked ones (and only removes them); a Parquet
file that no transaction names is removed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec
import polars as pl

from flyball.core.durations import to_us
from flyball.core.errors import ConflictError
from flyball.core.files import holding_lock, writing
from flyball.core.hashing import digest_bytes, shorten
from flyball.domain.journal.service import Journal
from flyball.domain.predictions import store
from flyball.domain.predictions.compaction import Compactor
from flyball.domain.predictions.figures import FigureCache
from flyball.domain.predictions.frames import to_frame
from flyball.domain.predictions.log import claiming_finished, list_open_segments, read_pieces
from flyball.domain.predictions.matching import matches_of
from flyball.domain.predictions.store import Segment
from flyball.storage.db import Database, Transaction

OnSealed = Callable[[Transaction, pl.DataFrame], None]
"""Adds to the transaction that seals rows, such as window counts; gets the rows, sorted by id."""
_GROUP_BYTES = 16_000_000
# Small row groups let a search for one id skip nearly all of a file.
_ROW_GROUP = 8_192
SEAL_LOCK = "seal.lock"
"""In an endpoint's folder; whoever holds it keeps its predictions from moving."""


class SealResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one sealing of an endpoint's log did.

    Attributes:
        endpoint: Whose log it was.
        segments: Finished segments that were sealed.
        rows: Predictions in them.
        damaged: Lines inside them that could not be read.
    """

    endpoint: str
    segments: int = 0
    rows: int = 0
    damaged: int = 0


class Sealer:
    """Seals one home's prediction log.

    Args:
        db: Where files are named.
        journal: Is told of damage.
        root: The folder of all endpoints' predictions.
        figures: Is given each new file's rows, to answer questions about them without reading.
    """

    def __init__(self, db: Database, journal: Journal, root: Path, figures: FigureCache) -> None:
        self._db = db
        self._journal = journal
        self._root = root
        self._figures = figures
        self._compactor = Compactor(db, root, figures, write_segment)
        self._tidied: set[str] = set()

    def seal(self, endpoint: str, now: datetime, on_sealed: OnSealed | None) -> SealResult:
        """Seal all finished segments of an endpoint; does nothing while another process is at it."""
        paths = list_open_segments(self._root, endpoint)
        if not paths and endpoint in self._tidied:
            return SealResult(endpoint=endpoint)
        with suppress(ConflictError), holding_lock(self._root / endpoint / SEAL_LOCK, held_message="sealing"):
            self._tidy(endpoint)
            result = self._seal_finished(endpoint, now, on_sealed)
            if result.segments:
                self._compactor.compact(endpoint, now)
            return result
        return SealResult(endpoint=endpoint)

    def _seal_finished(self, endpoint: str, now: datetime, on_sealed: OnSealed | None) -> SealResult:
        segments = rows = damaged = 0
        with claiming_finished(list_open_segments(self._root, endpoint)) as finished:
            with self._db.read() as tx:
                sealed = store.list_sealed_sources(tx, endpoint)
            _remove([path for path in finished if path.stem in sealed])
            for group in _groups([path for path in finished if path.stem not in sealed]):
                count, broken = self._seal_group(endpoint, group, now, on_sealed)
                segments, rows, damaged = segments + len(group), rows + count, damaged + broken
        return SealResult(endpoint=endpoint, segments=segments, rows=rows, damaged=damaged)

    def _seal_group(
        self, endpoint: str, paths: Sequence[Path], now: datetime, on_sealed: OnSealed | None
    ) -> tuple[int, int]:
        read = [_read(path) for path in paths]
        frame = pl.concat(part.frame for part in read).sort("id")
        damaged = {path.name: part.damaged for path, part in zip(paths, read, strict=True) if part.damaged}
        names = [path.stem for path in paths]
        files = self._write_days(endpoint, frame, names, now)
        with self._db.begin() as tx:
            for segment, _ in files:
                store.insert_segment(tx, segment)
            store.insert_matches(tx, [match for part in read for match in part.matches])
            gone = [name for name in store.list_sealed_sources(tx, endpoint) if not self._is_there(endpoint, name)]
            store.delete_sealed_sources(tx, gone)
            store.insert_sealed_sources(tx, endpoint, names)
            if damaged:
                self._journal.append(tx, "predictions.segment.damaged", f"endpoint/{endpoint}", {"lines": damaged})
            if on_sealed is not None and frame.height:
                on_sealed(tx, frame)
        _remove(paths)
        for segment, rows in files:
            self._figures.put(segment.path, rows)
        return frame.height, sum(damaged.values())

    def _write_days(
        self, endpoint: str, frame: pl.DataFrame, names: Sequence[str], now: datetime
    ) -> list[tuple[Segment, pl.DataFrame]]:
        if frame.is_empty():
            return []
        digest = shorten(digest_bytes("\n".join(names).encode()))
        days = frame.group_by(pl.col("at").dt.date(), maintain_order=True)
        return [
            (write_segment(self._root, endpoint, f"{day}", f"{rows['id'][0]}-{digest}", rows, now), rows)
            for (day,), rows in days
        ]

    def _is_there(self, endpoint: str, name: str) -> bool:
        return any(path.stem == name for path in list_open_segments(self._root, endpoint))

    def _tidy(self, endpoint: str) -> None:
        """Remove files that a killed process left; needed once, because only a kill leaves any."""
        if endpoint in self._tidied:
            return
        with self._db.read() as tx:
            named = {segment.path for segment in store.list_segments(tx, endpoint)}
        folder = self._root / endpoint
        for path in folder.glob("day=*/*.parquet"):
            if str(path.relative_to(self._root)) not in named:
                path.unlink(missing_ok=True)
        for path in folder.glob("day=*/.*.tmp"):
            path.unlink(missing_ok=True)
        self._tidied.add(endpoint)


def write_segment(root: Path, endpoint: str, day: str, name: str, rows: pl.DataFrame, now: datetime) -> Segment:
    """Write one Parquet file of one day's rows, sorted by id, and return what the database shall know of it."""
    path = root / endpoint / f"day={day}" / f"{name}.parquet"
    with writing(path) as file:
        rows.write_parquet(file, compression="zstd", compression_level=3, row_group_size=_ROW_GROUP)
    at = rows["at"].dt.timestamp("us")
    return Segment(
        path=str(path.relative_to(root)),
        endpoint=endpoint,
        day=day,
        first_id=rows["id"][0],
        last_id=rows["id"][-1],
        first_at_us=at.min(),  # type: ignore[arg-type]
        last_at_us=at.max(),  # type: ignore[arg-type]
        rows=rows.height,
        size_bytes=path.stat().st_size,
        sealed_at_us=to_us(now),
        shadows=int((rows["variant"] == "shadow").sum()),
    )


class _Content(msgspec.Struct, frozen=True, kw_only=True):
    """What sealing needs of a segment: its rows, what labels match them by, and how many lines cannot be read."""

    frame: pl.DataFrame
    matches: list[tuple[int, int, str]]
    damaged: int


def _read(path: Path) -> _Content:
    frames, matches, damaged = [to_frame([])], [], 0
    # A row's columns take a tenth of what its record does.
    for piece in read_pieces(path):
        frames.append(to_frame(piece.records))
        matches += [match for record in piece.records for match in matches_of(record)]
        damaged += piece.damaged
    return _Content(frame=pl.concat(frames), matches=matches, damaged=damaged)


def _groups(paths: Sequence[Path]) -> Iterator[list[Path]]:
    group: list[Path] = []
    size = 0
    for path in paths:
        group.append(path)
        size += path.stat().st_size
        if size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
