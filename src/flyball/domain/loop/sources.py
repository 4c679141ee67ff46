"""What became known in a table between two instants; read once for each content of its source."""

from datetime import datetime

import msgspec
import polars as pl

from flyball.domain.data.service import DataService
from flyball.domain.data.tables import Table


class _Loaded(msgspec.Struct):
    fingerprint: str
    snapshot_id: str
    rows: pl.DataFrame


class TableReader:
    """Reads the rows of growing tables by the time at which they became known.

    A source whose files did not change is not read again, so a replay may ask at every tick. A table without a
    ``known`` and a ``time`` column is known from the beginning.

    Args:
        data: Takes the snapshots.
    """

    def __init__(self, data: DataService) -> None:
        self._data = data
        self._loaded: dict[str, _Loaded] = {}

    def snapshot_id(self, table: Table) -> str:
        """Return the identity of all that the table's source holds now."""
        return self._load(table).snapshot_id

    def rows_known(self, table: Table, after: datetime | None, until: datetime) -> pl.DataFrame:
        """Return the rows that became known in (after, until], in that order; from the beginning without ``after``."""
        rows = self._load(table).rows
        known = table.known or table.time
        if known is None:
            return rows if after is None else rows.clear()
        times = rows[known]
        begin = 0 if after is None else times.search_sorted(after, side="right")
        # Where the clock was set back, nothing became known since.
        return rows.slice(begin, max(0, times.search_sorted(until, side="right") - begin))

    def last_known(self, table: Table) -> datetime | None:
        """Return when the last row became known; None for an empty table or one that has no such time."""
        known = table.known or table.time
        rows = self._load(table).rows
        last: datetime | None = rows[known][-1] if known is not None and rows.height else None
        return last

    def _load(self, table: Table) -> _Loaded:
        fingerprint = self._data.fingerprint(table)
        found = self._loaded.get(table.required_name)
        if found is None or found.fingerprint != fingerprint:
            # Without an instant: a replay's future is read once, too, and cut off by every question.
            snapshot = self._data.watch(table)
            if found is None or found.snapshot_id != snapshot.id:
                rows = self._data.read(snapshot.id)
                known = table.known or table.time
                frame = rows.filter(pl.col(known).is_not_null()).sort(known, maintain_order=True) if known else rows
                found = _Loaded(fingerprint, snapshot.id, frame.collect())
            found = msgspec.structs.replace(found, fingerprint=fingerprint)
            self._loaded[table.required_name] = found
        return found
