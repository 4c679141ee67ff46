"""The SQL of runs as clients see them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from flyball.domain.data import store as data_store
from flyball.domain.tracking import point_store
from flyball.domain.tracking.client_runs import DIGEST_LENGTH, ClientRun, Dataset, DatasetInput, LoggedRun, ModelLink
from flyball.domain.tracking.experiments import Experiment
from flyball.domain.tracking.runs import Maker, RunStatus
from flyball.storage.db import Row, Transaction

_COLUMNS = (
    "r.number, r.id, r.experiment_id, r.maker, r.status, r.actor, r.started_at_us, r.finished_at_us,"
    " r.deleted_at_us, e.artifact_location"
)
_FROM = "FROM tracking_run AS r JOIN tracking_experiment AS e ON e.id = r.experiment_id"
_RUN = f"SELECT {_COLUMNS} {_FROM}"
_MOST_PARAMS = 500
_encode = msgspec.json.Encoder().encode


def insert_run(
    tx: Transaction, number: int, run_id: str, experiment_id: int, status: RunStatus, actor: str, started_at_us: int
) -> None:
    """Add a client's run."""
    tx.send(
        "INSERT INTO tracking_run (number, id, experiment_id, maker, status, actor, started_at_us, error, process)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, '', '')",
        (number, run_id, experiment_id, Maker.CLIENT.value, status.value, actor, started_at_us),
    )


def find_run(tx: Transaction, run_id: str) -> ClientRun | None:
    """Return one run."""
    row = tx.row(f"{_RUN} WHERE r.id = ?", (run_id,))
    return None if row is None else _run(row)


def find_run_and_params(tx: Transaction, run_id: str, names: Sequence[str]) -> tuple[ClientRun | None, dict[str, str]]:
    """Return one run, and the values of those of some parameters that it has: one question to the database."""
    if not names:
        return find_run(tx, run_id), {}
    rows = tx.rows(
        f"SELECT {_COLUMNS}, p.name, p.value {_FROM} LEFT JOIN tracking_param AS p ON p.run = r.number"
        f" AND p.name IN ({_marks(names)}) WHERE r.id = ?",
        [*names, run_id],
    )
    if not rows:
        return None, {}
    *columns, _, _ = rows[0]
    return _run(columns), {row["name"]: row["value"] for row in rows if row["name"] is not None}


def find_numbers(tx: Transaction, run_ids: Sequence[str]) -> dict[str, int]:
    """Return the numbers of the runs that are there, by id."""
    found: dict[str, int] = {}
    for part in _parts(run_ids):
        rows = tx.rows(f"SELECT id, number FROM tracking_run WHERE id IN ({_marks(part)})", part)
        found.update((row["id"], row["number"]) for row in rows)
    return found


def update_run(tx: Transaction, number: int, status: RunStatus, finished_at_us: int | None) -> None:
    """Keep where a run stands and when it ended."""
    tx.send(
        "UPDATE tracking_run SET status = ?, finished_at_us = ? WHERE number = ?",
        (status.value, finished_at_us, number),
    )


def set_deleted(tx: Transaction, number: int, deleted_at_us: int | None) -> None:
    """Mark a run as deleted, or as active (None)."""
    tx.send("UPDATE tracking_run SET deleted_at_us = ? WHERE number = ?", (deleted_at_us, number))


def add_params(tx: Transaction, number: int, experiment_id: int, params: Mapping[str, str]) -> None:
    """Keep parameters that are not there yet."""
    tx.execute_many(
        "INSERT INTO tracking_param (run, name, experiment_id, value, is_json) VALUES (?, ?, ?, ?, 0)",
        [(number, name, experiment_id, value) for name, value in params.items()],
    )


def put_tags(tx: Transaction, number: int, experiment_id: int, tags: Mapping[str, str]) -> None:
    """Keep tags; a name that is there is replaced."""
    tx.execute_many(
        "INSERT INTO tracking_tag (run, name, experiment_id, value) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (run, name) DO UPDATE SET value = excluded.value",
        [(number, name, experiment_id, value) for name, value in tags.items()],
    )


def find_tag(tx: Transaction, number: int, name: str) -> str | None:
    """Return a tag's value."""
    value: str | None = tx.value("SELECT value FROM tracking_tag WHERE run = ? AND name = ?", (number, name))
    return value


def delete_tag(tx: Transaction, number: int, name: str) -> bool:
    """Remove a tag and tell whether it was there."""
    return tx.execute("DELETE FROM tracking_tag WHERE run = ? AND name = ?", (number, name)) > 0


def put_input(tx: Transaction, number: int, experiment_id: int, found: DatasetInput, context: str | None) -> None:
    """Keep a dataset that a run read; what is known of a dataset of the same name and digest stays."""
    dataset = found.dataset
    key = (experiment_id, dataset.name, dataset.digest)
    sql = "SELECT number FROM tracking_dataset WHERE experiment_id = ? AND name = ? AND digest = ?"
    dataset_number = tx.value(sql, key)
    if dataset_number is None:
        dataset_number = tx.value("SELECT coalesce(max(number), 0) + 1 FROM tracking_dataset")
        tx.send(
            "INSERT INTO tracking_dataset (number, experiment_id, name, digest, source_type, source, schema_text,"
            " profile) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (dataset_number, *key, dataset.source_type, dataset.source, dataset.schema, dataset.profile),
        )
    tx.send(
        "INSERT INTO tracking_input (run, dataset, context, tags) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (run, dataset) DO UPDATE SET context = excluded.context, tags = excluded.tags",
        (number, dataset_number, context, _encode(found.tags).decode()),
    )


