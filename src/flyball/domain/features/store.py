"""The features' SQL."""

from datetime import datetime

import msgspec

from flyball.core.durations import from_us, to_us
from flyball.core.encoding import from_json, to_json
from flyball.domain.data.schemas import Schema
from flyball.domain.features.rows import Layout, tag_of
from flyball.storage.db import Transaction


class MaterialisationState(msgspec.Struct, frozen=True, kw_only=True):
    """Up to when, and from what, a view's online rows are written.

    Attributes:
        snapshot: The snapshot that the rows come from.
        source: Identifies the content that the view was computed from.
        as_of: Every row that was known by then is written.
        last_known_us: When the last row of that content became known; None where that was not kept.
    """

    snapshot: str
    source: str
    as_of: datetime
    last_known_us: int | None = None


def find_state(tx: Transaction, view_key: str) -> MaterialisationState | None:
    """Return how far a view is materialised, or None."""
    row = tx.row(
        "SELECT snapshot, source, as_of_us, last_known_us FROM feature_materialisation WHERE view_key = ?", (view_key,)
    )
    if row is None:
        return None
    return MaterialisationState(
        snapshot=row["snapshot"],
        source=row["source"],
        as_of=from_us(row["as_of_us"]),
        last_known_us=row["last_known_us"],
    )


def put_state(tx: Transaction, view_key: str, state: MaterialisationState, now: datetime) -> None:
    """Keep how far a view is materialised."""
    tx.execute(
        "INSERT INTO feature_materialisation (view_key, snapshot, source, as_of_us, last_known_us, updated_at_us) "
        "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (view_key) DO UPDATE SET snapshot = excluded.snapshot, "
        "source = excluded.source, as_of_us = excluded.as_of_us, last_known_us = excluded.last_known_us, "
        "updated_at_us = excluded.updated_at_us",
        (view_key, state.snapshot, state.source, to_us(state.as_of), state.last_known_us, to_us(now)),
    )


def find_layout(tx: Transaction, view_key: str) -> Layout | None:
    """Return the columns of a version of a view, with those it had before; None when it was never materialised."""
    row = tx.row("SELECT columns, keys FROM feature_view WHERE view_key = ?", (view_key,))
    if row is None:
        return None
    former = tx.rows("SELECT columns FROM feature_layout WHERE view_key = ?", (view_key,))
    what = f"columns of view {view_key!r}"
    return Layout(
        from_json(row["columns"], Schema, what=what),
        from_json(row["keys"], Schema, what=what) if row["keys"] else Schema(),
        [from_json(old["columns"], Schema, what=what) for old in former],
    )


def put_columns(
    tx: Transaction,
    view_key: str,
    *,
    name: str,
    version: str,
    columns: Schema,
    now: datetime,
    keys: Schema | None = None,
) -> None:
    """Keep the columns of a version of a view and the types of its keys; rows with earlier columns stay readable."""
    tx.execute(
        "INSERT INTO feature_view (view_key, name, version, columns, keys, created_at_us) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (view_key) DO UPDATE SET columns = excluded.columns, keys = excluded.keys",
        (view_key, name, version, to_json(columns).decode(), to_json(keys).decode() if keys else "", to_us(now)),
    )
    tx.execute(
        "INSERT INTO feature_layout (view_key, tag, columns) VALUES (?, ?, ?) ON CONFLICT (view_key, tag) DO NOTHING",
        (view_key, tag_of(columns).hex(), to_json(columns).decode()),
    )


def list_versions(tx: Transaction, name: str) -> list[str]:
    """Return the versions of a view that have online rows, the newest first."""
    rows = tx.rows("SELECT version FROM feature_view WHERE name = ? ORDER BY created_at_us DESC, version", (name,))
    return [row["version"] for row in rows]


def list_snapshots(tx: Transaction) -> set[str]:
    """Return the snapshots that materialised views show."""
    return {snapshot for (snapshot,) in tx.tuples("SELECT snapshot FROM feature_materialisation")}


def touch(tx: Transaction, view_key: str, now: datetime) -> None:
    """Note that a version of a view is in use."""
    tx.execute("UPDATE feature_view SET used_at_us = ? WHERE view_key = ?", (to_us(now), view_key))


def touch_unknown(tx: Transaction, now: datetime) -> None:
    """Count those versions as used now of which nobody noted it."""
    tx.execute("UPDATE feature_view SET used_at_us = ? WHERE used_at_us = 0", (to_us(now),))


def list_unused(tx: Transaction, before: datetime) -> list[tuple[str, str, str, datetime]]:
    """Return key, name, version and last use of the versions that were last used before an instant."""
    rows = tx.rows(
        "SELECT view_key, name, version, used_at_us FROM feature_view WHERE used_at_us < ? ORDER BY view_key",
        (to_us(before),),
    )
    return [(row["view_key"], row["name"], row["version"], from_us(row["used_at_us"])) for row in rows]


def delete_version(tx: Transaction, view_key: str) -> None:
    """Forget a version of a view."""
    for table in ("feature_materialisation", "feature_layout", "feature_view"):
        tx.execute(f"DELETE FROM {table} WHERE view_key = ?", (view_key,))
