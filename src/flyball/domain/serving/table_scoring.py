"""Predictions for many rows of a table at once, by the path of live requests but column by column."""

import logging
import math
import os
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import numpy as np
import polars as pl

from flyball.core.errors import FlyballError
from flyball.domain.data.reports import Violation
from flyball.domain.features.histories import FeatureFunctionError, call
from flyball.domain.features.training_sets import ViewRef
from flyball.domain.features.views import RequestFeatures
from flyball.domain.predictions.masking import cut_message
from flyball.domain.predictions.records import PredictionStatus
from flyball.domain.serving.loaded import FeatureLookup, LoadedVersion
from flyball.domain.serving.scoring import ModelFailedError
from flyball.domain.serving.table_requests import TableRequests, Verdict

Array = np.ndarray[Any, Any]
_CHUNK = 16_384
_MOST_FAILURES = 100
_MOST_ENTITIES = 2_000_000
_log = logging.getLogger("flyball.serving")


class PastFeatures(Protocol):
    """Gives rows the stored features that held at their own times."""

    def join(self, rows: pl.DataFrame, view: ViewRef, time: str) -> pl.DataFrame:
        """Return the view's features for each row, in order: its newest values usable at the row's ``time``."""
        ...


class TableScores(NamedTuple):
    """What became of some rows.

    Attributes:
        answered: The places of the rows that have a prediction.
        predictions: For each of those ``prediction`` and, for more than two classes, ``scores``.
        rejected: The others, by place.
    """

    answered: list[int] | None
    predictions: pl.DataFrame
    rejected: list[Verdict]


class TableScorer:
    """Scores rows of one table with one version. Use it as a context: it keeps threads.

    Args:
        loaded: The version.
        requests: Reads the table's rows.
        lookup: Stored features as they are now.
        past: Stored features as they were at each row's time; used instead of ``lookup`` where given.
    """

    def __init__(
        self,
        loaded: LoadedVersion,
        requests: TableRequests,
        lookup: FeatureLookup,
        past: PastFeatures | None = None,
    ) -> None:
        self._loaded = loaded
        self._requests = requests
        self._lookup = lookup
        self._past = past
        self._stored: pl.DataFrame | None = None
        # Predictors are safe in threads, and most leave Python while they compute.
        self._pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)

    def __enter__(self) -> "TableScorer":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def score(self, frame: pl.DataFrame, at: datetime) -> TableScores:
        """Score rows.

        Args:
            frame: Rows of the table.
            at: The present: what stored features count, and the time of rows that have none.

        Raises:
            ModelFailedError: The model fails for more than a few rows.
            NotMaterialisedError: A view's version was never written to the online store.
            BackendUnavailableError: The online store did not answer.
        """
        fields, rejected = self._requests.read(frame, at)
        answered: list[int] | None = None
        if rejected:
            gone = {verdict.row for verdict in rejected}
            answered = [row for row in range(frame.height) if row not in gone]
            fields = fields[answered]
        values, failures = predict_rows(self._loaded, self._complete(fields, at), self._pool)
        if failures:
            places = answered if answered is not None else range(frame.height)
            rejected += [
                Verdict(places[row], PredictionStatus.ERROR, [as_violation(error)]) for row, error in failures.items()
            ]
            kept = [row for row in range(fields.height) if row not in failures]
            answered, values = [places[row] for row in kept], values[kept]
        return TableScores(answered, as_frame(self._loaded, values), sorted(rejected, key=lambda one: one.row))

    def _complete(self, fields: pl.DataFrame, at: datetime) -> pl.DataFrame:
        """Return the fields and the stored features of each row."""
        if not self._loaded.views or not fields.height:
            return fields
        if self._past is not None:
            found = [self._past.join(fields, view, self._loaded.time or "") for view in self._loaded.views]
        else:
            found = [self._look_up(fields, at)]
        added = [column for frame in found for column in frame.get_columns() if column.name not in fields.columns]
        return fields.with_columns(added)

    def _look_up(self, fields: pl.DataFrame, at: datetime) -> pl.DataFrame:
        """Read each entity once, however many rows in however many parts are about it."""
        names = list(dict.fromkeys(key for view in self._loaded.views for key in view.keys))
        keys = fields.select(names)
        distinct = keys.unique(maintain_order=True)
        known = self._stored
        if known is not None and known.height <= _MOST_ENTITIES:
            distinct = distinct.join(known, on=names, how="anti", nulls_equal=True)
        if distinct.height or known is None:
            completed = self._lookup.complete(distinct.to_dicts(), self._loaded.views, at).frame
            added = distinct.with_columns(
                column for column in completed.get_columns() if column.name not in distinct.columns
            )
            known = added if known is None or known.height > _MOST_ENTITIES else pl.concat([known, added])
            self._stored = known
        joined = keys.join(known, on=names, how="left", nulls_equal=True, maintain_order="left")
        return joined.select(pl.all().exclude(names))


