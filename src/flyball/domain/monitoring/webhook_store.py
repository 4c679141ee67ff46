"""The SQL of webhooks."""

from collections.abc import Sequence
from typing import Any

import msgspec

from flyball.domain.monitoring.webhooks import Webhook, WebhookEvent
from flyball.storage.db import Row, Transaction

_COLUMNS = "id, name, description, url, events, secret, is_active, created_at_us, updated_at_us"


def put_webhook(tx: Transaction, webhook: Webhook) -> None:
    """Keep a webhook; one that is there is replaced."""
    tx.execute(
        f"INSERT INTO monitoring_webhook ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description,"
        " url = excluded.url, events = excluded.events, secret = excluded.secret, is_active = excluded.is_active,"
        " updated_at_us = excluded.updated_at_us",
        (
            webhook.id,
            webhook.name,
            webhook.description,
            webhook.url,
            msgspec.json.encode(webhook.events).decode(),
            webhook.secret,
            int(webhook.is_active),
            webhook.created_at_us,
            webhook.updated_at_us,
        ),
    )


def find_webhook(tx: Transaction, webhook_id: str) -> Webhook | None:
    """Return one webhook."""
    row = tx.row(f"SELECT {_COLUMNS} FROM monitoring_webhook WHERE id = ?", (webhook_id,))
    return None if row is None else _webhook(row)


def delete_webhook(tx: Transaction, webhook_id: str) -> None:
    """Remove a webhook."""
    tx.execute("DELETE FROM monitoring_webhook WHERE id = ?", (webhook_id,))


def list_webhooks(tx: Transaction, after: Sequence[Any] | None, limit: int) -> list[Webhook]:
    """Return webhooks from the oldest on, after one's instant and id."""
    where, params = "", []
    if after is not None:
        where, params = "WHERE created_at_us > ? OR (created_at_us = ? AND id > ?)", [after[0], *after]
    rows = tx.rows(
        f"SELECT {_COLUMNS} FROM monitoring_webhook {where} ORDER BY created_at_us, id LIMIT ?", [*params, limit]
    )
    return [_webhook(row) for row in rows]


def list_active(tx: Transaction) -> list[Webhook]:
    """Return the webhooks that are told at present."""
    sql = f"SELECT {_COLUMNS} FROM monitoring_webhook WHERE is_active = 1 ORDER BY created_at_us, id"
    return [_webhook(row) for row in tx.rows(sql)]


def _webhook(row: Row) -> Webhook:
    return Webhook(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        url=row["url"],
        events=msgspec.json.decode(row["events"], type=tuple[WebhookEvent, ...]),
        secret=row["secret"],
        is_active=bool(row["is_active"]),
        created_at_us=row["created_at_us"],
        updated_at_us=row["updated_at_us"],
    )
