"""The tracking room's SQL."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from flyball.core.durations import from_us, to_us
from flyball.core.encoding import from_json, to_json
from flyball.domain.tracking.runs import Artifact, Link, MetricPoint, Run, RunFacts, RunStatus
from flyball.storage.db import Row, Transaction

_RUN = "id, pipeline, status, actor, cause, as_of_us, started_at_us, finished_at_us, error, facts"


def insert_run(tx: Transaction, run: Run, process: str) -> None:
    """Add a run, open or already ended."""
    tx.execute(
        f"INSERT INTO tracking_run ({_RUN}, process) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            run.id,
            run.pipeline,
            run.status.value,
            run.actor,
            run.cause,
            to_us(run.as_of) if run.as_of else None,
            to_us(run.started_at),
            to_us(run.finished_at) if run.finished_at else None,
            run.error,
            to_json(run.facts).decode() if run.facts else None,
            process,
        ),
    )


def run_status(tx: Transaction, run_id: str) -> RunStatus | None:
    """Return where a run stands, or None when there is no such run."""
    status = tx.value("SELECT status FROM tracking_run WHERE id = ?", (run_id,))
    return None if status is None else RunStatus(status)


def close_run(tx: Transaction, run_id: str, status: RunStatus, error: str, finished_at: datetime) -> None:
    """End a run."""
    tx.execute(
        "UPDATE tracking_run SET status = ?, error = ?, finished_at_us = ? WHERE id = ?",
        (status.value, error, to_us(finished_at), run_id),
    )


def set_facts(tx: Transaction, run_id: str, facts: RunFacts) -> None:
    """Keep where and with what a run was made."""
    tx.execute("UPDATE tracking_run SET facts = ? WHERE id = ?", (to_json(facts).decode(), run_id))


def find_run(tx: Transaction, run_id: str) -> Run | None:
    """Return one run."""
    row = tx.row(f"SELECT {_RUN} FROM tracking_run WHERE id = ?", (run_id,))
    return _run(row) if row else None


def list_runs(
    tx: Transaction, *, pipeline: str | None, status: RunStatus | None, before: str | None, limit: int
) -> list[Run]:
    """Return runs, the newest first."""
    where, params = ["1 = 1"], []
    for condition, value in (
        ("pipeline = ?", pipeline),
        ("status = ?", status.value if status else None),
        ("id < ?", before),
    ):
        if value is not None:
            where.append(condition)
            params.append(value)
    rows = tx.rows(
        f"SELECT {_RUN} FROM tracking_run WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?", [*params, limit]
    )
    return [_run(row) for row in rows]


def running_processes(tx: Transaction) -> dict[str, str]:
    """Return, for each open run, the process that makes it."""
    rows = tx.rows("SELECT id, process FROM tracking_run WHERE status = ?", (RunStatus.RUNNING.value,))
    return {row["id"]: row["process"] for row in rows}


def put_params(tx: Transaction, run_id: str, params: Mapping[str, str]) -> None:
    """Keep parameters, JSON text by name; a name that is there is replaced."""
    tx.execute_many(
        "INSERT INTO tracking_param (run_id, name, value) VALUES (?, ?, ?)"
        " ON CONFLICT (run_id, name) DO UPDATE SET value = excluded.value",
        [(run_id, name, value) for name, value in params.items()],
    )


def params(tx: Transaction, run_id: str) -> dict[str, Any]:
    """Return a run's parameters."""
    rows = tx.rows("SELECT name, value FROM tracking_param WHERE run_id = ? ORDER BY name", (run_id,))
    return {row["name"]: json.loads(row["value"]) for row in rows}


def put_points(tx: Transaction, run_id: str, points: Sequence[MetricPoint], now: datetime) -> None:
    """Keep metric points; the same point twice is kept once. SQLite has no NaN: it is kept as NULL."""
    tx.execute_many(
        "INSERT INTO tracking_metric (run_id, name, step, logged_at_us, source, value) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (run_id, name, step, logged_at_us, source) DO NOTHING",
        [
            (
                run_id,
                point.name,
                point.step,
                to_us(point.logged_at or now),
                point.source,
                None if math.isnan(point.value) else point.value,
            )
            for point in points
        ],
    )


def points(tx: Transaction, run_id: str, name: str | None) -> list[MetricPoint]:
    """Return a run's metric points in the order of their steps, then of time."""
    where, values = ("run_id = ? AND name = ?", (run_id, name)) if name is not None else ("run_id = ?", (run_id,))
    rows = tx.rows(
        "SELECT name, step, logged_at_us, source, value FROM tracking_metric"
        f" WHERE {where} ORDER BY name, step, logged_at_us, source",
        values,
    )
    return [
        MetricPoint(
            name=row["name"],
            value=math.nan if row["value"] is None else row["value"],
            step=row["step"],
            source=row["source"],
            logged_at=from_us(row["logged_at_us"]),
        )
        for row in rows
    ]


def put_artifact(tx: Transaction, run_id: str, artifact: Artifact) -> None:
    """Keep a named file; a name that is there is replaced."""
    tx.execute(
        "INSERT INTO tracking_artifact (run_id, name, digest, size_bytes) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (run_id, name) DO UPDATE SET digest = excluded.digest, size_bytes = excluded.size_bytes",
        (run_id, artifact.name, artifact.digest, artifact.size_bytes),
    )


