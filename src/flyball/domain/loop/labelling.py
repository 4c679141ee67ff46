"""Brings the labels that a table holds to the predictions they belong to."""

from datetime import datetime

import msgspec

from flyball.core.durations import from_us, to_us
from flyball.core.encoding import from_json, to_json
from flyball.domain.data.tables import ColumnRef, Table
from flyball.domain.features.labels import label_rule
from flyball.domain.loop import store
from flyball.domain.loop.sources import TableReader
from flyball.domain.predictions.labels import LabelReport
from flyball.domain.predictions.service import PredictionService
from flyball.storage.db import Database


class _Watermark(msgspec.Struct, frozen=True):
    """Up to where labels were taken: of which content of the table, and until when they were known."""

    snapshot_id: str
    until_us: int


class LabelIngest:
    """Takes new label rows, each content of the table once; taking a row again changes nothing.

    Args:
        db: Keeps up to where each endpoint's labels were taken.
        predictions: Receives them.
        reader: Reads label tables.
    """

    def __init__(self, db: Database, predictions: PredictionService, reader: TableReader) -> None:
        self._db = db
        self._predictions = predictions
        self._reader = reader

    def ingest(self, endpoint: str, spine: Table, label: ColumnRef, now: datetime) -> LabelReport | None:
        """Take the labels that became known since the last time; None when there are none.

        Args:
            endpoint: Whose predictions they label.
            spine: The table whose rows are the endpoint's requests.
            label: The label's column.
            now: Labels that become known later wait.

        Raises:
            FlyballError: The table cannot be read.
        """
        table = label.table
        snapshot_id = self._reader.snapshot_id(table)
        name = f"labels/{endpoint}/{table.required_name}"
        with self._db.read() as tx:
            text = store.find_watermark(tx, name)
        last = from_json(text, _Watermark) if text else None
        # Rows of a changed table may have been known earlier than what was taken: it is taken as a whole again.
        after = from_us(last.until_us) if last is not None and last.snapshot_id == snapshot_id else None
        rows = self._reader.rows_known(table, after, now)
        report = None
        if not rows.is_empty():
            report = self._predictions.ingest_labels(endpoint, label_rule(spine, label), rows)
        if not rows.is_empty() or last is None or last.snapshot_id != snapshot_id:
            with self._db.begin() as tx:
                store.put_watermark(tx, name, to_json(_Watermark(snapshot_id, to_us(now))).decode())
        return report
