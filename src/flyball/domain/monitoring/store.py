"""The room's SQL: tiles, newest predictions, findings, alerts and deliveries."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from flyball.core.durations import to_us
from flyball.core.encoding import to_json
from flyball.domain.monitoring.alerts import Alert
from flyball.domain.monitoring.findings import Finding
from flyball.domain.monitoring.windows import TilePlace
from flyball.storage.db import Transaction


class Mark(NamedTuple):
    """Up to where a monitor was evaluated: the instant in microseconds, and the newest prediction's number."""

    evaluated_us: int
    seen: int


_read_alert = msgspec.json.Decoder(Alert).decode
_read_finding = msgspec.json.Decoder(Finding).decode


def put_alert(tx: Transaction, alert: Alert, mark: Mark) -> None:
    """Keep an alert's present state."""
    tx.execute(
        "INSERT INTO monitoring_alert (endpoint, monitor, is_raised, evaluated_us, seen, alert) "
        "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (endpoint, monitor) DO UPDATE SET is_raised = excluded.is_raised, "
        "evaluated_us = excluded.evaluated_us, seen = excluded.seen, alert = excluded.alert",
        (
            alert.endpoint,
            alert.monitor,
            int(alert.is_raised),
            mark.evaluated_us,
            mark.seen,
            to_json(alert).decode(),
        ),
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


def list_marks(tx: Transaction, endpoint: str) -> dict[str, Mark]:
    """Return up to where each monitor of an endpoint was evaluated."""
    rows = tx.rows("SELECT monitor, evaluated_us, seen FROM monitoring_alert WHERE endpoint = ?", (endpoint,))
    return {row["monitor"]: Mark(row["evaluated_us"], row["seen"]) for row in rows}


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
) -> list[tuple[TilePlace, str]]:
    """Return the places and counts (JSON) of the tiles that begin in [since, until)."""
    rows = tx.rows(
        "SELECT start_us, version, variant, counts FROM monitoring_tile "
        "WHERE endpoint = ? AND size_us = ? AND start_us >= ? AND start_us < ?",
        (endpoint, size_us, since_us, until_us),
    )
    return [(TilePlace(size_us, row["start_us"], row["version"], row["variant"]), row["counts"]) for row in rows]


def put_tiles(tx: Transaction, endpoint: str, tiles: Mapping[TilePlace, str]) -> None:
    """Replace the counts of tiles."""
    tx.execute_many(
        "INSERT INTO monitoring_tile (endpoint, size_us, start_us, version, variant, counts) "
        "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (endpoint, size_us, start_us, version, variant) "
        "DO UPDATE SET counts = excluded.counts",
        [
            (endpoint, place.size_us, place.start_us, place.version, place.variant, counts)
            for place, counts in tiles.items()
        ],
    )


def find_newest_tile(tx: Transaction, endpoint: str, size_us: int) -> int | None:
    """Return where the newest tile of a size begins, in microseconds."""
    found: int | None = tx.value(
        "SELECT max(start_us) FROM monitoring_tile WHERE endpoint = ? AND size_us = ?", (endpoint, size_us)
    )
    return found


def delete_tiles_before(tx: Transaction, endpoint: str, size_us: int, before_us: int) -> None:
    """Forget tiles of one size that begin before an instant."""
    tx.execute(
        "DELETE FROM monitoring_tile WHERE endpoint = ? AND size_us = ? AND start_us < ?",
        (endpoint, size_us, before_us),
    )


def add_recent(
    tx: Transaction, endpoint: str, version: str, predictions: Sequence[tuple[int, float]], keep: int
) -> None:
    """Add predictions (time in microseconds, value) to a version's newest, and forget all but about ``keep``."""
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
        "ORDER BY at_us DESC, seq DESC LIMIT ?",
        (endpoint, version, last),
    )
    return [(row["at_us"], row["prediction"]) for row in rows]


def last_recent(tx: Transaction) -> int:
    """Return the number of the prediction that was added last; 0 when there is none."""
    return int(tx.value("SELECT coalesce(max(seq), 0) FROM monitoring_recent"))


def count_recent(tx: Transaction, endpoint: str, version: str, after: int) -> int:
    """Return how many of a version's newest predictions were added after a number."""
    return int(
        tx.value(
            "SELECT count(*) FROM monitoring_recent WHERE endpoint = ? AND version = ? AND seq > ?",
            (endpoint, version, after),
        )
    )