def artifacts(tx: Transaction, run_id: str) -> list[Artifact]:
    """Return a run's files by name."""
    rows = tx.rows("SELECT name, digest, size_bytes FROM tracking_artifact WHERE run_id = ? ORDER BY name", (run_id,))
    return [Artifact(name=row["name"], digest=row["digest"], size_bytes=row["size_bytes"]) for row in rows]


def put_link(tx: Transaction, run_id: str, direction: str, link: Link) -> None:
    """Keep what a run read (``in``) or made (``out``)."""
    tx.execute(
        "INSERT INTO tracking_link (run_id, direction, kind, ref) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (run_id, direction, link.kind, link.ref),
    )


def links(tx: Transaction, run_id: str, direction: str) -> list[Link]:
    """Return what a run read or made."""
    rows = tx.rows(
        "SELECT kind, ref FROM tracking_link WHERE run_id = ? AND direction = ? ORDER BY kind, ref",
        (run_id, direction),
    )
    return [Link(kind=row["kind"], ref=row["ref"]) for row in rows]


def runs_of_link(tx: Transaction, direction: str, link: Link) -> list[str]:
    """Return the runs that read or made something, the oldest first."""
    rows = tx.rows(
        "SELECT run_id FROM tracking_link WHERE direction = ? AND kind = ? AND ref = ? ORDER BY run_id",
        (direction, link.kind, link.ref),
    )
    return [row["run_id"] for row in rows]


def put_tags(tx: Transaction, run_id: str, tags: Mapping[str, str]) -> None:
    """Keep tags; a name that is there is replaced."""
    tx.execute_many(
        "INSERT INTO tracking_tag (run_id, name, value) VALUES (?, ?, ?)"
        " ON CONFLICT (run_id, name) DO UPDATE SET value = excluded.value",
        [(run_id, name, value) for name, value in tags.items()],
    )


def tags(tx: Transaction, run_id: str) -> dict[str, str]:
    """Return a run's tags."""
    rows = tx.rows("SELECT name, value FROM tracking_tag WHERE run_id = ? ORDER BY name", (run_id,))
    return {row["name"]: row["value"] for row in rows}


def put_note(tx: Transaction, run_id: str, source: str, kind: str, value: str) -> None:
    """Keep a fact that a step noted, as JSON text."""
    tx.execute(
        "INSERT INTO tracking_fact (run_id, source, kind, value) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (run_id, source, kind, value),
    )


def notes(tx: Transaction, run_id: str) -> dict[str, list[Any]]:
    """Return the facts that steps noted, by kind."""
    found: dict[str, list[Any]] = {}
    rows = tx.rows("SELECT kind, value FROM tracking_fact WHERE run_id = ? ORDER BY kind, source, value", (run_id,))
    for row in rows:
        found.setdefault(row["kind"], []).append(json.loads(row["value"]))
    return found


def received(tx: Transaction, run_id: str) -> int:
    """Return how many of a run's spooled records are kept."""
    return int(tx.value("SELECT records FROM tracking_received WHERE run_id = ?", (run_id,)) or 0)


def set_received(tx: Transaction, run_id: str, records: int) -> None:
    """Keep how many of a run's spooled records are kept."""
    tx.execute(
        "INSERT INTO tracking_received (run_id, records) VALUES (?, ?)"
        " ON CONFLICT (run_id) DO UPDATE SET records = excluded.records",
        (run_id, records),
    )


def copy_points(tx: Transaction, from_run: str, from_source: str, to_run: str, source: str) -> None:
    """Log to a run the points of one step of another."""
    tx.execute(
        "INSERT INTO tracking_metric (run_id, name, step, logged_at_us, source, value)"
        " SELECT ?, name, step, logged_at_us, ?, value FROM tracking_metric"
        " WHERE run_id = ? AND source = ? ON CONFLICT DO NOTHING",
        (to_run, source, from_run, from_source),
    )


def copy_logged(tx: Transaction, from_run: str, to_run: str) -> None:
    """Log to a run all that another logged, for a run in which nothing had to be done again."""
    for table, columns in (
        ("tracking_param", "name, value"),
        ("tracking_metric", "name, step, logged_at_us, source, value"),
        ("tracking_artifact", "name, digest, size_bytes"),
        ("tracking_link", "direction, kind, ref"),
        ("tracking_fact", "source, kind, value"),
    ):
        tx.execute(
            f"INSERT INTO {table} (run_id, {columns}) SELECT ?, {columns} FROM {table} WHERE run_id = ?",
            (to_run, from_run),
        )


def _run(row: Row) -> Run:
    return Run(
        id=row["id"],
        pipeline=row["pipeline"],
        status=RunStatus(row["status"]),
        actor=row["actor"],
        cause=row["cause"],
        as_of=None if row["as_of_us"] is None else from_us(row["as_of_us"]),
        started_at=from_us(row["started_at_us"]),
        finished_at=None if row["finished_at_us"] is None else from_us(row["finished_at_us"]),
        error=row["error"],
        facts=None if row["facts"] is None else from_json(row["facts"], RunFacts, what="a run's facts"),
    )
