"""The registry's SQL."""

import json
from datetime import datetime

from flyball.core.durations import from_us, to_us
from flyball.core.encoding import to_canonical_json
from flyball.domain.registry.aliases import AliasMove
from flyball.domain.registry.evidence import Evidence
from flyball.domain.registry.versions import Approval, ModelVersion, Status
from flyball.storage.db import Row, Transaction

_VERSION = (
    "model, number, status, package_digest, metrics, run_id, lineage, description, evidence, created_at_us, created_by"
)
_ALIAS = "event, model, alias, number, previous, reason, actor, event_time_us, recorded_at_us"
_APPROVAL = "event, model, number, user_name, role, evidence, approved_at_us, is_void"


def append_version(tx: Transaction, version: ModelVersion) -> None:
    """Add a version."""
    tx.execute(
        f"INSERT INTO registry_version ({_VERSION}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            version.model,
            version.number,
            version.status.value,
            version.package_digest,
            to_canonical_json(version.metrics).decode(),
            version.run_id,
            to_canonical_json(version.lineage).decode(),
            version.description,
            version.evidence,
            to_us(version.created_at),
            version.created_by,
        ),
    )


def set_status(tx: Transaction, model: str, number: int, status: Status, evidence: str) -> None:
    """Change a version's status and which evidence holds."""
    tx.execute(
        "UPDATE registry_version SET status = ?, evidence = ? WHERE model = ? AND number = ?",
        (status.value, evidence, model, number),
    )


def last_number(tx: Transaction, model: str) -> int:
    """Return the number of a model's newest version; 0 when there is none."""
    return int(tx.value("SELECT coalesce(max(number), 0) FROM registry_version WHERE model = ?", (model,)))


def find_version(tx: Transaction, model: str, number: int) -> ModelVersion | None:
    """Return one version."""
    row = tx.row(f"SELECT {_VERSION} FROM registry_version WHERE model = ? AND number = ?", (model, number))
    return _read_version(row) if row else None


def list_versions(tx: Transaction, model: str | None) -> list[ModelVersion]:
    """Return a model's versions by number, or those of all models."""
    where, params = ("WHERE model = ?", (model,)) if model is not None else ("", ())
    rows = tx.rows(f"SELECT {_VERSION} FROM registry_version {where} ORDER BY model, number", params)
    return [_read_version(row) for row in rows]


def list_models(tx: Transaction) -> list[str]:
    """Return the names of all models, sorted."""
    return [row["model"] for row in tx.rows("SELECT DISTINCT model FROM registry_version ORDER BY model")]


def put_evidence(tx: Transaction, version: ModelVersion, evidence: Evidence, recorded_at: datetime) -> None:
    """Keep evidence under its digest."""
    tx.execute(
        "INSERT INTO registry_evidence (model, number, digest, content, recorded_at_us) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (model, number, digest) DO NOTHING",
        (version.model, version.number, evidence.digest, to_canonical_json(evidence).decode(), to_us(recorded_at)),
    )


def find_evidence(tx: Transaction, version: ModelVersion) -> str | None:
    """Return the text of the evidence that holds for a version, unchecked."""
    found: str | None = tx.value(
        "SELECT content FROM registry_evidence WHERE model = ? AND number = ? AND digest = ?",
        (version.model, version.number, version.evidence),
    )
    return found


def append_approval(tx: Transaction, version: ModelVersion, approval: Approval) -> None:
    """Add a signature."""
    tx.execute(
        f"INSERT INTO registry_approval ({_APPROVAL}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            approval.event,
            version.model,
            version.number,
            approval.user,
            approval.role,
            approval.evidence,
            to_us(approval.approved_at),
            int(approval.is_void),
        ),
    )


def void_approvals(tx: Transaction, model: str, number: int, evidence: str) -> int:
    """Void the signatures under other evidence than this, and return how many there were."""
    return tx.execute(
        "UPDATE registry_approval SET is_void = 1 WHERE model = ? AND number = ? AND evidence <> ? AND is_void = 0",
        (model, number, evidence),
    )


def list_approvals(tx: Transaction, model: str, number: int) -> list[Approval]:
    """Return a version's signatures in order, void ones too."""
    rows = tx.rows(
        f"SELECT {_APPROVAL} FROM registry_approval WHERE model = ? AND number = ? ORDER BY event", (model, number)
    )
    return [
        Approval(
            user=row["user_name"],
            role=row["role"],
            evidence=row["evidence"],
            approved_at=from_us(row["approved_at_us"]),
            event=row["event"],
            is_void=bool(row["is_void"]),
        )
        for row in rows
    ]


def append_alias_move(tx: Transaction, move: AliasMove) -> None:
    """Add a move."""
    tx.execute(
        f"INSERT INTO registry_alias ({_ALIAS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            move.event,
            move.model,
            move.alias,
            move.number,
            move.previous,
            move.reason,
            move.actor,
            to_us(move.event_time),
            to_us(move.recorded_at),
        ),
    )


def list_alias_moves(tx: Transaction, model: str, alias: str | None = None) -> list[AliasMove]:
    """Return the moves of one alias, or of all of a model, in the order in which they held."""
    where, params = "model = ?", [model]
    if alias is not None:
        where, params = "model = ? AND alias = ?", [model, alias]
    rows = tx.rows(f"SELECT {_ALIAS} FROM registry_alias WHERE {where} ORDER BY event_time_us, event", params)
    return [
        AliasMove(
            model=row["model"],
            alias=row["alias"],
            number=row["number"],
            previous=row["previous"],
            reason=row["reason"],
            actor=row["actor"],
            event_time=from_us(row["event_time_us"]),
            recorded_at=from_us(row["recorded_at_us"]),
            event=row["event"],
        )
        for row in rows
    ]


def _read_version(row: Row) -> ModelVersion:
    return ModelVersion(
        model=row["model"],
        number=row["number"],
        status=Status(row["status"]),
        package_digest=row["package_digest"],
        metrics=json.loads(row["metrics"]),
        run_id=row["run_id"],
        lineage=json.loads(row["lineage"]),
        description=row["description"],
        evidence=row["evidence"],
        created_at=from_us(row["created_at_us"]),
        created_by=row["created_by"],
    )
