"""What a snapshot shows of a content: the rows that were known by an instant, and of those a share."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import polars as pl

from flyball.core.durations import from_us, to_us
from flyball.core.hashing import digest_value
from flyball.domain.data.contents import read_content
from flyball.domain.data.samples import sample_rows
from flyball.domain.data.snapshots import Content, Snapshot
from flyball.domain.data.tables import Table
from flyball.storage.blobs import LocalBlobStore


def cut_snapshot(
    content: Content, table: Table, blobs: LocalBlobStore, *, as_of: datetime | None, share: float, now: datetime
) -> Snapshot:
    """Describe what is seen of a content.

    Args:
        content: All rows of the table.
        table: The declaration.
        blobs: Keep the rows' bytes.
        as_of: Rows that became known later are not seen.
        share: Which share of the rows is, by `sample_rows`.
        now: When the snapshot is made.
    """
    id_, rows, cut = content.id, content.rows, None
    time_from, time_to = content.time_from, content.time_to
    if as_of is not None and content.known_to is not None and content.known_to > as_of:
        found = _count_known(content, read_content(content, blobs), as_of)
        rows, cut = found["rows"], from_us(found["cut_us"])
        id_ = digest_value([content.id, found["cut_us"]])
        time_from, time_to = (found["time_from"], found["time_to"]) if table.time else (None, None)
    if share < 1:
        chosen = read_content(content, blobs).filter(sample_rows(table, share))
        if cut is not None:
            chosen = chosen.filter(known_by(content.instants, cut))
        id_, rows = digest_value([id_, "sample", share]), chosen.select(pl.len()).collect().item()
    return Snapshot(
        id=id_,
        table=table.required_name,
        digest=content.id,
        schema=content.schema,
        rows=rows,
        files=content.files,
        created_at=now,
        time_from=time_from,
        time_to=time_to,
        as_of=cut,
        sample=share,
    )


def known_by(instants: Sequence[str], as_of: datetime) -> pl.Expr:
    """Return the filter that keeps what was known at an instant; the last of the columns says since when."""
    return pl.col(instants[-1]).dt.timestamp("us") <= to_us(as_of)


def _count_known(content: Content, frame: pl.LazyFrame, as_of: datetime) -> dict[str, Any]:
    """Count what of a content was known at an instant: rows, the last of them, and their range of time."""
    time, known = content.instants[0], content.instants[-1]
    kept = frame.filter(known_by(content.instants, as_of))
    found = kept.select(
        pl.len().alias("rows"),
        pl.col(known).max().alias("last"),
        pl.col(time).min().alias("time_from"),
        pl.col(time).max().alias("time_to"),
    ).collect()
    values = found.row(0, named=True)
    # The cut is said by the last row kept, so that asking a day later without new rows gives the same snapshot.
    last = values.pop("last")
    first = content.known_from
    values["cut_us"] = to_us(last) if last is not None else (to_us(first) - 1 if first else to_us(as_of))
    return values
