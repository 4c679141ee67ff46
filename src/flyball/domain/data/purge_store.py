"""The SQL that finds snapshots that nothing needs any more, and tells which blobs the rest needs."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from flyball.core.encoding import from_json
from flyball.domain.data.snapshots import Content
from flyball.storage.db import Transaction


class OldSnapshot(NamedTuple):
    """A snapshot that may go, by the number of its event, and the content that it shows."""

    event_seq: int
    content_id: str


class _Body(msgspec.Struct):
    digest: str
    created_at: datetime


def find_unneeded(tx: Transaction, pinned: Collection[str], before: datetime) -> list[OldSnapshot]:
    """Return the snapshots made before an instant that are not pinned and not the last of their table.

    Args:
        tx: A transaction.
        pinned: Ids of snapshots that something refers to.
        before: Younger ones stay.
    """
    rows = tx.tuples("SELECT event_seq, id, table_name, body FROM data_snapshot ORDER BY event_seq")
    last = {table: seq for seq, _, table, _ in rows}
    watched = {content for (content,) in tx.tuples("SELECT content_id FROM data_watch")}
    found = []
    for seq, snapshot, table, text in rows:
        if snapshot in pinned or last[table] == seq:
            continue
        body = from_json(text, _Body, what="a snapshot")
        if body.created_at < before and body.digest not in watched:
            found.append(OldSnapshot(seq, body.digest))
    return found


def remove_snapshots(tx: Transaction, snapshots: Sequence[OldSnapshot]) -> int:
    """Remove snapshots, and the contents that no other one shows; return how many snapshots went.

    Their reports and events stay: what was found then can still be told.
    """
    for old in snapshots:
        tx.execute("DELETE FROM data_snapshot WHERE event_seq = ?", (old.event_seq,))
    for content_id in _unshown(tx, snapshots):
        tx.execute("DELETE FROM data_content WHERE id = ?", (content_id,))
    return len(snapshots)


def list_contents(tx: Transaction, without: Sequence[OldSnapshot]) -> Iterator[Content]:
    """Yield the contents that are kept when some snapshots go."""
    gone = _unshown(tx, without)
    for content_id, text in tx.tuples("SELECT id, body FROM data_content"):
        if content_id not in gone:
            yield from_json(text, Content, what="content")


def _unshown(tx: Transaction, without: Sequence[OldSnapshot]) -> set[str]:
    """Return the contents of some snapshots that no other one shows."""
    going = {old.event_seq for old in without}
    contents = {old.content_id for old in without}
    if contents:
        for seq, text in tx.tuples("SELECT event_seq, body FROM data_snapshot"):
            if seq not in going:
                contents.discard(from_json(text, _Body, what="a snapshot").digest)
    return contents
