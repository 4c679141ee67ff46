"""The journal's SQL."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from flyball.core.durations import from_us, to_us
from flyball.core.encoding import to_canonical_json
from flyball.domain.journal.events import GENESIS, Event, JournalCorruptedError
from flyball.storage.db import Row, Transaction

_COLUMNS = "seq, kind, subject, event_time_us, recorded_at_us, actor, cause, data, previous, digest"


def append_event(
    tx: Transaction,
    *,
    kind: str,
    subject: str,
    event_time: datetime,
    recorded_at: datetime,
    actor: str,
    cause: int | None,
    data: dict[str, Any],
) -> Event:
    """Chain one event to the last; the open write transaction keeps every other writer out."""
    last = tx.row("SELECT seq, digest FROM journal_event ORDER BY seq DESC LIMIT 1")
    event = Event(
        seq=last["seq"] + 1 if last else 1,
        kind=kind,
        subject=subject,
        event_time=event_time,
        recorded_at=recorded_at,
        actor=actor,
        cause=cause,
        data=json.loads(to_canonical_json(data)),
        previous=last["digest"] if last else GENESIS,
    )
    digest = event.compute_digest()
    tx.send(
        f"INSERT INTO journal_event ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            event.seq,
            kind,
            subject,
            to_us(event_time),
            to_us(recorded_at),
            actor,
            cause,
            to_canonical_json(event.data).decode(),
            event.previous,
            digest,
        ),
    )
    return Event(**{name: getattr(event, name) for name in Event.__struct_fields__ if name != "digest"}, digest=digest)


def list_events(
    tx: Transaction,
    *,
    after: int,
    kinds: Sequence[str],
    subject: str | None,
    until: datetime | None,
    limit: int,
    newest_first: bool,
) -> list[Event]:
    """Return events in order. ``until`` bounds ``event_time``, inclusive."""
    where, params = ["seq > ?"], [after]
    if kinds:
        where.append(f"kind IN ({', '.join('?' * len(kinds))})")
        params.extend(kinds)  # type: ignore[arg-type]
    if subject is not None:
        where.append("subject = ?")
        params.append(subject)  # type: ignore[arg-type]
    if until is not None:
        where.append("event_time_us <= ?")
        params.append(to_us(until))
    order = "DESC" if newest_first else "ASC"
    rows = tx.rows(
        f"SELECT {_COLUMNS} FROM journal_event WHERE {' AND '.join(where)} ORDER BY seq {order} LIMIT ?",
        [*params, limit],
    )
    return [_read(row) for row in rows]


def find_event(tx: Transaction, seq: int) -> Event | None:
    """Return one event."""
    row = tx.row(f"SELECT {_COLUMNS} FROM journal_event WHERE seq = ?", (seq,))
    return _read(row) if row else None


def head(tx: Transaction) -> int:
    """Return the number of the last event; 0 when there is none."""
    return int(tx.value("SELECT coalesce(max(seq), 0) FROM journal_event"))


def cursor(tx: Transaction, name: str) -> int:
    """Return up to where a reader has read."""
    return int(tx.value("SELECT seq FROM journal_cursor WHERE name = ?", (name,)) or 0)


def move_cursor(tx: Transaction, name: str, seq: int) -> None:
    """Keep up to where a reader has read."""
    tx.send(
        "INSERT INTO journal_cursor (name, seq) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET seq = excluded.seq",
        (name, seq),
    )


def _read(row: Row) -> Event:
    try:
        return Event(
            seq=row["seq"],
            kind=row["kind"],
            subject=row["subject"],
            event_time=from_us(row["event_time_us"]),
            recorded_at=from_us(row["recorded_at_us"]),
            actor=row["actor"],
            cause=row["cause"],
            data=json.loads(row["data"]),
            previous=row["previous"],
            digest=row["digest"],
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise JournalCorruptedError(row["seq"], str(error)) from error
