"""A scoring of a table: what it covers, and what is new in the table since the last one."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import msgspec
import polars as pl

from flyball.core.errors import ConflictError, FlyballError
from flyball.domain.data.service import DataService
from flyball.domain.data.snapshots import Snapshot
from flyball.storage.tables.outputs import OutputFormat

PART_ROWS = 262_144
ID_PREFIX = 18
"""How many signs the ids of one job's predictions share; the other eight number the table's rows."""
_TIME_SIGNS = 10
_COMPARED = 500_000
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class JobStatus(StrEnum):
    """How far a job is."""

    RUNNING = "running"
    COMPLETE = "complete"
    REPLACED = "replaced"


class Part(msgspec.Struct, frozen=True, array_like=True):
    """Some consecutive rows of a snapshot."""

    offset: int
    rows: int


class ScoreJob(msgspec.Struct, frozen=True, kw_only=True):
    """One scoring of a table's new rows, all by one version.

    Attributes:
        id: Names it.
        endpoint: Whose rules and model it uses.
        table: The table's name.
        snapshot: The table as it was when the job began; also a job taken up later scores exactly these rows.
        version: The model version, such as ``credit-risk/3``.
        out: The folder with the predictions; rejected rows are in the one with ``.rejects`` added to its name.
        format: What the folder is.
        keep: The table's columns that stand beside each prediction.
        parts: The rows, in pieces that fit into memory.
        known_after: Of those, only rows that became known later; all of them where it is None.
        at_row_time: Whether stored features count as they were at each row's time.
        by_graph: Whether the endpoint's graph answers, with the version as its own model's; else that alone.
        replaces: Whether it takes the place of everything that was in ``out``.
        started_at: When it began.
        ended_at: When it was complete.
        status: How far it is.
    """

    id: str
    endpoint: str
    table: str
    snapshot: str
    version: str
    out: str
    format: OutputFormat
    keep: tuple[str, ...]
    parts: tuple[Part, ...]
    known_after: datetime | None = None
    at_row_time: bool = False
    by_graph: bool = False
    replaces: bool = False
    started_at: datetime
    ended_at: datetime | None = None
    status: JobStatus = JobStatus.RUNNING

    @property
    def rows(self) -> int:
        """How many rows its parts have."""
        return sum(part.rows for part in self.parts)

    @property
    def id_prefix(self) -> str:
        """What the ids of its predictions begin with: its own time, and signs that no other job has."""
        digest = hashlib.sha256(self.id.encode()).digest()
        return self.id[:_TIME_SIGNS] + "".join(_ALPHABET[byte % 32] for byte in digest[: ID_PREFIX - _TIME_SIGNS])

    @property
    def rejects(self) -> Path:
        """The folder of rejected rows."""
        return rejects_of(Path(self.out))


class TableRewrittenError(ConflictError):
    """Rows that were scored are no longer in the table as they were, so what is new cannot be told."""

    code = "serving/table-rewritten"

    def __init__(self, table: str, out: str) -> None:
        super().__init__(
            f"rows of {table!r} that were scored into {out!r} have changed or are gone, so its new rows cannot be told",
            hint="Score all rows again with --all; or declare known= for the table: then rows known later are the new.",
        )


def rejects_of(out: Path) -> Path:
    """Return the folder of the rows that got no prediction."""
    return out.with_name(f"{out.name}.rejects")


def number_predictions(prefix: str, rows: pl.Series) -> pl.Series:
    """Return the prediction ids of rows by their numbers in the table: the same whenever they are scored again."""
    pairs = pl.Series([one + other for one in _ALPHABET for other in _ALPHABET])
    digits = [pairs.gather((rows // 1024**place % 1024).cast(pl.UInt32)) for place in (3, 2, 1, 0)]
    named = [digit.alias(str(place)) for place, digit in enumerate(digits)]
    ids = pl.DataFrame(named).select(pl.concat_str(pl.lit(prefix), *(str(place) for place in range(4))))
    return ids.to_series().alias("prediction_id")


def cut_parts(ranges: Sequence[Part], part_rows: int = PART_ROWS) -> tuple[Part, ...]:
    """Cut ranges of rows into parts of a size."""
    return tuple(
        Part(start, min(part_rows, range_.offset + range_.rows - start))
        for range_ in ranges
        for start in range(range_.offset, range_.offset + range_.rows, part_rows)
    )


def find_new_rows(
    data: DataService, before: Snapshot, now: Snapshot, columns: Sequence[str], known: str | None, out: str
) -> tuple[list[Part], datetime | None]:
    """Return which rows of a snapshot were not in an earlier one of the same table.

    Whole files that are still there are known rows; so are rows with which the table still begins. Where neither
    tells, the column that says when a row became known does.

    Args:
        data: Reads snapshots.
        before: The earlier one.
        now: The later one.
        columns: The columns that count.
        known: The column that says when a row became known, where the table declares one.
        out: For the error.

    Returns:
        Ranges of rows, and the instant after which those of them became known that are new; None if all are.

    Raises:
        TableRewrittenError: It cannot be told.
    """
    if before.id == now.id:
        return [], None
    added = _added_files(before, now)
    if added is not None:
        return added, None
    if _begins_with(data, before, now, columns):
        return [Part(before.rows, now.rows - before.rows)] if now.rows > before.rows else [], None
    if known is not None:
        last = data.read(before.id).select(pl.col(known).max()).collect().item()
        if last is not None:
            return [Part(0, now.rows)], last
    raise TableRewrittenError(now.table, out)


def _added_files(before: Snapshot, now: Snapshot) -> list[Part] | None:
    """Return the rows of files that were added, or None where a file is gone or rows are only some of a file's."""
    if any(one.sample < 1 or one.as_of is not None for one in (before, now)):
        return None
    known = [(file.digest, file.partition) for file in before.files]
    added, offset = [], 0
    for file in now.files:
        if (file.digest, file.partition) in known:
            known.remove((file.digest, file.partition))
        else:
            added.append(Part(offset, file.rows))
        offset += file.rows
    return None if known else added


def _begins_with(data: DataService, before: Snapshot, now: Snapshot, columns: Sequence[str]) -> bool:
    if now.rows < before.rows:
        return False
    try:
        old, new = data.read(before.id).select(columns), data.read(now.id).select(columns)
        if old.collect_schema() != new.collect_schema():
            return False
        return all(
            old.slice(start, count).collect().equals(new.slice(start, count).collect())
            for start in range(0, before.rows, _COMPARED)
            if (count := min(_COMPARED, before.rows - start))
        )
    except (FlyballError, pl.exceptions.PolarsError):
        return False  # the earlier rows are no longer kept, or had other columns