def predict_rows(
    loaded: LoadedVersion, fields: pl.DataFrame, pool: ThreadPoolExecutor | None = None
) -> tuple[Array, dict[int, FlyballError]]:
    """Return a model's answers to rows of fields and stored features, and what it failed for, by row.

    Args:
        loaded: The version.
        fields: The rows.
        pool: Where parts of them may be computed at the same time.

    Raises:
        ModelFailedError: The model fails for more than a few rows.
    """
    starts = range(0, fields.height, _CHUNK)

    def predict(start: int) -> tuple[Array, dict[int, FlyballError]]:
        return _predict_some(loaded, fields.slice(start, _CHUNK), start)

    found = list(map(predict, starts) if pool is None else pool.map(predict, starts))
    failures = {row: error for _, failed in found for row, error in failed.items()}
    if len(failures) > _MOST_FAILURES:
        raise ModelFailedError(loaded.ref, f"{len(failures):,} rows failed: {next(iter(failures.values()))}")
    if not found:
        return np.empty(0 if _width(loaded) == 1 else (0, _width(loaded))), failures
    return np.concatenate([values for values, _ in found]), failures


def _predict_some(loaded: LoadedVersion, fields: pl.DataFrame, start: int) -> tuple[Array, dict[int, FlyballError]]:
    """Predict rows; where the model raises, halve them until only the rows that it raises for are left out."""
    try:
        values = np.asarray(predict_frame(loaded, fields), dtype=np.float64)
    except Exception as error:
        if fields.height > 1:
            half = fields.height // 2
            left, failed = _predict_some(loaded, fields.head(half), start)
            if len(failed) > _MOST_FAILURES:
                raise
            right, more = _predict_some(loaded, fields.slice(half), start + half)
            return np.concatenate([left, right]), failed | more
        _log.warning("%s failed for a row", loaded.ref, exc_info=True)
        values = np.full(1 if _width(loaded) == 1 else (1, _width(loaded)), math.nan)
        return values, {start: _as_flyball(loaded.ref, error)}
    finite = np.isfinite(values if values.ndim == 1 else values.sum(axis=1))
    return values, {
        start + int(row): ModelFailedError(loaded.ref, f"it gave {values[row]} as a prediction")
        for row in np.flatnonzero(~finite)
    }


def predict_frame(loaded: LoadedVersion, fields: pl.DataFrame) -> Array:
    """Return a model's answers to rows of request fields and stored features."""
    frames = [fields, *(_compute(function, fields) for function in loaded.request_features)]
    origin = {name: frame for frame in reversed(frames) for name in frame.columns}
    # A feature that nobody gives is null, as it is for an entity never seen.
    inputs = pl.DataFrame(
        [
            origin[name][name] if name in origin else pl.Series(name, [None] * fields.height, dtype=dtype)
            for name, dtype in loaded.input_types.items()
        ]
    )
    values: Array = loaded.predictor.predict(inputs)
    if len(values) != fields.height:
        raise ModelFailedError(loaded.ref, f"it returned {len(values)} predictions for {fields.height} rows")
    return values


def _compute(function: RequestFeatures, fields: pl.DataFrame) -> pl.DataFrame:
    result = call(function.name, function.function, fields.lazy())
    if result.height != fields.height:
        raise FeatureFunctionError(function.name, f"returned {result.height:,} rows for {fields.height:,}", hint="")
    return result.select(name for name in result.columns if name not in fields.columns)


def _width(loaded: LoadedVersion) -> int:
    return len(loaded.signature.classes) if loaded.signature.task == "multiclass" else 1


def as_frame(loaded: LoadedVersion, values: Array) -> pl.DataFrame:
    """Return answers as live gives them: the likeliest class and the probability of each, or the number."""
    if values.ndim == 1:
        return pl.DataFrame({"prediction": values})
    labels = loaded.signature.classes or tuple(range(values.shape[1]))
    likeliest = pl.Series("prediction", labels).gather(values.argmax(axis=1))
    scores = pl.DataFrame({str(label): values[:, place] for place, label in enumerate(labels)})
    return pl.DataFrame([likeliest, scores.to_struct("scores")])


def as_violation(error: FlyballError) -> Violation:
    """Return a model's failure as what is wrong with a row."""
    return Violation(column="", rule=error.code, severity="fail", message=error.message)


def _as_flyball(ref: str, error: Exception) -> FlyballError:
    if isinstance(error, FlyballError):
        return error
    return ModelFailedError(ref, f"{type(error).__name__}: {error}")


def rejects_frame(rows: pl.DataFrame, rejected: Sequence[Verdict], sensitive: Collection[str] = ()) -> pl.DataFrame:
    """Return rejected rows as they are in the table, each with its ``status`` and ``reasons``.

    Args:
        rows: The table's rows.
        rejected: Those of them that got no prediction.
        sensitive: Fields whose values no reason tells.
    """
    reasons = pl.Series(
        "reasons",
        [
            [
                {
                    "field": found.column,
                    "rule": found.rule,
                    "message": cut_message(found.message, found.column, sensitive),
                }
                for found in verdict.violations
            ]
            for verdict in rejected
        ],
        dtype=pl.List(pl.Struct({"field": pl.String, "rule": pl.String, "message": pl.String})),
    )
    status = pl.Series("status", [verdict.status.value for verdict in rejected], dtype=pl.String)
    return rows[[verdict.row for verdict in rejected]].with_columns(status, reasons)
