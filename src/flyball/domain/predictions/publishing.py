"""Publishes sealed predictions as a Delta table partitioned by day, for readers that are not Flyball.

The database stays what names the files; the table's log follows it. Whatever was killed in between, the next call
commits what differs, in one transaction: readers see each prediction once, also while files are put together.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from flyball.core.clock import Clock
from flyball.core.durations import from_us, to_us
from flyball.domain.predictions import store
from flyball.domain.predictions.frames import FRAME_SCHEMA
from flyball.domain.predictions.log import list_endpoints
from flyball.domain.predictions.store import Segment
from flyball.storage.db import Database

AT_MOST_EVERY = timedelta(minutes=1)
_DAY = "day"
_MILLISECOND_US = 1_000


class Publisher:
    """Keeps one home's Delta tables of predictions.

    Args:
        db: Names the files.
        root: The folder of all endpoints' predictions; each endpoint's folder is a table.
        clock: Tells when a table was committed to last.
    """

    def __init__(self, db: Database, root: Path, clock: Clock) -> None:
        self._db = db
        self._root = root
        self._clock = clock
        self._published_at: dict[str, datetime] = {}

    def publish_due(self) -> None:
        """Publish the endpoints that have not been published for a while."""
        now = self._clock.now()
        for endpoint in list_endpoints(self._root):
            last = self._published_at.get(endpoint)
            if last is None or now - last >= AT_MOST_EVERY:
                self.publish(endpoint)

    def publish(self, endpoint: str) -> bool:
        """Bring an endpoint's table up to what is sealed, and return whether it had to change."""
        self._published_at[endpoint] = self._clock.now()
        folder = self._root / endpoint
        with self._db.read() as tx:
            segments = store.list_segments(tx, endpoint)
        named = {str(Path(segment.path).relative_to(endpoint)): segment for segment in segments}
        if not named and not (folder / "_delta_log").is_dir():
            return False
        return _commit(folder, named, self._clock.now())


def _commit(folder: Path, named: dict[str, Segment], now: datetime) -> bool:
    from deltalake import DeltaTable, Field, Schema
    from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

    def add(paths: Sequence[str]) -> list[AddAction]:
        return [
            AddAction(
                path=path,
                size=named[path].size_bytes,
                partition_values={_DAY: named[path].day},
                modification_time=named[path].sealed_at_us // _MILLISECOND_US,
                data_change=True,
                stats=_describe(named[path]),
            )
            for path in paths
        ]

    schema = Schema([Field(name, _delta_type(dtype)) for name, dtype in {**FRAME_SCHEMA, _DAY: pl.Date}.items()])
    if not DeltaTable.is_deltatable(str(folder)):
        create_table_with_add_actions(
            str(folder), schema, add(sorted(named)), mode="error", partition_by=[_DAY], name=folder.name
        )
        return True
    table = DeltaTable(str(folder))
    active = {action["path"]: action for action in pl.DataFrame(table.get_add_actions(flatten=True)).to_dicts()}
    added = sorted(named.keys() - active.keys())
    removed = [
        RemoveAction(
            path=path,
            deletion_timestamp=to_us(now) // _MILLISECOND_US,
            data_change=True,
            partition_values={_DAY: str(action[f"partition.{_DAY}"])},
            size=action["size_bytes"],
        )
        for path, action in active.items()
        if path not in named
    ]
    if not added and not removed:
        return False
    table.create_write_transaction([*add(added), *removed], mode="append", schema=schema, partition_by=[_DAY])
    return True


def _delta_type(dtype: Any) -> Any:
    from deltalake.schema import ArrayType, PrimitiveType

    if isinstance(dtype, pl.List):
        return ArrayType(_delta_type(dtype.inner), contains_null=True)
    names = {pl.String: "string", pl.Float64: "double", pl.Int64: "long", pl.Date: "date", pl.Datetime: "timestamp"}
    return PrimitiveType(names[dtype.base_type()])


def _describe(segment: Segment) -> str:
    """Return what lets readers pass a file over: its rows, and the ranges of ids and instants."""
    first_ms, last_ms = segment.first_at_us // _MILLISECOND_US, -(-segment.last_at_us // _MILLISECOND_US)
    first, last = (from_us(ms * _MILLISECOND_US).isoformat(timespec="milliseconds") for ms in (first_ms, last_ms))
    return json.dumps(
        {
            "numRecords": segment.rows,
            "minValues": {"id": segment.first_id, "at": first.replace("+00:00", "Z")},
            "maxValues": {"id": segment.last_id, "at": last.replace("+00:00", "Z")},
        }
    )
