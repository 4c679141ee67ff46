"""The SQL of logged models."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flyball.domain.registry.client_store import compare_tag, list_models_of
from flyball.domain.registry.logged_models import DatasetUse, LoggedModel, ModelMetric, ModelStatus
from flyball.domain.tracking.experiments import Experiment
from flyball.domain.tracking.filters import Condition, Order, compare_number, compare_text
from flyball.storage.db import Row, Transaction
from flyball.storage.paging import keyset, sort_sql

_PART = 300
_MODEL = (
    "m.number, m.id, m.experiment_id, m.name, m.model_type, m.run_id, m.status, m.created_at_us, m.updated_at_us,"
    " m.deleted_at_us, (SELECT e.artifact_location FROM tracking_experiment AS e WHERE e.id = m.experiment_id)"
    " AS artifact_location"
)
_FROM = "FROM registry_logged_model AS m"
_KEYS: dict[str, tuple[str, type]] = {
    "name": ("m.name", str),
    "model_id": ("m.id", str),
    "model_type": ("m.model_type", str),
    "status": ("m.status", str),
    "source_run_id": ("m.run_id", str),
    "created": ("m.created_at_us", int),
    "updated": ("m.updated_at_us", int),
}
SortKey = tuple[str, list[Any], bool, type]
"""An expression, its parameters, whether upwards, and its type."""


def insert_model(tx: Transaction, model: LoggedModel) -> None:
    """Add a model with its parameters and tags."""
    number = tx.value("SELECT coalesce(max(number), 0) + 1 FROM registry_logged_model")
    tx.send(
        "INSERT INTO registry_logged_model (number, id, experiment_id, name, model_type, run_id, status,"
        " created_at_us, updated_at_us, deleted_at_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
        (
            number,
            model.id,
            model.experiment_id,
            model.name,
            model.model_type,
            model.run_id,
            model.status.value,
            model.created_at_us,
            model.updated_at_us,
        ),
    )
    put_params(tx, number, model.params)
    put_tags(tx, number, model.tags)


def find_models(tx: Transaction, model_ids: Sequence[str]) -> list[LoggedModel]:
    """Return those models that are there, deleted or not, with all that belongs to them."""
    rows: list[Row] = []
    for part in _parts(model_ids):
        rows += tx.rows(f"SELECT {_MODEL} {_FROM} WHERE m.id IN ({_marks(part)})", part)
    return _read(tx, rows)


def find_of_run(tx: Transaction, run_id: str, name: str) -> LoggedModel | None:
    """Return the newest model of a name that a run made."""
    row = tx.row(
        f"SELECT {_MODEL} {_FROM} WHERE m.run_id = ? AND m.name = ? AND m.deleted_at_us IS NULL"
        " ORDER BY m.number DESC LIMIT 1",
        (run_id, name),
    )
    return None if row is None else _read(tx, [row])[0]


def set_status(tx: Transaction, number: int, status: ModelStatus, at_us: int) -> None:
    """Keep whether a model's files are all there."""
    tx.send(
        "UPDATE registry_logged_model SET status = ?, updated_at_us = ? WHERE number = ?",
        (status.value, at_us, number),
    )


def set_deleted(tx: Transaction, number: int, at_us: int) -> None:
    """Mark a model as deleted."""
    tx.send(
        "UPDATE registry_logged_model SET deleted_at_us = ?, updated_at_us = ? WHERE number = ?",
        (at_us, at_us, number),
    )


def put_params(tx: Transaction, number: int, params: Mapping[str, str]) -> None:
    """Keep parameters that are not there yet."""
    tx.execute_many(
        "INSERT INTO registry_logged_param (model, name, value) VALUES (?, ?, ?)",
        [(number, key, value) for key, value in params.items()],
    )


def put_tags(tx: Transaction, number: int, tags: Mapping[str, str]) -> None:
    """Keep tags; a key that is there is replaced."""
    tx.execute_many(
        "INSERT INTO registry_logged_tag (model, name, value) VALUES (?, ?, ?)"
        " ON CONFLICT (model, name) DO UPDATE SET value = excluded.value",
        [(number, key, value) for key, value in tags.items()],
    )


def delete_tag(tx: Transaction, number: int, key: str) -> bool:
    """Remove a tag and tell whether it was there."""
    return tx.execute("DELETE FROM registry_logged_tag WHERE model = ? AND name = ?", (number, key)) > 0


