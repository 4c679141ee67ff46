"""Finds predictions by their ids, wherever they lie: in the open log, or in sealed files."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import polars as pl

from flyball.domain.predictions import store
from flyball.domain.predictions.figures import FigureCache
from flyball.domain.predictions.frames import from_row, scan_sealed
from flyball.domain.predictions.log import find_in_segment, list_endpoints, list_open_segments, read_segment
from flyball.domain.predictions.records import PredictionRecord
from flyball.storage.db import Database


class PredictionFinder:
    """Looks for predictions. Safe to share between threads.

    Args:
        db: Where sealed files are named.
        root: The folder of all endpoints' predictions.
        figures: What was read of sealed files before.
    """

    def __init__(self, db: Database, root: Path, figures: FigureCache) -> None:
        self._db = db
        self._root = root
        self._figures = figures

    def find(self, prediction_id: str) -> PredictionRecord | None:
        """Return a prediction, sealed or just answered, or None."""
        # Open files first: what is sealed while we look has left them for the database by then.
        for endpoint in list_endpoints(self._root):
            for path in list_open_segments(self._root, endpoint):
                with suppress(FileNotFoundError):
                    if (record := find_in_segment(path, prediction_id)) is not None:
                        return record
        with self._db.read() as tx:
            segments = store.list_segments_of_id(tx, prediction_id)
        for segment in segments:
            rows = scan_sealed([self._root / segment.path])
            found = rows.filter(pl.col("id") == prediction_id).collect()
            if not found.is_empty():
                return from_row(found.row(0, named=True))
        return None

    def locate(self, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Return endpoint and answered prediction for each id there is."""
        wanted = set(ids)
        found: dict[str, tuple[str, str]] = {}
        for endpoint in list_endpoints(self._root):
            for record in self.open_records(endpoint):
                if record.id in wanted:
                    found[record.id] = (endpoint, record.shadow_of or record.id)
        missing = sorted(wanted - found.keys())
        paths: dict[str, store.Segment] = {}
        with self._db.read() as tx:
            for prediction_id in missing:
                paths.update((segment.path, segment) for segment in store.list_segments_of_id(tx, prediction_id))
        for segment in paths.values():
            rows = self._figures.read([segment]).filter(pl.col("id").is_in(missing))
            for prediction_id, shadow_of in rows.select("id", "shadow_of").iter_rows():
                found[prediction_id] = (segment.endpoint, shadow_of or prediction_id)
        return found

    def open_records(self, endpoint: str) -> Iterator[PredictionRecord]:
        """Yield what an endpoint answered that is not sealed yet."""
        for path in list_open_segments(self._root, endpoint):
            with suppress(FileNotFoundError):
                yield from read_segment(path).records
