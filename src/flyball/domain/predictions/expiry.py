"""Forgets predictions that are older than they may be kept: their rows, what labels find them by, their labels.

In order: one transaction a file that forgets it and tells the journal, and, some minutes later, the file itself:
somebody may still be reading it. After a kill it is a file without a name, which sealing removes.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from flyball.core.clock import Clock
from flyball.core.durations import format_instant, to_us
from flyball.core.errors import ConflictError
from flyball.core.files import holding_lock
from flyball.domain.journal.service import Journal
from flyball.domain.predictions import store
from flyball.domain.predictions.compaction import READERS_TAKE
from flyball.domain.predictions.frames import from_row, scan_sealed
from flyball.domain.predictions.matching import matches_of
from flyball.domain.predictions.sealing import SEAL_LOCK
from flyball.domain.predictions.store import Segment
from flyball.storage.db import Database

_COLUMNS = ("id", "endpoint", "at", "time", "status", "entity", "key", "shadow_of", "variant", "version")


class Expirer:
    """Forgets one home's old predictions.

    Args:
        db: Where files, matches and labels are named.
        journal: Is told of each file.
        root: The folder of all endpoints' predictions.
        clock: Tells how long readers had.
    """

    def __init__(self, db: Database, journal: Journal, root: Path, clock: Clock) -> None:
        self._db = db
        self._journal = journal
        self._root = root
        self._clock = clock
        self._old: list[tuple[Path, datetime]] = []

    def expire(self, endpoint: str, before: datetime) -> int:
        """Forget an endpoint's sealed files whose every prediction was answered before an instant.

        Files hold a day or less, so nothing is kept for more than a day longer than it may be.

        Returns:
            How many predictions were forgotten; 0 while another process seals.
        """
        self._remove_old()
        with self._db.read() as tx:
            due = store.list_expired_segments(tx, endpoint, to_us(before))
        if not due:
            return 0
        with suppress(ConflictError), holding_lock(self._root / endpoint / SEAL_LOCK, held_message="sealing"):
            return self._forget(endpoint, due, before)
        return 0

    def _forget(self, endpoint: str, segments: Sequence[Segment], before: datetime) -> int:
        with self._db.read() as tx:  # compaction may have put some together meanwhile
            named = {segment.path for segment in store.list_expired_segments(tx, endpoint, to_us(before))}
        forgotten = 0
        for segment in segments:
            if segment.path not in named:
                continue
            rows = _read(self._root / segment.path)
            with self._db.begin() as tx:
                store.delete_segments(tx, [segment.path])
                store.delete_matches(tx, [match for row in rows for match in matches_of(from_row(row))])
                store.delete_labels(tx, endpoint, [row["id"] for row in rows])
                data = {"day": segment.day, "rows": segment.rows, "before": format_instant(before)}
                self._journal.append(tx, "predictions.segment.expired", f"endpoint/{endpoint}", data, actor="loop")
            self._old.append((self._root / segment.path, self._clock.now()))
            forgotten += segment.rows
        return forgotten

    def _remove_old(self) -> None:
        now = self._clock.now()
        for path, _ in [one for one in self._old if now - one[1] >= READERS_TAKE]:
            path.unlink(missing_ok=True)
            with suppress(OSError):
                path.parent.rmdir()  # the day's folder, once it is empty
        self._old = [one for one in self._old if now - one[1] < READERS_TAKE]


def _read(path: Path) -> list[dict[str, Any]]:
    """Return what of a file's rows tells by what labels find them; nothing where it is gone already."""
    try:
        whole = scan_sealed([path]).select(_COLUMNS).collect()
    except (FileNotFoundError, pl.exceptions.PolarsError):
        return []
    nothing = {"request": "{}", "features": "{}", "views": "{}", "reasons": "[]"}
    plain = {"prediction": None, "scores": None, "latency_us": 0, "stage": None, "rollout": None}
    return [{**nothing, **plain, **row} for row in whole.iter_rows(named=True)]