def search(
    tx: Transaction,
    experiment_ids: Sequence[int],
    conditions: Sequence[Condition],
    datasets: Sequence[DatasetUse],
    keys: Sequence[SortKey],
    *,
    after: Sequence[Any] | None,
    limit: int,
) -> list[tuple[LoggedModel, list[Any]]]:
    """Return the models of some experiments that are not deleted, and their sort keys."""
    columns = "".join(f", {sql} AS k{place}" for place, (sql, _, _, _) in enumerate(keys))
    params: list[Any] = [value for _, values, _, _ in keys for value in values]
    where = [f"m.experiment_id IN ({_marks(experiment_ids)}) AND m.deleted_at_us IS NULL"]
    params += experiment_ids
    asked_of_metrics = any(condition.entity == "metric" for condition in conditions)
    for condition in conditions:
        sql, values = _compare(condition, datasets)
        where.append(sql)
        params += values
    if datasets and not asked_of_metrics:
        sql, values = _of_datasets(datasets)
        where.append(f"EXISTS (SELECT 1 FROM tracking_point AS p WHERE p.model_id = m.id{sql})")
        params += values
    sql = f"SELECT {_MODEL}{columns} {_FROM} WHERE {' AND '.join(where)}"
    names = [(f"k{place}", up) for place, (_, _, up, _) in enumerate(keys)]
    # By their expressions, an index can give the order; those that have parameters are computed once, inside.
    has_params = any(values for _, values, _, _ in keys)
    order_keys = names if has_params else [(expression, up) for expression, _, up, _ in keys]
    if has_params:
        sql = f"SELECT * FROM ({sql}) AS found WHERE 1 = 1"
    if after is not None:
        beyond, values = keyset(order_keys, after)
        first, up = order_keys[0]
        sql += f" AND {first} {'>=' if up else '<='} ? AND {beyond}"
        params += [after[0], *values]
    rows = tx.rows(f"{sql} ORDER BY {sort_sql(order_keys)} LIMIT ?", [*params, limit])
    return [(model, [row[name] for name, _ in names]) for model, row in zip(_read(tx, rows), rows, strict=True)]


def sort_keys(orders: Sequence[tuple[Order, DatasetUse | None]]) -> list[SortKey]:
    """Return what a search sorts by: the newest comes first by default, and those without a metric last."""
    keys: list[SortKey] = []
    for order, dataset in orders:
        if order.entity == "metric":
            sql, values = _of_datasets([dataset] if dataset else [])
            value = (
                "(SELECT p.value FROM tracking_point AS p WHERE p.model_id = m.id AND p.name = ? AND p.is_nan = 0"
                f"{sql} ORDER BY p.logged_at_us DESC, p.step DESC, p.run LIMIT 1)"
            )
            missing = f"CASE WHEN {value} IS NULL THEN 1 ELSE 0 END"
            keys.append((missing, [order.key, *values], True, int))
            zero = "CAST(0 AS DOUBLE PRECISION)"
            keys.append((f"coalesce({value}, {zero})", [order.key, *values], order.is_ascending, float))
        else:
            expression, kind = _KEYS[order.key]
            keys.append((expression, [], order.is_ascending, kind))
    present = {sql for sql, _, _, _ in keys}
    for expression, up, kind in (("m.created_at_us", False, int), ("m.number", False, int)):
        if expression not in present:
            keys.append((expression, [], up, kind))
    return keys


def _compare(condition: Condition, datasets: Sequence[DatasetUse]) -> tuple[str, list[Any]]:
    key = condition.key
    if condition.entity == "tag":
        return compare_tag("SELECT 1 FROM registry_logged_tag AS t WHERE t.model = m.number AND t.name = ?", condition)
    if condition.entity == "param":
        return compare_tag(
            "SELECT 1 FROM registry_logged_param AS t WHERE t.model = m.number AND t.name = ?", condition
        )
    if condition.entity == "metric":
        # Of each dataset and run, the last value is the one that counts.
        of_datasets, values = _of_datasets(datasets)
        comparison, compared = compare_number("p.value", condition)
        return (
            "EXISTS (SELECT 1 FROM tracking_point AS p WHERE p.model_id = m.id AND p.name = ? AND p.is_nan = 0"
            f"{of_datasets} AND {comparison} AND NOT EXISTS (SELECT 1 FROM tracking_point AS q"
            " WHERE q.model_id = p.model_id AND q.name = p.name AND q.run = p.run"
            " AND coalesce(q.dataset_name, '') = coalesce(p.dataset_name, '')"
            " AND coalesce(q.dataset_digest, '') = coalesce(p.dataset_digest, '')"
            " AND (q.logged_at_us > p.logged_at_us OR (q.logged_at_us = p.logged_at_us AND q.step > p.step))))"
        ), [key, *values, *compared]
    expression, kind = _KEYS[key]
    if kind is int:
        return compare_number(f"{expression} / 1000", condition)
    if key == "status":
        short = "replace(replace(m.status, 'LOGGED_MODEL_', ''), 'UPLOAD_', '')"
        sql, values = compare_text("m.status", condition)
        other, _ = compare_text(short, condition)
        joined = "AND" if condition.operator in ("!=", "NOT IN") else "OR"
        return f"({sql} {joined} {other})", [*values, *values]
    return compare_text(expression, condition)


