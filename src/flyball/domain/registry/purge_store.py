"""The SQL that finds what was deleted long ago from the registry, and tells what the rest refers to."""

from collections.abc import Collection, Sequence
from typing import Any

from flyball.core.encoding import from_json
from flyball.domain.tracking import artifact_store
from flyball.storage.db import Transaction

_KEPT = "(deleted_at_us IS NULL OR deleted_at_us >= ?)"


def find_deleted_models(tx: Transaction, before_us: int) -> list[str]:
    """Return the logged models that were deleted before an instant and are no version of any model."""
    rows = tx.tuples(
        "SELECT id FROM registry_logged_model AS m WHERE deleted_at_us < ? AND NOT EXISTS"
        " (SELECT 1 FROM registry_version AS v WHERE v.logged_model = m.id AND v.deleted_at_us IS NULL) ORDER BY id",
        (before_us,),
    )
    return [model for (model,) in rows]


def find_models_of(tx: Transaction, experiments: Collection[int], without: Collection[str]) -> set[int]:
    """Return those of some experiments that have logged models, other than some that go."""
    rows = tx.tuples("SELECT experiment_id, id FROM registry_logged_model")
    return {number for number, model in rows if model not in without} & set(experiments)


def remove_models(tx: Transaction, models: Sequence[str]) -> int:
    """Remove logged models and the names of their files; return how many were there."""
    count = 0
    for model in models:
        number = tx.value("SELECT number FROM registry_logged_model WHERE id = ?", (model,))
        if number is None:
            continue
        for table in ("param", "tag"):
            tx.send(f"DELETE FROM registry_logged_{table} WHERE model = ?", (number,))
        artifact_store.remove_owners(tx, [model])
        count += tx.execute("DELETE FROM registry_logged_model WHERE number = ?", (number,))
    return count


def list_packages(tx: Transaction, before_us: int) -> set[str]:
    """Return the packages of versions, but for versions deleted before an instant."""
    rows = tx.tuples(
        f"SELECT DISTINCT package_digest FROM registry_version WHERE package_digest <> '' AND {_KEPT}", (before_us,)
    )
    return {package for (package,) in rows}


def list_runs(tx: Transaction, before_us: int) -> set[str]:
    """Return the runs that made versions, but for versions deleted before an instant."""
    rows = tx.tuples(f"SELECT run_id, run_link FROM registry_version WHERE {_KEPT}", (before_us,))
    return {run for pair in rows for run in pair if run}


def list_runs_among(tx: Transaction, runs: Sequence[str], before_us: int) -> set[str]:
    """Return those of a few runs that made versions, but for versions deleted before an instant."""
    marks = ", ".join("?" * len(runs))
    found: set[str] = set()
    for column in ("run_id", "run_link"):
        sql = f"SELECT {column} FROM registry_version WHERE {column} IN ({marks}) AND {_KEPT}"
        found |= {run for (run,) in tx.tuples(sql, (*runs, before_us))}
    return found


def list_snapshots(tx: Transaction, before_us: int) -> set[str]:
    """Return the snapshots that versions were made from, but for versions deleted before an instant."""
    found: set[str] = set()
    for (text,) in tx.tuples(f"SELECT lineage FROM registry_version WHERE {_KEPT}", (before_us,)):
        lineage: dict[str, Any] = from_json(text, dict[str, Any], what="a version's lineage")
        found.update((lineage.get("snapshots") or {}).values())
    return found
