"""The room's SQL."""

from collections.abc import Mapping, Sequence

from flyball.core.encoding import from_json, to_json
from flyball.domain.data.reports import Report
from flyball.domain.data.snapshots import Content, Snapshot, Watch
from flyball.storage.db import Transaction

_BATCH = 500


def find_digests(tx: Transaction, tokens: Mapping[str, str]) -> dict[str, str]:
    """Return the known digests of files, by path, of those that still have the given stat token."""
    paths = list(tokens)
    found: dict[str, str] = {}
    for start in range(0, len(paths), _BATCH):
        batch = paths[start : start + _BATCH]
        rows = tx.rows(
            f"SELECT path, stat, digest FROM data_file_digest WHERE path IN ({', '.join('?' * len(batch))})", batch
        )
        found.update({row["path"]: row["digest"] for row in rows if row["stat"] == tokens[row["path"]]})
    return found


def put_digests(tx: Transaction, digests: Sequence[tuple[str, str, str]]) -> None:
    """Keep digests of files: path, stat token, digest."""
    tx.execute_many(
        "INSERT INTO data_file_digest (path, stat, digest) VALUES (?, ?, ?) "
        "ON CONFLICT (path) DO UPDATE SET stat = excluded.stat, digest = excluded.digest",
        digests,
    )


def find_content(tx: Transaction, content_id: str) -> Content | None:
    """Return a content."""
    body = tx.value("SELECT body FROM data_content WHERE id = ?", (content_id,))
    return from_json(body, Content, what="content") if body else None


def put_content(tx: Transaction, content: Content) -> None:
    """Keep a content; the newest description wins, since stored files may have been made again."""
    tx.execute(
        "INSERT INTO data_content (id, body) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body",
        (content.id, to_json(content).decode()),
    )


def find_snapshot(tx: Transaction, snapshot_id: str, table: str | None = None) -> Snapshot | None:
    """Return a snapshot by its id; of one table, or the first that was made."""
    if table is None:
        sql, params = "SELECT body FROM data_snapshot WHERE id = ? ORDER BY event_seq LIMIT 1", [snapshot_id]
    else:
        sql, params = "SELECT body FROM data_snapshot WHERE id = ? AND table_name = ?", [snapshot_id, table]
    body = tx.value(sql, params)
    return from_json(body, Snapshot, what="snapshot") if body else None


def find_ids(tx: Transaction, prefix: str) -> list[str]:
    """Return the ids of the snapshots whose id begins with some signs."""
    sql = "SELECT DISTINCT id FROM data_snapshot WHERE id >= ? AND id < ? ORDER BY id LIMIT 10"
    return [row["id"] for row in tx.rows(sql, (prefix, prefix + "\U0010ffff"))]


def tables_of(tx: Transaction, snapshot_ids: Sequence[str]) -> dict[str, list[str]]:
    """Return the names of the tables that have each of some snapshots."""
    found: dict[str, list[str]] = {}
    for start in range(0, len(snapshot_ids), 500):
        part = snapshot_ids[start : start + 500]
        sql = f"SELECT id, table_name FROM data_snapshot WHERE id IN ({', '.join('?' * len(part))}) ORDER BY table_name"
        for row in tx.rows(sql, part):
            found.setdefault(row["id"], []).append(row["table_name"])
    return found


def last_snapshot(tx: Transaction, table: str) -> tuple[Snapshot, str] | None:
    """Return the snapshot of a table that was made last, and the digest of its declaration."""
    row = tx.row(
        "SELECT body, declaration FROM data_snapshot WHERE table_name = ? ORDER BY event_seq DESC LIMIT 1", (table,)
    )
    return (from_json(row["body"], Snapshot, what="snapshot"), str(row["declaration"])) if row else None


def list_snapshots(tx: Transaction, table: str | None) -> list[Snapshot]:
    """Return snapshots in the order in which they were made."""
    where, params = ("WHERE table_name = ?", [table]) if table else ("", [])
    rows = tx.rows(f"SELECT body FROM data_snapshot {where} ORDER BY event_seq", params)
    return [from_json(row["body"], Snapshot, what="snapshot") for row in rows]


def put_snapshot(tx: Transaction, snapshot: Snapshot, declaration: str, event_seq: int) -> None:
    """Keep a new snapshot."""
    tx.execute(
        "INSERT INTO data_snapshot (event_seq, id, table_name, declaration, body) VALUES (?, ?, ?, ?, ?)",
        (event_seq, snapshot.id, snapshot.table, declaration, to_json(snapshot).decode()),
    )


def find_report(tx: Transaction, report_id: str) -> Report | None:
    """Return a report by its id."""
    body = tx.value("SELECT body FROM data_report WHERE id = ?", (report_id,))
    return from_json(body, Report, what="report") if body else None


def last_report(tx: Transaction, table: str, before: Report | None) -> Report | None:
    """Return the last report of a table, or the last one made before another of its snapshots' reports."""
    rows = tx.rows("SELECT body FROM data_report WHERE table_name = ? ORDER BY event_seq DESC LIMIT 50", (table,))
    reports = [from_json(row["body"], Report, what="report") for row in rows]
    if before is None:
        return reports[0] if reports else None
    place = reports.index(before) if before in reports else -1
    return reports[place + 1] if 0 <= place < len(reports) - 1 else None


def list_reports(tx: Transaction, snapshot_id: str) -> list[Report]:
    """Return a snapshot's reports in the order in which they were made."""
    rows = tx.rows("SELECT body FROM data_report WHERE snapshot_id = ? ORDER BY event_seq", (snapshot_id,))
    return [from_json(row["body"], Report, what="report") for row in rows]


def put_report(tx: Transaction, report_id: str, report: Report, event_seq: int) -> None:
    """Keep a new report."""
    tx.execute(
        "INSERT INTO data_report (event_seq, id, snapshot_id, table_name, passed, body) VALUES (?, ?, ?, ?, ?, ?)",
        (event_seq, report_id, report.snapshot_id, report.table, int(report.passed), to_json(report).decode()),
    )


def find_watch(tx: Transaction, table: str) -> Watch | None:
    """Return what a watched table held when it was last looked at."""
    row = tx.row("SELECT fingerprint, content_id, row_count, file_count FROM data_watch WHERE table_name = ?", (table,))
    if row is None:
        return None
    return Watch(
        table=table,
        fingerprint=str(row["fingerprint"]),
        content_id=str(row["content_id"]),
        rows=int(row["row_count"]),
        files=int(row["file_count"]),
    )


def put_watch(tx: Transaction, watch: Watch) -> None:
    """Keep what a watched table holds."""
    tx.execute(
        "INSERT INTO data_watch (table_name, fingerprint, content_id, row_count, file_count) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (table_name) DO UPDATE SET fingerprint = excluded.fingerprint, content_id = excluded.content_id, "
        "row_count = excluded.row_count, file_count = excluded.file_count",
        (watch.table, watch.fingerprint, watch.content_id, watch.rows, watch.files),
    )
