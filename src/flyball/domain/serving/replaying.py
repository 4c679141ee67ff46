"""Logged requests through a version again: with the features as they were served, wherever the log has them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl

from flyball.core.errors import FlyballError
from flyball.domain.data.schemas import Schema, read_instant
from flyball.domain.features.training_sets import ViewRef
from flyball.domain.predictions.frames import expand_json
from flyball.domain.predictions.records import PredictionStatus, ViewUse
from flyball.domain.serving.loaded import LoadedVersion
from flyball.domain.serving.table_requests import OnViolation, Verdict, judge_request
from flyball.domain.serving.table_scoring import PastFeatures, as_violation, predict_rows

Array = np.ndarray[Any, Any]
ViewColumns = Callable[[ViewRef], Schema]
"""Tells the feature columns of a view as a version uses it."""
_AT = "__asked_at"
_ROW = "__row"
_views = msgspec.json.Decoder(dict[str, ViewUse])


class Replayed(NamedTuple):
    """What a version makes of logged requests.

    Attributes:
        answers: Its answer to each row, NaN where it has none: ``(n,)``, or ``(n, n_classes)``.
        rejected: The rows without an answer.
        looked_back: Stored features that were not served then, and come from the views' histories; by view the
            number of rows.
    """

    answers: Array
    rejected: list[Verdict]
    looked_back: dict[str, int]


def replay_rows(
    loaded: LoadedVersion,
    rows: pl.DataFrame,
    past: PastFeatures,
    columns_of: ViewColumns,
    on_violation: OnViolation,
    masked: Sequence[str] = (),
) -> Replayed:
    """Ask a version what was asked of others.

    Args:
        loaded: The version.
        rows: Logged predictions that were answered (`records.FRAME_SCHEMA`).
        past: The histories of the version's views, for features that were not served then.
        columns_of: Tells which features are a view's.
        on_violation: What becomes of a row that breaks an expectation.
        masked: Fields that the log does not hold as they came; what they were is not judged.
    """
    requests: list[dict[str, Any]] = [msgspec.json.decode(text) for text in rows["request"]]
    rejected: list[Verdict] = []
    good: list[int] = []
    for number, request in enumerate(requests):
        status, violations = judge_request(loaded, request, on_violation)
        violations = [found for found in violations if found.column not in masked]
        if status is PredictionStatus.OK or not violations:
            good.append(number)
        else:
            rejected.append(Verdict(number, status, violations))
    kept = rows[good]
    fields = _read_fields(loaded, [requests[number] for number in good], kept, masked)
    stored, looked_back = _stored_features(loaded, fields, kept, past, columns_of)
    width = len(loaded.signature.classes) if loaded.signature.task == "multiclass" else 1
    answers = np.full(rows.height if width == 1 else (rows.height, width), np.nan)
    if good:
        values, failures = predict_rows(loaded, fields.with_columns(stored))
        answers[good] = values
        rejected += [_failed(good[row], error) for row, error in failures.items()]
    return Replayed(answers, sorted(rejected, key=lambda one: one.row), looked_back)


def replay_inputs(loaded: LoadedVersion, rows: pl.DataFrame) -> Array:
    """Give the model the very inputs that the log says it got."""
    inputs = expand_json(rows, "features", dict(loaded.input_types))
    values: Array = np.asarray(loaded.predictor.predict(inputs), dtype=np.float64)
    return values


def _read_fields(
    loaded: LoadedVersion, requests: Sequence[Mapping[str, Any]], rows: pl.DataFrame, masked: Sequence[str]
) -> pl.DataFrame:
    """Return requests in the model's types; the time of one without is when it was asked."""
    columns = []
    times = rows["at"].to_list()
    for field in loaded.request.schema.fields:
        values = [None if field.name in masked else request.get(field.name) for request in requests]
        if field.dtype in ("datetime", "date"):
            values = [read_instant(value, field.dtype, field.name) for value in values]
        if field.name == loaded.time:
            values = [at if value is None else value for value, at in zip(values, times, strict=True)]
        columns.append(pl.Series(field.name, values, dtype=loaded.field_types[field.name]))
    return pl.DataFrame(columns) if columns else pl.DataFrame(height=len(requests))


def _stored_features(
    loaded: LoadedVersion, fields: pl.DataFrame, rows: pl.DataFrame, past: PastFeatures, columns_of: ViewColumns
) -> tuple[list[pl.Series], dict[str, int]]:
    """Return the columns of all views: as they were served where it was the same view's version, else by history."""
    used = [_views.decode(text) for text in rows["views"]]
    found: list[pl.Series] = []
    looked_back: dict[str, int] = {}
    for view in loaded.views:
        schema = columns_of(view)
        types = schema.to_polars()
        served = expand_json(rows, "features", dict(types))
        is_served = pl.Series(
            [use.get(view.name) is not None and use[view.name].version == view.version for use in used]
        )
        if not is_served.all():
            others = fields.select(view.keys).with_columns(rows["at"].alias(_AT)).filter(~is_served)
            history = past.join(others, view, _AT).select(schema.names).cast(types)
            looked_back[view.name] = others.height
            order = pl.concat([is_served.arg_true(), (~is_served).arg_true()]).alias(_ROW)
            served = pl.concat([served.filter(is_served), history]).with_columns(order).sort(_ROW).select(schema.names)
        found.extend(served.get_columns())
    return [column for column in found if column.name not in fields.columns], looked_back


def _failed(row: int, error: FlyballError) -> Verdict:
    return Verdict(row, PredictionStatus.ERROR, [as_violation(error)])
