"""Delta tables: the files that are active in the current version."""

from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import polars as pl

from flyball.storage.tables.csv import first_line
from flyball.storage.tables.sources import DataFile, SourceUnreadableError

# With these the active files alone do not say what the table's rows are.
_NEED_A_READER = {"deletionVectors", "columnMapping", "typeWidening", "typeWidening-preview"}


class DeltaVersion(NamedTuple):
    """One version of a Delta table.

    Attributes:
        version: Its number.
        files: The active files, oldest first; empty where only a Delta reader can tell the rows.
        schema: All columns.
        is_plain: Whether the rows are those of the active files, as they lie there.
    """

    version: int
    files: list[DataFile]
    schema: pl.Schema
    is_plain: bool


def open_delta(path: Path, *, what: str) -> DeltaVersion:
    """Read the current version's log.

    Raises:
        SourceUnreadableError: The log is damaged.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        table = DeltaTable(str(path))
        features = {str(feature) for feature in table.protocol().reader_features or ()}
        schema = pl.Schema(table.schema())
        actions = pl.DataFrame(table.get_add_actions(flatten=False))
    except (DeltaError, OSError, pl.exceptions.PanicException) as error:
        raise SourceUnreadableError(what, path, first_line(error)) from error
    places = actions["path"].to_list() if actions.height else []
    is_plain = not features & _NEED_A_READER and not any("://" in place for place in places)
    return DeltaVersion(table.version(), _files(path, actions) if is_plain else [], schema, is_plain)


def scan_delta(path: Path, version: int) -> pl.LazyFrame:
    """Scan one version through a Delta reader, which understands deleted rows and renamed columns."""
    return pl.scan_delta(str(path), version=version)


def _files(root: Path, actions: pl.DataFrame) -> list[DataFile]:
    if not actions.height:
        return []
    ordered = actions.sort("modification_time", "path")
    partitions = ordered["partition"].to_list() if "partition" in ordered.columns else [{}] * ordered.height
    return [
        DataFile(root / unquote(place), partition or {})
        for place, partition in zip(ordered["path"].to_list(), partitions, strict=True)
    ]
