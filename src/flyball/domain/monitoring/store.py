"""The room's SQL: tiles, newest predictions, findings, alerts and deliveries."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from flyball.core.durations import from_us, to_us
from flyball.core.encoding import to_json
from flyball.domain.monitoring.alerts import Alert
from flyball.domain.monitoring.deliveries import Delivery
from flyball.domain.monitoring.findings import Finding
from flyball.storage.db import Row, Transaction

_read_alert = msgspec.json.Decoder(Alert).decode
_read_finding = msgspec.json.Decoder(Finding).decode


def insert_notifier(tx: Transaction, name: str, first_used_at: datetime) -> bool:
    """Remember a notifier; False when it was known already."""
    changed = tx.execute(
        "INSERT INTO monitoring_notifier (name, first_used_us) VALUES (?, ?) ON CONFLICT DO NOTHING",
        (name, to_us(first_used_at)),
    )
    return changed == 1


def put_delivery(tx: Transaction, delivery: Delivery) -> None:
    """Keep what became of an alert that could not be told."""
    tx.execute(
        "INSERT INTO monitoring_delivery (notifier, event, rounds, next_at_us, error) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (notifier, event) DO UPDATE SET "
        "rounds = excluded.rounds, next_at_us = excluded.next_at_us, error = excluded.error",
        (
            delivery.notifier,
            delivery.event,
            delivery.rounds,
            None if delivery.next_at is None else to_us(delivery.next_at),
            delivery.error,
        ),
    )


def find_delivery(tx: Transaction, notifier: str, event: int) -> Delivery | None:
    """Return what became of an alert so far, if it failed before."""
    row = tx.row(
        "SELECT notifier, event, rounds, next_at_us, error FROM monitoring_delivery WHERE notifier = ? AND event = ?",
        (notifier, event),
    )
    return None if row is None else _to_delivery(row)


def delete_delivery(tx: Transaction, notifier: str, event: int) -> None:
    """Forget the failures of an alert that was told in the end."""
    tx.execute("DELETE FROM monitoring_delivery WHERE notifier = ? AND event = ?", (notifier, event))


def list_deliveries(tx: Transaction) -> list[Delivery]:
    """Return the alerts that were not told yet, or were given up; the newest first."""
    rows = tx.rows(
        "SELECT notifier, event, rounds, next_at_us, error FROM monitoring_delivery ORDER BY event DESC, notifier"
    )
    return [_to_delivery(row) for row in rows]


def _to_delivery(row: Row) -> Delivery:
    next_at_us = row["next_at_us"]
    return Delivery(
        notifier=row["notifier"],
        event=row["event"],
        rounds=row["rounds"],
        next_at=None if next_at_us is None else from_us(next_at_us),
        error=row["error"],
    )


def put_alert(tx: Transaction, alert: Alert, evaluated_at: datetime) -> None:
    """Keep an alert's present state."""
    tx.execute(
        "INSERT INTO monitoring_alert (endpoint, monitor, is_raised, evaluated_us, alert) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (endpoint, monitor) DO UPDATE SET "
        "is_raised = excluded.is_raised, evaluated_us = excluded.evaluated_us, alert = excluded.alert",
        (alert.endpoint, alert.monitor, int(alert.is_raised), to_us(evaluated_at), to_json(alert).decode()),
    )


def list_alerts(tx: Transaction, endpoint: str | None = None, *, raised_only: bool = False) -> list[Alert]:
    """Return the alerts of one endpoint, or of all, by name."""
    where, params = ["1 = 1"], []
    if endpoint is not None:
        where.append("endpoint = ?")
        params.append(endpoint)
    if raised_only:
        where.append("is_raised = 1")
    rows = tx.rows(f"SELECT alert FROM monitoring_alert WHERE {' AND '.join(where)} ORDER BY endpoint, monitor", params)
    return [_read_alert(row["alert"]) for row in rows]


def list_evaluated(tx: Transaction, endpoint: str) -> dict[str, int]:
    """Return when each monitor of an endpoint was last evaluated, in microseconds."""
    rows = tx.rows("SELECT monitor, evaluated_us FROM monitoring_alert WHERE endpoint = ?", (endpoint,))
    return {row["monitor"]: row["evaluated_us"] for row in rows}


