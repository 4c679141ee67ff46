"""The tracking room's SQL."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from flyball.core.durations import from_us, to_us
from flyball.core.encoding import from_json, to_json
from flyball.domain.tracking import artifact_store, experiment_store, point_store
from flyball.domain.tracking.artifacts import ArtifactFile, Place
from flyball.domain.tracking.points import Point
from flyball.domain.tracking.runs import Artifact, Link, Maker, MetricPoint, Run, RunFacts, RunStatus
from flyball.storage.db import Row, Transaction

_RUN = (
    "r.id, e.name AS pipeline, r.status, r.actor, r.cause, r.as_of_us, r.started_at_us, r.finished_at_us, r.error,"
    " r.facts FROM tracking_run AS r JOIN tracking_experiment AS e ON e.id = r.experiment_id"
)
_NUMBER = "(SELECT number FROM tracking_run WHERE id = ?)"


def insert_run(tx: Transaction, run: Run, process: str) -> None:
    """Add a run of Flyball's own, open or already ended, to the experiment of its pipeline's name."""
    experiment_id = experiment_store.ensure_experiment(tx, run.pipeline, to_us(run.started_at))
    tx.send(
        "INSERT INTO tracking_run (number, id, experiment_id, maker, status, actor, cause, as_of_us, started_at_us,"
        " finished_at_us, error, process, facts) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            next_number(tx),
            run.id,
            experiment_id,
            Maker.FLYBALL.value,
            run.status.value,
            run.actor,
            run.cause,
            to_us(run.as_of) if run.as_of else None,
            to_us(run.started_at),
            to_us(run.finished_at) if run.finished_at else None,
            run.error,
            process,
            to_json(run.facts).decode() if run.facts else None,
        ),
    )


def next_number(tx: Transaction) -> int:
    """Return the number of a run that is to be added; only one transaction writes at a time."""
    return int(tx.value("SELECT coalesce(max(number), 0) + 1 FROM tracking_run"))


def run_place(tx: Transaction, run_id: str) -> tuple[int, int]:
    """Return the numbers of a run and of its experiment; the run must be there."""
    row = tx.row("SELECT number, experiment_id FROM tracking_run WHERE id = ?", (run_id,))
    assert row is not None
    return row["number"], row["experiment_id"]


def run_status(tx: Transaction, run_id: str) -> RunStatus | None:
    """Return where a run stands, or None when there is no such run."""
    status = tx.value("SELECT status FROM tracking_run WHERE id = ?", (run_id,))
    return None if status is None else RunStatus(status)


def close_run(tx: Transaction, run_id: str, status: RunStatus, error: str, finished_at: datetime) -> None:
    """End a run."""
    tx.send(
        "UPDATE tracking_run SET status = ?, error = ?, finished_at_us = ? WHERE id = ?",
        (status.value, error, to_us(finished_at), run_id),
    )


def set_facts(tx: Transaction, run_id: str, facts: RunFacts) -> None:
    """Keep where and with what a run was made."""
    tx.send("UPDATE tracking_run SET facts = ? WHERE id = ?", (to_json(facts).decode(), run_id))


def find_run(tx: Transaction, run_id: str) -> Run | None:
    """Return one run."""
    row = tx.row(f"SELECT {_RUN} WHERE r.id = ?", (run_id,))
    return _run(row) if row else None


def list_runs(
    tx: Transaction, *, pipeline: str | None, status: RunStatus | None, before: str | None, limit: int
) -> list[Run]:
    """Return runs that are not deleted, the newest first."""
    where: list[str] = ["r.deleted_at_us IS NULL"]
    params: list[Any] = []
    for condition, value in (("e.name = ?", pipeline), ("r.status = ?", status.value if status else None)):
        if value is not None:
            where.append(condition)
            params.append(value)
    if before is not None:
        last = tx.row("SELECT started_at_us, id FROM tracking_run WHERE id = ?", (before,))
        where.append("(r.started_at_us < ? OR (r.started_at_us = ? AND r.id < ?))")
        params.extend([last["started_at_us"], last["started_at_us"], last["id"]] if last else [0, 0, ""])
    rows = tx.rows(
        f"SELECT {_RUN} WHERE {' AND '.join(where)} ORDER BY r.started_at_us DESC, r.id DESC LIMIT ?", [*params, limit]
    )
    return [_run(row) for row in rows]


def running_processes(tx: Transaction) -> dict[str, str]:
    """Return, for each open run, the process that makes it."""
    rows = tx.rows(
        "SELECT id, process FROM tracking_run WHERE status = ? AND process <> ''", (RunStatus.RUNNING.value,)
    )
    return {row["id"]: row["process"] for row in rows}


def put_params(tx: Transaction, run_id: str, params: Mapping[str, str]) -> None:
    """Keep parameters, JSON text by name; a name that is there is replaced.

    A text is kept as itself, all else as its JSON, so that clients read and search what a person would write.
    """
    if not params:
        return
    number, experiment_id = run_place(tx, run_id)
    rows = []
    for name, text in params.items():
        value = json.loads(text) if text.startswith('"') else None
        plain, is_json = (text, 1) if value is None else (value, 0)
        rows.append((number, name, experiment_id, plain, is_json))
    tx.execute_many(
        "INSERT INTO tracking_param (run, name, experiment_id, value, is_json) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (run, name) DO UPDATE SET value = excluded.value, is_json = excluded.is_json",
        rows,
    )


def params(tx: Transaction, run_id: str) -> dict[str, Any]:
    """Return a run's parameters."""
    rows = tx.rows(f"SELECT name, value, is_json FROM tracking_param WHERE run = {_NUMBER} ORDER BY name", (run_id,))
    return {row["name"]: json.loads(row["value"]) if row["is_json"] else row["value"] for row in rows}


