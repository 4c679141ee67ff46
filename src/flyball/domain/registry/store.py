"""The registry's SQL."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from flyball.core.durations import from_us, to_us
from flyball.core.encoding import to_canonical_json
from flyball.domain.registry.aliases import AliasMove
from flyball.domain.registry.evidence import Evidence
from flyball.domain.registry.versions import Approval, ModelVersion, Status
from flyball.storage.db import Row, Transaction

VERSION_COLUMNS = (
    "model, number, status, package_digest, metrics, run_id, lineage, description, evidence, created_at_us, created_by,"
    " source, location, content_digest, logged_model, run_link, stage, updated_at_us, deleted_at_us"
)
_ALIAS = "event, model, alias, number, previous, reason, actor, event_time_us, recorded_at_us"
_APPROVAL = "event, model, number, user_name, role, evidence, approved_at_us, is_void"


def append_version(tx: Transaction, version: ModelVersion) -> None:
    """Add a version."""
    tx.send(
        f"INSERT INTO registry_version ({VERSION_COLUMNS})"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
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
            version.source,
            version.location,
            version.content_digest,
            version.logged_model,
            version.run_link,
            version.stage,
            to_us(version.updated_at or version.created_at),
        ),
    )


def set_status(tx: Transaction, model: str, number: int, status: Status, evidence: str) -> None:
    """Change a version's status and which evidence holds."""
    tx.send(
        "UPDATE registry_version SET status = ?, evidence = ? WHERE model = ? AND number = ?",
        (status.value, evidence, model, number),
    )


def last_number(tx: Transaction, model: str) -> int:
    """Return the number of a model's newest version, deleted or not; 0 when there never was one."""
    return int(tx.value("SELECT coalesce(max(number), 0) FROM registry_version WHERE model = ?", (model,)))


def find_version(tx: Transaction, model: str, number: int) -> ModelVersion | None:
    """Return one version, deleted or not: the past can be told."""
    row = tx.row(f"SELECT {VERSION_COLUMNS} FROM registry_version WHERE model = ? AND number = ?", (model, number))
    return read_version(row) if row else None


def list_versions(tx: Transaction, model: str | None) -> list[ModelVersion]:
    """Return a model's versions by number, or those of all models."""
    where, params = ("AND model = ?", (model,)) if model is not None else ("", ())
    rows = tx.rows(
        f"SELECT {VERSION_COLUMNS} FROM registry_version WHERE deleted_at_us IS NULL {where} ORDER BY model, number",
        params,
    )
    return [read_version(row) for row in rows]


def find_newest(tx: Transaction, model: str) -> ModelVersion | None:
    """Return a model's version with the greatest number."""
    row = tx.row(
        f"SELECT {VERSION_COLUMNS} FROM registry_version WHERE model = ? AND deleted_at_us IS NULL"
        " ORDER BY number DESC LIMIT 1",
        (model,),
    )
    return read_version(row) if row else None


def list_awaiting(tx: Transaction, model: str) -> list[ModelVersion]:
    """Return a model's versions that wait for a person's approval."""
    rows = tx.rows(
        f"SELECT {VERSION_COLUMNS} FROM registry_version WHERE model = ? AND status = ? AND deleted_at_us IS NULL"
        " ORDER BY number",
        (model, Status.AWAITING_APPROVAL.value),
    )
    return [read_version(row) for row in rows]


def list_unpackaged(tx: Transaction, model: str) -> list[ModelVersion]:
    """Return a model's versions that clients registered and that wait for a package and for their gates."""
    rows = tx.rows(
        f"SELECT {VERSION_COLUMNS} FROM registry_version WHERE model = ? AND package_digest = ''"
        " AND status = 'candidate' AND deleted_at_us IS NULL ORDER BY number",
        (model,),
    )
    return [read_version(row) for row in rows]


def set_package(tx: Transaction, model: str, number: int, digest: str) -> None:
    """Keep which package a client's version became."""
    tx.send("UPDATE registry_version SET package_digest = ? WHERE model = ? AND number = ?", (digest, model, number))