def put_finding(tx: Transaction, endpoint: str, finding: Finding) -> None:
    """Add a point to a monitor's series."""
    tx.execute(
        "INSERT INTO monitoring_finding (endpoint, monitor, at_us, state, value, finding) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (endpoint, monitor, at_us) DO UPDATE SET "
        "state = excluded.state, value = excluded.value, finding = excluded.finding",
        (endpoint, finding.monitor, to_us(finding.at), finding.state, finding.value, to_json(finding).decode()),
    )


def list_findings(
    tx: Transaction,
    endpoint: str,
    monitor: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int | None,
) -> list[Finding]:
    """Return the points of an endpoint's series, oldest first; with ``limit`` only the newest of them."""
    where, params = ["endpoint = ?"], [endpoint]
    for clause, value in (
        ("monitor = ?", monitor),
        ("at_us >= ?", None if since is None else to_us(since)),
        ("at_us <= ?", None if until is None else to_us(until)),
    ):
        if value is not None:
            where.append(clause)
            params.append(value)  # type: ignore[arg-type]
    newest = "" if limit is None else f" LIMIT {int(limit)}"
    rows = tx.rows(
        f"SELECT finding FROM monitoring_finding WHERE {' AND '.join(where)} ORDER BY at_us DESC, monitor DESC{newest}",
        params,
    )
    return [_read_finding(row["finding"]) for row in reversed(rows)]


def list_tiles(
    tx: Transaction, endpoint: str, size_us: int, since_us: int, until_us: int
) -> list[tuple[str, str, str]]:
    """Return version, variant and counts (JSON) of the tiles that begin in [since, until)."""
    rows = tx.rows(
        "SELECT version, variant, counts FROM monitoring_tile "
        "WHERE endpoint = ? AND size_us = ? AND start_us >= ? AND start_us < ?",
        (endpoint, size_us, since_us, until_us),
    )
    return [(row["version"], row["variant"], row["counts"]) for row in rows]


TileKey = tuple[str, int, int, str, str]
"""Endpoint, size and start in microseconds, version, variant."""


def find_tile(tx: Transaction, key: TileKey) -> str | None:
    """Return the counts of one tile as JSON."""
    found: str | None = tx.value(
        "SELECT counts FROM monitoring_tile "
        "WHERE endpoint = ? AND size_us = ? AND start_us = ? AND version = ? AND variant = ?",
        key,
    )
    return found


def put_tiles(tx: Transaction, tiles: Mapping[TileKey, str]) -> None:
    """Replace the counts of tiles."""
    tx.execute_many(
        "INSERT INTO monitoring_tile (endpoint, size_us, start_us, version, variant, counts) "
        "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (endpoint, size_us, start_us, version, variant) "
        "DO UPDATE SET counts = excluded.counts",
        [(*key, counts) for key, counts in tiles.items()],
    )


def delete_tiles_before(tx: Transaction, endpoint: str, size_us: int, before_us: int) -> None:
    """Forget tiles of one size that begin before an instant."""
    tx.execute(
        "DELETE FROM monitoring_tile WHERE endpoint = ? AND size_us = ? AND start_us < ?",
        (endpoint, size_us, before_us),
    )


def add_recent(
    tx: Transaction, endpoint: str, version: str, predictions: Sequence[tuple[int, float]], keep: int
) -> None:
    """Add predictions (time in microseconds, value) to a version's newest, and forget all but ``keep``."""
    tx.execute_many(
        "INSERT INTO monitoring_recent (endpoint, version, at_us, prediction) VALUES (?, ?, ?, ?)",
        [(endpoint, version, at_us, value) for at_us, value in predictions],
    )
    oldest_kept = tx.value(
        "SELECT at_us FROM monitoring_recent WHERE endpoint = ? AND version = ? ORDER BY at_us DESC LIMIT 1 OFFSET ?",
        (endpoint, version, keep - 1),
    )
    if oldest_kept is not None:
        tx.execute(
            "DELETE FROM monitoring_recent WHERE endpoint = ? AND version = ? AND at_us < ?",
            (endpoint, version, oldest_kept),
        )


def list_recent(tx: Transaction, endpoint: str, version: str, last: int) -> list[tuple[int, float]]:
    """Return a version's newest predictions at an endpoint, the newest first: time in microseconds, value."""
    rows = tx.rows(
        "SELECT at_us, prediction FROM monitoring_recent WHERE endpoint = ? AND version = ? "
        "ORDER BY at_us DESC LIMIT ?",
        (endpoint, version, last),
    )
    return [(row["at_us"], row["prediction"]) for row in rows]
