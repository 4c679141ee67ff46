"""The rollouts' SQL."""

from flyball.core.durations import to_us
from flyball.core.encoding import from_json, to_json
from flyball.domain.serving.rollouts import Rollout, RolloutStatus
from flyball.storage.db import Transaction


def put_rollout(tx: Transaction, rollout: Rollout) -> None:
    """Keep a rollout as it is now."""
    tx.execute(
        "INSERT INTO serving_rollout (id, endpoint, status, started_at_us, ended_at_us, body) "
        "VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (id) DO UPDATE SET status = excluded.status, ended_at_us = excluded.ended_at_us, "
        "body = excluded.body",
        (
            rollout.id,
            rollout.endpoint,
            rollout.status.value,
            to_us(rollout.started_at),
            None if rollout.ended_at is None else to_us(rollout.ended_at),
            to_json(rollout).decode(),
        ),
    )


def find_running_rollout(tx: Transaction, endpoint: str) -> Rollout | None:
    """Return the rollout that is under way on an endpoint."""
    body = tx.value(
        "SELECT body FROM serving_rollout WHERE endpoint = ? AND status = ?", (endpoint, RolloutStatus.RUNNING.value)
    )
    return None if body is None else _read(body)


def find_rollout(tx: Transaction, rollout_id: str) -> Rollout | None:
    """Return a rollout by its id."""
    body = tx.value("SELECT body FROM serving_rollout WHERE id = ?", (rollout_id,))
    return None if body is None else _read(body)


def list_rollouts(tx: Transaction, endpoint: str) -> list[Rollout]:
    """Return all rollouts of an endpoint, oldest first."""
    rows = tx.rows("SELECT body FROM serving_rollout WHERE endpoint = ? ORDER BY started_at_us, id", (endpoint,))
    return [_read(row["body"]) for row in rows]


def find_rollout_at(tx: Transaction, endpoint: str, instant_us: int) -> Rollout | None:
    """Return the rollout of an endpoint that had started last at an instant, whether it had ended or not."""
    body = tx.value(
        "SELECT body FROM serving_rollout WHERE endpoint = ? AND started_at_us <= ? "
        "ORDER BY started_at_us DESC, id DESC LIMIT 1",
        (endpoint, instant_us),
    )
    return None if body is None else _read(body)


def _read(body: str) -> Rollout:
    return from_json(body, Rollout, what="rollout")
