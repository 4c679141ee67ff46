"""The pipelines room's SQL; light enough for the start-up path."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from flyball.core.durations import from_us, to_us
from flyball.core.encoding import from_json, to_json
from flyball.domain.pipelines.fingerprints import Stamp
from flyball.domain.pipelines.keys import LastTime
from flyball.domain.pipelines.results import StepResult, StepStatus, StoredValue
from flyball.storage.db import Transaction


class Note(msgspec.Struct, frozen=True, array_like=True):
    """A fact that an operation noted."""

    kind: str
    value: Any


class KeptResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a step returned under a key."""

    key: str
    step: str
    run_id: str
    outputs: list[StoredValue]
    notes: list[Note]
    seed: int
    duration: timedelta
    created_at: datetime


def find_result(tx: Transaction, key: str) -> KeptResult | None:
    """Return what is kept under a key."""
    row = tx.row("SELECT * FROM pipelines_result WHERE key = ?", (key,))
    if row is None:
        return None
    return KeptResult(
        key=key,
        step=row["step"],
        run_id=row["run_id"],
        outputs=from_json(row["outputs"], list[StoredValue], what="a kept result"),
        notes=from_json(row["notes"], list[Note], what="a kept result's notes"),
        seed=row["seed"],
        duration=timedelta(microseconds=row["duration_us"]),
        created_at=from_us(row["created_at_us"]),
    )


def put_result(tx: Transaction, result: KeptResult) -> None:
    """Keep a result; a newer one of the same key replaces it."""
    tx.execute(
        "INSERT INTO pipelines_result (key, step, run_id, outputs, notes, seed, duration_us, created_at_us)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET step = excluded.step,"
        " run_id = excluded.run_id, outputs = excluded.outputs, notes = excluded.notes, seed = excluded.seed,"
        " duration_us = excluded.duration_us, created_at_us = excluded.created_at_us",
        (
            result.key,
            result.step,
            result.run_id,
            to_json(result.outputs).decode(),
            to_json(result.notes).decode(),
            result.seed,
            result.duration // timedelta(microseconds=1),
            to_us(result.created_at),
        ),
    )


def set_outputs(tx: Transaction, key: str, outputs: list[StoredValue]) -> None:
    """Replace where a kept result's values lie."""
    tx.execute("UPDATE pipelines_result SET outputs = ? WHERE key = ?", (to_json(outputs).decode(), key))


def put_values(tx: Transaction, values: Mapping[str, bytes]) -> None:
    """Keep small values by digest."""
    tx.execute_many(
        "INSERT INTO pipelines_value (digest, content) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING",
        list(values.items()),
    )


def find_value(tx: Transaction, digest: str) -> bytes | None:
    """Return a small value's bytes."""
    content = tx.value("SELECT content FROM pipelines_value WHERE digest = ?", (digest,))
    return None if content is None else bytes(content)


def put_step(
    tx: Transaction, run_id: str, position: int, result: StepResult, *, key: str | None, seed: int | None
) -> None:
    """Keep what happened to a step of a run."""
    tx.execute(
        "INSERT INTO pipelines_step (run_id, position, name, status, reason, key, seed, attempts, duration_us,"
        " error, traceback) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            run_id,
            position,
            result.name,
            result.status.value,
            result.reason,
            key,
            seed,
            result.attempts,
            result.duration // timedelta(microseconds=1),
            result.error,
            result.traceback,
        ),
    )


def list_steps(tx: Transaction, run_id: str) -> list[StepResult]:
    """Return the steps of a run in the order of the pipeline."""
    rows = tx.rows(
        "SELECT name, status, reason, attempts, duration_us, error, traceback FROM pipelines_step"
        " WHERE run_id = ? ORDER BY position",
        (run_id,),
    )
    return [
        StepResult(
            name=row["name"],
            status=StepStatus(row["status"]),
            reason=row["reason"],
            attempts=row["attempts"],
            duration=timedelta(microseconds=row["duration_us"]),
            error=row["error"],
            traceback=row["traceback"],
        )
        for row in rows
    ]


