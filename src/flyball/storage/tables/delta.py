"""Delta tables: the files that are active in the current version."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

import polars as pl

from flyball.core.durations import format_instant, from_us
from flyball.core.errors import NotFoundError
from flyball.storage.tables.csv import first_line
from flyball.storage.tables.port import Asked, DigestFiles, Found
from flyball.storage.tables.sources import DataFile, SourceUnreadableError, fingerprint_source, list_files

if TYPE_CHECKING:
    from deltalake import DeltaTable

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


class VersionMissingError(NotFoundError):
    """A Delta table has no such version, or no longer all of its files."""

    code = "data/version-missing"

    def __init__(self, what: str, version: int | datetime, newest: int, *, begun: datetime | None = None) -> None:
        told = f"version of {format_instant(version)}" if isinstance(version, datetime) else f"version {version}"
        since = f" and its log begins at {format_instant(begun)}" if begun is not None else ""
        super().__init__(
            f"the {what} has no {told}; the newest is {newest}{since}",
            hint="Correct version= of the table: a number, or an instant after the table was made.",
        )


class VersionVacuumedError(NotFoundError):
    """A version of a Delta table is still in its log, but files of it were removed."""

    code = "data/version-vacuumed"

    def __init__(self, what: str, version: int | datetime) -> None:
        super().__init__(
            f"version {version} of the {what} can no longer be read: a vacuum has removed files of it",
            hint="Snapshots that were made of it are kept: see flyball data show. Or name a later version.",
        )


class DeltaSource:
    """See `TableSource`.

    Args:
        asked: The declaration.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    def fingerprint(self) -> str:
        """See `TableSource.fingerprint`. A Delta table is judged by its log."""
        return fingerprint_source(self._asked.path, self._asked.what)

    def open(self, scratch: Path, digest_files: DigestFiles) -> Found:
        """See `TableSource.open`."""
        path, what = self._asked.path, self._asked.what
        found = open_delta(path, what=what, version=self._asked.version)
        if self._asked.version is not None and not all(file.path.exists() for file in found.files):
            raise VersionVacuumedError(what, self._asked.version)
        if found.is_plain:
            return Found("delta", path, found.files, found.schema)
        files = [DataFile(file, {}) for file in list_files(path, "parquet", what)]
        return Found("delta", path, files, found.schema, found.version)


def open_delta(path: Path, *, what: str, version: int | datetime | None = None) -> DeltaVersion:
    """Read a version's log.

    Args:
        path: The table's folder.
        what: The table, for errors.
        version: Its number, or an instant at which it was the newest; the present one by default.

    Raises:
        SourceUnreadableError: The log is damaged.
        VersionMissingError: There is no such version.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        table = DeltaTable(str(path))
        if version is not None:
            newest = table.version()
            number = _version_at(table, path, version, what) if isinstance(version, datetime) else version
            try:
                table.load_as_version(number)
            except (DeltaError, ValueError) as error:
                raise VersionMissingError(what, version, newest) from error
            if table.version() != number:
                raise VersionMissingError(what, version, newest)
        features = {str(feature) for feature in table.protocol().reader_features or ()}
        schema = pl.Schema(table.schema())
        actions = pl.DataFrame(table.get_add_actions(flatten=False))
    except (DeltaError, OSError, pl.exceptions.PanicException) as error:
        raise SourceUnreadableError(what, path, first_line(error)) from error
    places = actions["path"].to_list() if actions.height else []
    is_plain = not features & _NEED_A_READER and not any("://" in place for place in places)
    return DeltaVersion(table.version(), _files(path, actions) if is_plain else [], schema, is_plain)


def _version_at(table: "DeltaTable", path: Path, instant: datetime, what: str) -> int:
    """Return the version that was the newest at an instant, by what its commits say.

    delta-rs goes by the times of the log's files, and a copy or a backup has others.
    """
    oldest: datetime | None = None
    for commit in table.history():
        number = int(commit["version"])
        told_ms = commit.get("inCommitTimestamp") or commit.get("timestamp")
        if told_ms is None:  # a writer need not tell
            told_ms = (path / "_delta_log" / f"{number:020}.json").stat().st_mtime_ns // 1_000_000
        oldest = from_us(int(told_ms) * 1_000)
        if oldest <= instant:
            return number
    raise VersionMissingError(what, instant, table.version(), begun=oldest)


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
