"""The SQL that brings experiments and runs over from another store, many at once."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flyball.domain.tracking import store
from flyball.domain.tracking.foreign import ForeignExperiment, ForeignRun
from flyball.domain.tracking.runs import Maker, RunStatus
from flyball.storage.db import Transaction

_MOST_PARAMS = 500
_INSERT_RUN = (
    "INSERT INTO tracking_run (number, id, experiment_id, maker, status, actor, started_at_us, finished_at_us,"
    " deleted_at_us, error, process) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '', '')"
)
COUNTED = {
    "params": "tracking_param",
    "tags": "tracking_tag",
    "metric points": "tracking_point",
    "dataset inputs": "tracking_input",
    "model links": "tracking_run_model",
}
"""What is counted of runs, and in which table."""


def insert_experiment(tx: Transaction, found: ForeignExperiment, location: str) -> int:
    """Add an experiment, with its number unless another one has that, and return the number."""
    number = found.id
    if tx.value("SELECT 1 FROM tracking_experiment WHERE id = ?", (number,)) is not None:
        number = int(tx.value("SELECT max(id) + 1 FROM tracking_experiment"))
    tx.send(
        "INSERT INTO tracking_experiment (id, name, artifact_location, created_at_us, updated_at_us, deleted_at_us)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            number,
            found.name,
            location,
            found.created_ms * 1000,
            found.updated_ms * 1000,
            found.updated_ms * 1000 if found.is_deleted else None,
        ),
    )
    return number


def date_experiment(tx: Transaction, number: int, found: ForeignExperiment) -> None:
    """Give the experiment that every home has from the start the times of the one that it stands for now."""
    tx.send(
        "UPDATE tracking_experiment SET created_at_us = ?, updated_at_us = ? WHERE id = ? AND created_at_us = 0",
        (found.created_ms * 1000, found.updated_ms * 1000, number),
    )


def add_experiment_tags(tx: Transaction, experiment_id: int, tags: Mapping[str, str]) -> None:
    """Keep tags that are not there yet."""
    tx.execute_many(
        "INSERT INTO tracking_experiment_tag (experiment_id, name, value) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        [(experiment_id, name, value) for name, value in tags.items()],
    )


def insert_runs(tx: Transaction, runs: Sequence[ForeignRun], experiments: Mapping[int, int]) -> dict[str, int]:
    """Add runs and return their numbers by id; ``experiments`` are the numbers here by those there."""
    first = store.next_number(tx)
    numbers = {run.id: first + place for place, run in enumerate(runs)}
    tx.execute_many(
        _INSERT_RUN,
        [
            (
                numbers[run.id],
                run.id,
                experiments[run.experiment_id],
                Maker.CLIENT.value,
                run.status.value,
                run.user,
                run.started_ms * 1000,
                None if run.ended_ms is None else run.ended_ms * 1000,
                None if run.deleted_ms is None else run.deleted_ms * 1000,
            )
            for run in runs
        ],
    )
    return numbers


def catch_up(tx: Transaction, number: int, run: ForeignRun) -> None:
    """Let a run that was brought over while it ran end as it did."""
    tx.send(
        "UPDATE tracking_run SET status = ?, finished_at_us = ? WHERE number = ? AND status = ?",
        (
            run.status.value,
            None if run.ended_ms is None else run.ended_ms * 1000,
            number,
            RunStatus.RUNNING.value,
        ),
    )


def add_items(tx: Transaction, params: Sequence[tuple[Any, ...]], tags: Sequence[tuple[Any, ...]]) -> None:
    """Keep parameters and tags that are not there yet: run, name, experiment, value."""
    tx.execute_many(
        "INSERT INTO tracking_param (run, name, experiment_id, value, is_json) VALUES (?, ?, ?, ?, 0)"
        " ON CONFLICT DO NOTHING",
        params,
    )
    tx.execute_many(
        "INSERT INTO tracking_tag (run, name, experiment_id, value) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", tags
    )


def find_experiments(tx: Transaction, numbers: Sequence[int]) -> dict[int, int]:
    """Return the experiments of runs, both by number."""
    found: dict[int, int] = {}
    for part in _parts(numbers):
        rows = tx.tuples(f"SELECT number, experiment_id FROM tracking_run WHERE number IN ({_marks(part)})", part)
        found.update(rows)
    return found


def count(tx: Transaction, numbers: Sequence[int]) -> dict[str, int]:
    """Return how much some runs have of what `COUNTED` names."""
    totals = dict.fromkeys(COUNTED, 0)
    for part in _parts(numbers):
        for name, table in COUNTED.items():
            totals[name] += tx.value(f"SELECT count(*) FROM {table} WHERE run IN ({_marks(part)})", part)
    return totals


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _MOST_PARAMS):
        yield values[start : start + _MOST_PARAMS]


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))