def _of_datasets(datasets: Sequence[DatasetUse]) -> tuple[str, list[Any]]:
    if not datasets:
        return "", []
    alternatives, values = [], []
    for dataset in datasets:
        alternatives.append("p.dataset_name = ?" + (" AND p.dataset_digest = ?" if dataset.digest else ""))
        values += [dataset.name, *([dataset.digest] if dataset.digest else [])]
    return f" AND ({' OR '.join(f'({one})' for one in alternatives)})", values


def _read(tx: Transaction, rows: Sequence[Row]) -> list[LoggedModel]:
    ids, numbers = [row["id"] for row in rows], [row["number"] for row in rows]
    params: dict[int, dict[str, str]] = {number: {} for number in numbers}
    tags: dict[int, dict[str, str]] = {number: {} for number in numbers}
    for table, found in (("registry_logged_param", params), ("registry_logged_tag", tags)):
        for part in _parts(numbers):
            sql = f"SELECT model, name, value FROM {table} WHERE model IN ({_marks(part)}) ORDER BY model, name"
            for number, key, value in tx.tuples(sql, part):
                found[number][key] = value
    metrics = _latest(tx, ids)
    registered = list_models_of(tx, ids)
    return [
        LoggedModel(
            number=row["number"],
            id=row["id"],
            experiment_id=row["experiment_id"],
            name=row["name"],
            model_type=row["model_type"],
            run_id=row["run_id"],
            status=ModelStatus(row["status"]),
            created_at_us=row["created_at_us"],
            updated_at_us=row["updated_at_us"],
            is_deleted=row["deleted_at_us"] is not None,
            root=model_root(row["experiment_id"], row["artifact_location"], row["id"]),
            params=params[row["number"]],
            tags=tags[row["number"]],
            metrics=metrics.get(row["id"], []),
            registered=registered.get(row["id"], []),
        )
        for row in rows
    ]


def model_root(experiment_id: int, artifact_location: str, model_id: str) -> str:
    """Return the address of a logged model's files."""
    experiment = Experiment(
        id=experiment_id,
        name="",
        artifact_location=artifact_location,
        created_at_us=0,
        updated_at_us=0,
        is_deleted=False,
    )
    path, mark, query = experiment.root.partition("?")
    return f"{path.rstrip('/')}/models/{model_id}/artifacts{mark}{query}"


def _latest(tx: Transaction, model_ids: Sequence[str]) -> dict[str, list[ModelMetric]]:
    """Return the last value of each metric on each dataset in each run, by model."""
    found: dict[str, list[ModelMetric]] = {}
    for part in _parts(model_ids):
        for model_id, key, value, is_nan, at_us, step, dataset_name, dataset_digest, run_id in tx.tuples(
            "SELECT model_id, name, value, is_nan, logged_at_us, step, dataset_name, dataset_digest, run_id FROM ("
            " SELECT p.model_id, p.name, p.value, p.is_nan, p.logged_at_us, p.step, p.dataset_name, p.dataset_digest,"
            " r.id AS run_id, row_number() OVER (PARTITION BY p.model_id, p.name, p.run, p.dataset_name,"
            " p.dataset_digest ORDER BY p.logged_at_us DESC, p.step DESC, p.is_nan, p.value DESC) AS place"
            " FROM tracking_point AS p JOIN tracking_run AS r ON r.number = p.run"
            f" WHERE p.model_id IN ({_marks(part)})) AS points WHERE place = 1 ORDER BY model_id, name, logged_at_us",
            part,
        ):
            metric = ModelMetric(
                key, None if is_nan else value, at_us, step, dataset_name or "", dataset_digest or "", run_id
            )
            found.setdefault(model_id, []).append(metric)
    return found


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _PART):
        yield values[start : start + _PART]


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))