def put_cached_steps(tx: Transaction, from_run: str, run_id: str, reason: str) -> None:
    """Give a run the steps of another, all cached."""
    tx.execute(
        "INSERT INTO pipelines_step (run_id, position, name, status, reason, key, seed, attempts, duration_us,"
        " error, traceback) SELECT ?, position, name, ?, CASE status WHEN ? THEN ? ELSE reason END, key, seed, 0, 0,"
        " '', '' FROM pipelines_step WHERE run_id = ?",
        (run_id, StepStatus.CACHED.value, StepStatus.RAN.value, reason, from_run),
    )


def last_times(tx: Transaction, pipeline: str) -> dict[str, LastTime]:
    """Return how each step of a pipeline went the last time."""
    rows = tx.rows("SELECT step, run_id, status, parts FROM pipelines_last WHERE pipeline = ?", (pipeline,))
    decoder = msgspec.json.Decoder(LastTime)
    return {row["step"]: decoder.decode(row["parts"]) for row in rows}


def put_last_time(tx: Transaction, pipeline: str, step: str, last: LastTime) -> None:
    """Keep how a step of a pipeline went."""
    tx.execute(
        "INSERT INTO pipelines_last (pipeline, step, run_id, status, parts) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (pipeline, step) DO UPDATE SET run_id = excluded.run_id, status = excluded.status,"
        " parts = excluded.parts",
        (pipeline, step, last.run_id, last.status, to_json(last).decode()),
    )


def stamps(tx: Transaction) -> dict[str, Stamp]:
    """Return what is known of files, by path."""
    decoder = msgspec.json.Decoder(Stamp)
    return {row["path"]: decoder.decode(row["stat"]) for row in tx.rows("SELECT path, stat FROM pipelines_file")}


def put_stamps(tx: Transaction, stamps: Iterable[Stamp]) -> None:
    """Keep what is known of files."""
    tx.execute_many(
        "INSERT INTO pipelines_file (path, stat, digest) VALUES (?, ?, ?)"
        " ON CONFLICT (path) DO UPDATE SET stat = excluded.stat, digest = excluded.digest",
        [(stamp.path, to_json(stamp).decode(), stamp.digest) for stamp in stamps],
    )


def find_certificate(tx: Transaction, pipeline: str, params: str) -> bytes | None:
    """Return the certificate of a pipeline with some parameters."""
    body = tx.value("SELECT body FROM pipelines_certificate WHERE pipeline = ? AND params = ?", (pipeline, params))
    return None if body is None else str(body).encode()


def put_certificate(tx: Transaction, pipeline: str, params: str, body: bytes) -> None:
    """Keep the certificate of a pipeline with some parameters."""
    tx.execute(
        "INSERT INTO pipelines_certificate (pipeline, params, body) VALUES (?, ?, ?)"
        " ON CONFLICT (pipeline, params) DO UPDATE SET body = excluded.body",
        (pipeline, params, body.decode()),
    )


def drop_certificate(tx: Transaction, pipeline: str, params: str) -> None:
    """Forget the certificate of a pipeline with some parameters."""
    tx.execute("DELETE FROM pipelines_certificate WHERE pipeline = ? AND params = ?", (pipeline, params))


def has_event_since(tx: Transaction, kind: str, seq: int) -> bool:
    """Tell whether the journal has a later event of a kind, or of all kinds that begin so when it ends with a dot."""
    if kind.endswith("."):
        found = tx.value(
            "SELECT 1 FROM journal_event WHERE seq > ? AND kind >= ? AND kind < ? LIMIT 1", (seq, kind, kind[:-1] + "/")
        )
    else:
        found = tx.value("SELECT 1 FROM journal_event WHERE seq > ? AND kind = ? LIMIT 1", (seq, kind))
    return found is not None
