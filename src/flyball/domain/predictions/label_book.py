"""Labels in memory: each is read once, so that asking again after thirty new ones costs thirty rows."""

import threading
from datetime import datetime

import polars as pl

from flyball.domain.predictions import store
from flyball.storage.db import Database

_INSTANT = pl.Datetime("us", "UTC")
_SCHEMA: dict[str, pl.DataType] = {
    "seq": pl.Int64(),
    "prediction_id": pl.String(),
    "value": pl.String(),
    "label_at": _INSTANT,
    "label_known_at": _INSTANT,
    "label_source": pl.String(),
}
_TAKEN_BACK = "null"


class LabelBook:
    """All versions of all labels of the endpoints asked about. Safe to call from several threads.

    Args:
        db: Where they are kept; what others add there is seen at the next call.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._lock = threading.Lock()
        self._last_seq: dict[str, int] = {}
        self._versions: dict[str, pl.DataFrame] = {}

    def known_at(self, endpoint: str, as_of: datetime) -> pl.DataFrame:
        """Return the labels as they were known at an instant, one row a prediction.

        Returns:
            ``prediction_id``, ``label`` (Float64, or String for text labels), ``label_at``, ``label_known_at`` and
            ``label_source``.
        """
        newest = (
            self._read(endpoint)
            .filter(pl.col("label_known_at") <= as_of)
            .unique("prediction_id", keep="last", maintain_order=True)
            .filter(pl.col("value") != _TAKEN_BACK)
        )
        values = newest["value"]
        is_text = not values.is_empty() and values[0].startswith('"')
        label = values.str.json_decode(pl.String()) if is_text else values.cast(pl.Float64)
        return newest.select("prediction_id", label.alias("label"), "label_at", "label_known_at", "label_source")

    def _read(self, endpoint: str) -> pl.DataFrame:
        """Return all versions, in the order in which they became known; of ties the one kept last is last."""
        with self._lock:
            last = self._last_seq.get(endpoint, 0)
            versions = self._versions.get(endpoint, pl.DataFrame(schema=_SCHEMA))
            with self._db.read() as tx:
                rows = store.list_label_rows(tx, endpoint, after=last)
            if rows:
                added = pl.DataFrame(
                    {
                        "seq": [row["seq"] for row in rows],
                        "prediction_id": [row["prediction_id"] for row in rows],
                        "value": [row["value"] for row in rows],
                        "label_at": [row["at_us"] for row in rows],
                        "label_known_at": [row["known_us"] for row in rows],
                        "label_source": [row["source"] for row in rows],
                    }
                ).cast(_SCHEMA)  # type: ignore[arg-type]
                versions = pl.concat([versions, added]).sort("label_known_at", "label_at", "seq")
                self._versions[endpoint], self._last_seq[endpoint] = versions, rows[-1]["seq"]
            return versions