def put_points(tx: Transaction, run_id: str, points: Sequence[MetricPoint], now: datetime) -> None:
    """Keep metric points; the same point twice is kept once."""
    number, experiment_id = run_place(tx, run_id)
    point_store.put_points(
        tx,
        number,
        experiment_id,
        [Point(point.name, point.value, to_us(point.logged_at or now), point.step, point.source) for point in points],
    )


def points(tx: Transaction, run_id: str, name: str | None) -> list[MetricPoint]:
    """Return a run's metric points in the order of their steps, then of time."""
    where, values = (" AND name = ?", (run_id, name)) if name is not None else ("", (run_id,))
    rows = tx.rows(
        "SELECT name, step, logged_at_us, source, value, is_nan FROM tracking_point"
        f" WHERE run = {_NUMBER}{where} ORDER BY name, step, logged_at_us, source",
        values,
    )
    return [
        MetricPoint(
            name=row["name"],
            value=math.nan if row["is_nan"] else row["value"],
            step=row["step"],
            source=row["source"],
            logged_at=from_us(row["logged_at_us"]),
        )
        for row in rows
    ]


def latest(tx: Transaction, run_id: str) -> dict[str, float]:
    """Return the last value of each of a run's metrics."""
    rows = tx.rows(f"SELECT name, value, is_nan FROM tracking_latest WHERE run = {_NUMBER} ORDER BY name", (run_id,))
    return {row["name"]: math.nan if row["is_nan"] else row["value"] for row in rows}


def put_artifact(tx: Transaction, run_id: str, artifact: Artifact) -> None:
    """Keep a named file; a name that is there is replaced."""
    file = ArtifactFile(Place(run_id, artifact.name), artifact.digest, artifact.size_bytes)
    artifact_store.put_file(tx, file)


def artifacts(tx: Transaction, run_id: str) -> list[Artifact]:
    """Return a run's files by name."""
    return [
        Artifact(name=file.place.path, digest=file.digest, size_bytes=file.size_bytes)
        for file in artifact_store.walk(tx, Place(run_id))
    ]


def put_link(tx: Transaction, run_id: str, direction: str, link: Link) -> None:
    """Keep what a run read (``in``) or made (``out``)."""
    tx.send(
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
    if not tags:
        return
    number, experiment_id = run_place(tx, run_id)
    tx.execute_many(
        "INSERT INTO tracking_tag (run, name, experiment_id, value) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (run, name) DO UPDATE SET value = excluded.value",
        [(number, name, experiment_id, value) for name, value in tags.items()],
    )


def tags(tx: Transaction, run_id: str) -> dict[str, str]:
    """Return a run's tags."""
    rows = tx.rows(f"SELECT name, value FROM tracking_tag WHERE run = {_NUMBER} ORDER BY name", (run_id,))
    return {row["name"]: row["value"] for row in rows}


def put_note(tx: Transaction, run_id: str, source: str, kind: str, value: str) -> None:
    """Keep a fact that a step noted, as JSON text."""
    tx.send(
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
    tx.send(
        "INSERT INTO tracking_received (run_id, records) VALUES (?, ?)"
        " ON CONFLICT (run_id) DO UPDATE SET records = excluded.records",
        (run_id, records),
    )


def copy_points(tx: Transaction, from_run: str, from_source: str, to_run: str, source: str) -> None:
    """Log to a run the points of one step of another."""
    number, experiment_id = run_place(tx, to_run)
    rows = tx.rows(
        f"SELECT name, value, is_nan, logged_at_us, step FROM tracking_point WHERE run = {_NUMBER} AND source = ?",
        (from_run, from_source),
    )
    copied = [
        Point(row["name"], math.nan if row["is_nan"] else row["value"], row["logged_at_us"], row["step"], source)
        for row in rows
    ]
    point_store.put_points(tx, number, experiment_id, copied)


def copy_logged(tx: Transaction, from_run: str, to_run: str) -> None:
    """Log to a run all that another of its experiment logged, for a run in which nothing had to be done again."""
    for table, columns in (
        ("tracking_link", "direction, kind, ref"),
        ("tracking_fact", "source, kind, value"),
    ):
        tx.send(
            f"INSERT INTO {table} (run_id, {columns}) SELECT ?, {columns} FROM {table} WHERE run_id = ?",
            (to_run, from_run),
        )
    artifact_store.copy_all(tx, from_run, to_run)
    numbers = (run_place(tx, to_run)[0], run_place(tx, from_run)[0])
    for table, columns in (
        ("tracking_param", "name, experiment_id, value, is_json"),
        ("tracking_point", "name, logged_at_us, step, value, is_nan, source"),
        ("tracking_latest", "name, experiment_id, value, is_nan, step, logged_at_us"),
    ):
        tx.send(f"INSERT INTO {table} (run, {columns}) SELECT ?, {columns} FROM {table} WHERE run = ?", numbers)


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
