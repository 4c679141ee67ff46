"""The SQL of metric points: all of them, and the last of each metric."""

from collections.abc import Iterable, Sequence
from typing import Any

from flyball.domain.tracking.points import HistoryRow, Point
from flyball.storage.db import Row, Transaction

_INSERT = (
    "INSERT INTO tracking_point (run, name, logged_at_us, step, value, is_nan, source, model_id, dataset_name,"
    " dataset_digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
# Few points judge a model, and columns that are not named cost nothing.
_INSERT_PLAIN = (
    "INSERT INTO tracking_point (run, name, logged_at_us, step, value, is_nan, source)"
    " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
_RANK = "{0}.step, {0}.logged_at_us, 1 - {0}.is_nan, {0}.value"
_UPSERT = (
    "INSERT INTO tracking_latest (run, name, experiment_id, value, is_nan, step, logged_at_us)"
    " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run, name) DO UPDATE SET"
    " value = excluded.value, is_nan = excluded.is_nan, step = excluded.step, logged_at_us = excluded.logged_at_us"
    f" WHERE ({_RANK.format('excluded')}) > ({_RANK.format('tracking_latest')})"
)


def put_points(tx: Transaction, run: int, experiment_id: int, points: Sequence[Point]) -> None:
    """Add points; the same point twice is kept once.

    Args:
        tx: A write transaction.
        run: The run's number.
        experiment_id: The number of its experiment.
        points: In any order.
    """
    rows: list[tuple[Any, ...]] = []
    plain_rows: list[tuple[Any, ...]] = []
    last: dict[str, tuple[Any, ...]] = {}
    ranks: dict[str, tuple[int, int, int, float]] = {}
    for name, found, at_us, step, source, model_id, dataset_name, dataset_digest in points:
        # SQLite has no NaN.
        is_nan, value = (0, found) if found == found else (1, 0.0)
        if model_id is None and dataset_name is None and dataset_digest is None:
            plain_rows.append((run, name, at_us, step, value, is_nan, source))
        else:
            rows.append((run, name, at_us, step, value, is_nan, source, model_id, dataset_name, dataset_digest))
        rank = (step, at_us, 1 - is_nan, value)
        if name not in ranks or rank > ranks[name]:
            ranks[name] = rank
            last[name] = (run, name, experiment_id, value, is_nan, step, at_us)
    tx.execute_many(_INSERT, rows)
    tx.execute_many(_INSERT_PLAIN, plain_rows)
    tx.execute_many(_UPSERT, list(last.values()))


_HISTORY = "logged_at_us, step, value, is_nan, model_id, dataset_name, dataset_digest, source"


def history(tx: Transaction, run: int, name: str, *, after: Sequence[Any] | None, limit: int) -> list[HistoryRow]:
    """Return one metric's points by time, step and value.

    Args:
        tx: A transaction.
        run: The run's number.
        name: The metric.
        after: Time, step, value, whether it is NaN, and source of the last point of the page before.
        limit: How many at most.
    """
    where, params = "run = ? AND name = ?", [run, name]
    if after is not None:
        where += " AND (logged_at_us, step, value, is_nan, source) > (?, ?, ?, ?, ?)"
        params.extend(after)
    rows: list[HistoryRow] = tx.tuples(
        f"SELECT {_HISTORY} FROM tracking_point WHERE {where}"
        " ORDER BY logged_at_us, step, value, is_nan, source LIMIT ?",
        [*params, limit],
    )
    return rows


def history_at(tx: Transaction, run: int, name: str, steps: Sequence[int], limit: int) -> list[HistoryRow]:
    """Return the points of one metric at some steps, by step and time; see `history`."""
    found: list[HistoryRow] = []
    for part in _parts(steps):
        rows = tx.tuples(
            f"SELECT {_HISTORY} FROM tracking_point WHERE run = ? AND name = ? AND step IN ({_marks(part)})"
            " ORDER BY step, logged_at_us, value, is_nan, source LIMIT ?",
            [run, name, *part, limit - len(found)],
        )
        found += rows
    return found


def steps_of(tx: Transaction, run: int, name: str, first: int, last: int) -> list[int]:
    """Return the steps at which one metric was logged, within bounds (both included), in order."""
    rows = tx.rows(
        "SELECT DISTINCT step FROM tracking_point WHERE run = ? AND name = ? AND step BETWEEN ? AND ? ORDER BY step",
        (run, name, first, last),
    )
    return [row[0] for row in rows]


def latest_of(tx: Transaction, runs: Sequence[int]) -> Iterable[tuple[int, str, float | None, int, int]]:
    """Yield the last point of each metric of some runs, by run and name: run, name, value (None for NaN), time in
    milliseconds, step."""
    for part in _parts(runs):
        yield from tx.tuples(
            "SELECT run, name, CASE WHEN is_nan = 1 THEN NULL ELSE value END, logged_at_us / 1000, step"
            f" FROM tracking_latest WHERE run IN ({_marks(part)}) ORDER BY run, name",
            part,
        )


def points_of_models(tx: Transaction, model_ids: Sequence[str]) -> list[Row]:
    """Return all points that judge some logged models, with the runs' ids, by model, metric, step and time."""
    found: list[Row] = []
    for part in _parts(model_ids):
        found += tx.rows(
            "SELECT p.model_id, r.id AS run_id, p.name, p.logged_at_us, p.step, p.value, p.is_nan, p.dataset_name,"
            " p.dataset_digest FROM tracking_point AS p JOIN tracking_run AS r ON r.number = p.run"
            f" WHERE p.model_id IN ({_marks(part)}) ORDER BY p.model_id, p.name, p.step, p.logged_at_us",
            part,
        )
    return found


_MOST_PARAMS = 500


def _parts(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    for start in range(0, len(values), _MOST_PARAMS):
        yield values[start : start + _MOST_PARAMS]


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))