def list_models(tx: Transaction) -> list[str]:
    """Return the names of all models that have versions, sorted."""
    sql = (
        "SELECT name FROM registry_model AS m WHERE EXISTS"
        " (SELECT 1 FROM registry_version AS v WHERE v.model = m.name AND v.deleted_at_us IS NULL) ORDER BY name"
    )
    return [row["name"] for row in tx.rows(sql)]


def has_model(tx: Transaction, model: str) -> bool:
    """Tell whether a model of the name is registered, with versions or without."""
    return tx.value("SELECT 1 FROM registry_model WHERE name = ?", (model,)) is not None


def put_model(tx: Transaction, model: str, at: datetime) -> None:
    """Register a model, or note that it changed."""
    tx.send(
        "INSERT INTO registry_model (name, description, created_at_us, updated_at_us) VALUES (?, '', ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET updated_at_us = excluded.updated_at_us",
        (model, to_us(at), to_us(at)),
    )


def put_plans(tx: Transaction, plans: Mapping[str, str]) -> None:
    """Keep what versions of models must meet, by model; models that are not named must meet nothing."""
    tx.send("DELETE FROM registry_plan")
    tx.execute_many("INSERT INTO registry_plan (model, gates) VALUES (?, ?)", list(plans.items()))


def list_plans(tx: Transaction) -> dict[str, str]:
    """Return what `put_plans` kept."""
    return {row["model"]: row["gates"] for row in tx.rows("SELECT model, gates FROM registry_plan ORDER BY model")}


def find_plan(tx: Transaction, model: str) -> str | None:
    """Return what versions of one model must meet."""
    found: str | None = tx.value("SELECT gates FROM registry_plan WHERE model = ?", (model,))
    return found


def put_evidence(tx: Transaction, version: ModelVersion, evidence: Evidence, recorded_at: datetime) -> None:
    """Keep evidence under its digest."""
    tx.send(
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
    tx.send(
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
    """Add a move, and keep what the alias means now."""
    tx.send(
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
    # A move of the past may not be the one that holds now.
    number = tx.value(
        "SELECT number FROM registry_alias WHERE model = ? AND alias = ?"
        " ORDER BY event_time_us DESC, event DESC LIMIT 1",
        (move.model, move.alias),
    )
    if number is None:
        tx.send("DELETE FROM registry_alias_now WHERE model = ? AND alias = ?", (move.model, move.alias))
    else:
        tx.send(
            "INSERT INTO registry_alias_now (model, alias, number) VALUES (?, ?, ?)"
            " ON CONFLICT (model, alias) DO UPDATE SET number = excluded.number",
            (move.model, move.alias, number),
        )


def find_alias_now(tx: Transaction, model: str, alias: str) -> int | None:
    """Return the number of the version that an alias means now."""
    found: int | None = tx.value("SELECT number FROM registry_alias_now WHERE model = ? AND alias = ?", (model, alias))
    return found


def list_aliases_now(tx: Transaction, model: str) -> dict[str, int]:
    """Return what a model's aliases mean now, by name."""
    rows = tx.rows("SELECT alias, number FROM registry_alias_now WHERE model = ? ORDER BY alias", (model,))
    return {row["alias"]: row["number"] for row in rows}


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


def read_version(row: Row) -> ModelVersion:
    """Return the version in a row of all columns."""
    return ModelVersion(
        model=row["model"],
        number=row["number"],
        status=Status(row["status"]),
        package_digest=row["package_digest"],
        metrics=msgspec.json.decode(row["metrics"]),
        run_id=row["run_id"],
        lineage=msgspec.json.decode(row["lineage"]),
        description=row["description"],
        evidence=row["evidence"],
        created_at=from_us(row["created_at_us"]),
        created_by=row["created_by"],
        source=row["source"],
        location=row["location"],
        content_digest=row["content_digest"],
        logged_model=row["logged_model"],
        run_link=row["run_link"],
        stage=row["stage"],
        updated_at=from_us(row["updated_at_us"]),
        is_deleted=row["deleted_at_us"] is not None,
    )