def put_models(tx: Transaction, number: int, direction: str, models: Sequence[ModelLink]) -> None:
    """Keep which logged models a run read (``in``) or made (``out``)."""
    tx.execute_many(
        "INSERT INTO tracking_run_model (run, direction, model_id, step) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (run, direction, model_id) DO UPDATE SET step = excluded.step",
        [(number, direction, model.model_id, model.step) for model in models],
    )


def list_datasets(tx: Transaction, experiment_ids: Sequence[int], limit: int) -> list[Row]:
    """Return the datasets of some experiments, and the contexts in which they were used."""
    return tx.rows(
        "SELECT DISTINCT d.experiment_id, d.name, d.digest, i.context FROM tracking_dataset AS d"
        f" JOIN tracking_input AS i ON i.dataset = d.number WHERE d.experiment_id IN ({_marks(experiment_ids)})"
        " ORDER BY d.name, d.digest, d.experiment_id LIMIT ?",
        [*experiment_ids, limit],
    )


def read_runs(tx: Transaction, numbers: Sequence[int]) -> list[LoggedRun]:
    """Return runs with what was logged to them, in the order of their numbers in ``numbers``: a few queries in all."""
    logged: dict[int, LoggedRun] = {}
    for part in _parts(numbers):
        for row in tx.rows(f"{_RUN} WHERE r.number IN ({_marks(part)})", part):
            logged[row[0]] = LoggedRun(_run(row), [], [], [], [], [], [])
    metrics = {number: run.metrics.append for number, run in logged.items()}
    for point in point_store.latest_of(tx, numbers):
        metrics[point[0]](point)
    params = {number: run.params.append for number, run in logged.items()}
    for item in _each(tx, "SELECT run, name, value FROM tracking_param", numbers, "run, name"):
        params[item[0]](item)
    tags = {number: run.tags.append for number, run in logged.items()}
    for item in _each(tx, "SELECT run, name, value FROM tracking_tag", numbers, "run, name"):
        tags[item[0]](item)
    for run, texts, name, digest, source_type, source, schema, profile in _each(
        tx,
        "SELECT run, tags, name, digest, source_type, source, schema_text, profile FROM tracking_input"
        " JOIN tracking_dataset ON number = dataset",
        numbers,
        "run, dataset",
    ):
        dataset = Dataset(
            name=name, digest=digest, source_type=source_type, source=source, schema=schema, profile=profile
        )
        logged[run].datasets.append(DatasetInput(dataset=dataset, tags=msgspec.json.decode(texts)))
    _add_snapshots(tx, [entry for entry in logged.values() if entry.run.maker is Maker.FLYBALL])
    for run, direction, model_id, step in _each(
        tx, "SELECT run, direction, model_id, step FROM tracking_run_model", numbers, "run, step, model_id"
    ):
        entry = logged[run]
        (entry.read_models if direction == "in" else entry.made_models).append(ModelLink(model_id, step))
    return [logged[number] for number in numbers if number in logged]


def _add_snapshots(tx: Transaction, runs: Sequence[LoggedRun]) -> None:
    """Add the snapshots that Flyball's own runs read, as datasets: a client has no other word for them."""
    of_id = {entry.run.id: entry for entry in runs}
    links: list[tuple[str, str]] = []
    for part in _parts(list(of_id)):
        links += tx.tuples(
            "SELECT run_id, ref FROM tracking_link WHERE direction = 'in' AND kind = 'snapshot'"
            f" AND run_id IN ({_marks(part)}) ORDER BY run_id, ref",
            part,
        )
    tables = data_store.tables_of(tx, sorted({ref for _, ref in links})) if links else {}
    for run_id, ref in links:
        for table in tables.get(ref, []):
            dataset = Dataset(
                name=table,
                digest=ref[:DIGEST_LENGTH],
                source_type="flyball",
                source=_encode({"snapshot": ref}).decode(),
            )
            of_id[run_id].datasets.append(DatasetInput(dataset=dataset))


def _each(tx: Transaction, select: str, numbers: Sequence[int], order: str) -> Iterator[Any]:
    for part in _parts(numbers):
        yield from tx.tuples(f"{select} WHERE run IN ({_marks(part)}) ORDER BY {order}", part)


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _MOST_PARAMS):
        yield values[start : start + _MOST_PARAMS]


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _run(row: Iterable[Any]) -> ClientRun:
    number, run_id, experiment_id, maker, status, actor, started_us, finished_us, deleted_us, location = row
    experiment = Experiment(
        id=experiment_id, name="", artifact_location=location, created_at_us=0, updated_at_us=0, is_deleted=False
    )
    return ClientRun(
        number,
        run_id,
        experiment_id,
        Maker(maker),
        RunStatus(status),
        actor,
        started_us,
        finished_us,
        deleted_us is not None,
        experiment.run_root(run_id),
    )
