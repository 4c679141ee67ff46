"""The SQL of experiments."""

from collections.abc import Mapping, Sequence
from typing import Any

from flyball.domain.tracking.experiments import Experiment, View
from flyball.domain.tracking.filters import Condition, Order, compare_number, compare_text
from flyball.storage.db import Row, Transaction
from flyball.storage.paging import SortKey, read_page

_COLUMNS = "e.id, e.name, e.artifact_location, e.created_at_us, e.updated_at_us, e.deleted_at_us"
_VIEWS = {View.ACTIVE: "e.deleted_at_us IS NULL", View.DELETED: "e.deleted_at_us IS NOT NULL", View.ALL: "1 = 1"}
_KEYS = {
    "name": ("e.name", str),
    "experiment_id": ("e.id", int),
    "creation_time": ("e.created_at_us / 1000", int),
    "last_update_time": ("e.updated_at_us / 1000", int),
}


def ensure_experiment(tx: Transaction, name: str, at_us: int) -> int:
    """Return the number of the experiment of a pipeline; it is made, or restored, where it is not there."""
    row = tx.row("SELECT id, deleted_at_us FROM tracking_experiment WHERE name = ?", (name,))
    if row is None:
        return insert_experiment(tx, name, "", at_us)
    if row["deleted_at_us"] is not None:
        set_deleted(tx, row["id"], None, at_us)
    return int(row["id"])


def insert_experiment(tx: Transaction, name: str, artifact_location: str, at_us: int) -> int:
    """Add an experiment and return its number."""
    number = int(tx.value("SELECT coalesce(max(id), 0) + 1 FROM tracking_experiment"))
    tx.send(
        "INSERT INTO tracking_experiment (id, name, artifact_location, created_at_us, updated_at_us)"
        " VALUES (?, ?, ?, ?, ?)",
        (number, name, artifact_location, at_us, at_us),
    )
    return number


def find_experiment(tx: Transaction, experiment_id: int) -> Experiment | None:
    """Return one experiment, with its tags."""
    row = tx.row(f"SELECT {_COLUMNS} FROM tracking_experiment AS e WHERE e.id = ?", (experiment_id,))
    return None if row is None else _experiment(row, _tags(tx, [row["id"]]))


def find_experiment_of_name(tx: Transaction, name: str) -> Experiment | None:
    """Return one experiment, with its tags."""
    row = tx.row(f"SELECT {_COLUMNS} FROM tracking_experiment AS e WHERE e.name = ?", (name,))
    return None if row is None else _experiment(row, _tags(tx, [row["id"]]))


def rename(tx: Transaction, experiment_id: int, name: str, at_us: int) -> None:
    """Give an experiment another name."""
    tx.send("UPDATE tracking_experiment SET name = ?, updated_at_us = ? WHERE id = ?", (name, at_us, experiment_id))


def set_deleted(tx: Transaction, experiment_id: int, deleted_at_us: int | None, at_us: int) -> None:
    """Mark an experiment and its runs as deleted, or as active (None); what was marked before keeps its time."""
    tx.send(
        "UPDATE tracking_experiment SET deleted_at_us = ?, updated_at_us = ? WHERE id = ?",
        (deleted_at_us, at_us, experiment_id),
    )
    if deleted_at_us is None:
        tx.send("UPDATE tracking_run SET deleted_at_us = NULL WHERE experiment_id = ?", (experiment_id,))
    else:
        tx.send(
            "UPDATE tracking_run SET deleted_at_us = ? WHERE experiment_id = ? AND deleted_at_us IS NULL",
            (deleted_at_us, experiment_id),
        )


def put_tags(tx: Transaction, experiment_id: int, tags: Mapping[str, str], at_us: int) -> None:
    """Keep tags; a name that is there is replaced."""
    tx.execute_many(
        "INSERT INTO tracking_experiment_tag (experiment_id, name, value) VALUES (?, ?, ?)"
        " ON CONFLICT (experiment_id, name) DO UPDATE SET value = excluded.value",
        [(experiment_id, name, value) for name, value in tags.items()],
    )
    tx.send("UPDATE tracking_experiment SET updated_at_us = ? WHERE id = ?", (at_us, experiment_id))


def delete_tag(tx: Transaction, experiment_id: int, name: str) -> bool:
    """Remove a tag and tell whether it was there."""
    sql = "DELETE FROM tracking_experiment_tag WHERE experiment_id = ? AND name = ?"
    return tx.execute(sql, (experiment_id, name)) > 0


def search(
    tx: Transaction,
    conditions: Sequence[Condition],
    orders: Sequence[Order],
    view: View,
    *,
    after: Sequence[Any] | None,
    limit: int,
) -> list[tuple[Experiment, list[Any]]]:
    """Return experiments and their sort keys."""
    rows, keys = read_page(
        tx,
        f"SELECT {_COLUMNS}{{keys}} FROM tracking_experiment AS e WHERE {_VIEWS[view]}",
        [_compare(condition) for condition in conditions],
        sort_keys(orders),
        after=after,
        limit=limit,
    )
    tags = _tags(tx, [row["id"] for row in rows])
    return [(_experiment(row, tags), position) for row, position in zip(rows, keys, strict=True)]


def sort_keys(orders: Sequence[Order]) -> list[SortKey]:
    """Return expressions to sort by, whether upwards, and their types; by default the newest comes first."""
    if not orders:
        return [("e.created_at_us", False, int), ("e.id", True, int)]
    keys = [(_KEYS[order.key][0], order.is_ascending, _KEYS[order.key][1]) for order in orders]
    return keys if any(order.key == "experiment_id" for order in orders) else [*keys, ("e.id", False, int)]


def _compare(condition: Condition) -> tuple[str, list[Any]]:
    if condition.entity == "tag":
        exists = "EXISTS (SELECT 1 FROM tracking_experiment_tag AS t WHERE t.experiment_id = e.id AND t.name = ?"
        if condition.operator in ("IS NULL", "IS NOT NULL"):
            return f"{'NOT ' if condition.operator == 'IS NULL' else ''}{exists})", [condition.key]
        sql, values = compare_text("t.value", condition)
        return f"{exists} AND {sql})", [condition.key, *values]
    if condition.key in ("creation_time", "last_update_time"):
        return compare_number(_KEYS[condition.key][0], condition)
    return compare_text("CAST(e.id AS TEXT)" if condition.key == "experiment_id" else "e.name", condition)


def _tags(tx: Transaction, experiment_ids: Sequence[int]) -> dict[int, dict[str, str]]:
    found: dict[int, dict[str, str]] = {number: {} for number in experiment_ids}
    for start in range(0, len(experiment_ids), 500):
        part = experiment_ids[start : start + 500]
        rows = tx.rows(
            "SELECT experiment_id, name, value FROM tracking_experiment_tag"
            f" WHERE experiment_id IN ({', '.join('?' * len(part))}) ORDER BY experiment_id, name",
            part,
        )
        for number, name, value in rows:
            found[number][name] = value
    return found


def _experiment(row: Row, tags: Mapping[int, dict[str, str]]) -> Experiment:
    return Experiment(
        id=row["id"],
        name=row["name"],
        artifact_location=row["artifact_location"],
        created_at_us=row["created_at_us"],
        updated_at_us=row["updated_at_us"],
        is_deleted=row["deleted_at_us"] is not None,
        tags=tags[row["id"]],
    )
