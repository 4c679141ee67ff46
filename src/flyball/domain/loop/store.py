"""The loop's SQL: reactions, and up to where its own sources have been read."""

from datetime import datetime

from flyball.core.durations import from_us, to_us
from flyball.domain.loop.reactions import Reaction, ReactionState
from flyball.storage.db import Row, Transaction

_COLUMNS = "cause, endpoint, reason, state, started_at_us, finished_at_us, run_id, error, event_seq"


def insert_reaction(tx: Transaction, reaction: Reaction) -> bool:
    """Keep a new reaction; False when its cause has already acted on its endpoint."""
    changed = tx.execute(
        f"INSERT INTO loop_reaction ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            reaction.cause,
            reaction.endpoint,
            reaction.reason,
            reaction.state.value,
            to_us(reaction.started_at),
            None,
            None,
            None,
            reaction.event_seq,
        ),
    )
    return changed == 1


def finish_reaction(
    tx: Transaction,
    endpoint: str,
    cause: int,
    state: ReactionState,
    at: datetime,
    run_id: str | None,
    error: str | None,
) -> None:
    """Close a reaction."""
    tx.execute(
        "UPDATE loop_reaction SET state = ?, finished_at_us = ?, run_id = ?, error = ? "
        "WHERE endpoint = ? AND cause = ?",
        (state.value, to_us(at), run_id, error, endpoint, cause),
    )


def find_reaction(tx: Transaction, endpoint: str, cause: int) -> Reaction | None:
    """Return the reaction of an endpoint to a cause."""
    row = tx.row(f"SELECT {_COLUMNS} FROM loop_reaction WHERE endpoint = ? AND cause = ?", (endpoint, cause))
    return _read(row) if row else None


def is_new_cause(tx: Transaction, endpoint: str, cause: int) -> bool:
    """Tell whether an event has not acted on an endpoint yet."""
    return find_reaction(tx, endpoint, cause) is None


def last_reaction(tx: Transaction, endpoint: str) -> Reaction | None:
    """Return the reaction of an endpoint that started last."""
    row = tx.row(
        f"SELECT {_COLUMNS} FROM loop_reaction WHERE endpoint = ? ORDER BY started_at_us DESC, cause DESC LIMIT 1",
        (endpoint,),
    )
    return _read(row) if row else None


def list_open_reactions(tx: Transaction) -> list[Reaction]:
    """Return the reactions that have started and not ended, oldest first."""
    rows = tx.rows(f"SELECT {_COLUMNS} FROM loop_reaction WHERE state = 'running' ORDER BY started_at_us, cause")
    return [_read(row) for row in rows]


def list_reactions(tx: Transaction, endpoint: str) -> list[Reaction]:
    """Return all reactions of an endpoint, oldest first."""
    rows = tx.rows(
        f"SELECT {_COLUMNS} FROM loop_reaction WHERE endpoint = ? ORDER BY started_at_us, cause", (endpoint,)
    )
    return [_read(row) for row in rows]


def find_watermark(tx: Transaction, name: str) -> str | None:
    """Return what was kept under a name."""
    value: str | None = tx.value("SELECT value FROM loop_watermark WHERE name = ?", (name,))
    return value


def put_watermark(tx: Transaction, name: str, value: str) -> None:
    """Keep a value under a name."""
    tx.execute(
        "INSERT INTO loop_watermark (name, value) VALUES (?, ?) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, value),
    )


def _read(row: Row) -> Reaction:
    return Reaction(
        cause=row["cause"],
        endpoint=row["endpoint"],
        reason=row["reason"],
        state=ReactionState(row["state"]),
        started_at=from_us(row["started_at_us"]),
        finished_at=from_us(row["finished_at_us"]) if row["finished_at_us"] is not None else None,
        run_id=row["run_id"],
        error=row["error"],
        event_seq=row["event_seq"],
    )
