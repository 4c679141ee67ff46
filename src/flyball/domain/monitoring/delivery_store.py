"""The SQL of receivers and of what they could not be told."""

from datetime import datetime

from flyball.core.durations import from_us, to_us
from flyball.domain.monitoring.deliveries import Delivery
from flyball.storage.db import Row, Transaction


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
