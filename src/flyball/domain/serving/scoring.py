"""From a request's fields to a prediction, many rows at a time: check, complete, compute. Logs and routes nothing."""

import logging
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
import polars as pl

from flyball.core.durations import to_us
from flyball.core.errors import BackendError, BackendUnavailableError, FlyballError
from flyball.domain.data.reports import Violation
from flyball.domain.data.schemas import read_instant
from flyball.domain.features.histories import FeatureFunctionError, call
from flyball.domain.features.views import RequestFeatures
from flyball.domain.predictions.labels import key_value
from flyball.domain.predictions.records import NO_FIELDS, Explanation, PredictionStatus, ViewUse
from flyball.domain.serving.loaded import FeatureLookup, LoadedVersion

OnViolation = Literal["refuse", "quarantine"]
_FEW_ROWS = 32
_MOST_UNKNOWN = 20
_LONGEST_NAME = 200
_log = logging.getLogger("flyball.serving")
_encode = msgspec.json.Encoder().encode


class ModelFailedError(BackendError):
    """A model, or a feature function that it relies on, raised or gave no number."""

    code = "serving/model-failed"

    def __init__(self, ref: str, reason: str) -> None:
        told = f"the model {ref} could not predict: "
        super().__init__(
            told + reason.removeprefix(told),
            hint="Go back to the version before with: flyball rollback ENDPOINT",
        )


class FeaturesUnavailableError(BackendUnavailableError):
    """The stored features that a model asks for could not be looked up."""

    code = "serving/features-unavailable"

    def __init__(self, ref: str, reason: str) -> None:
        super().__init__(
            f"the model {ref} could not predict without its stored features: {reason}",
            hint='Try again soon; or let predictions go on without them: online_fallback = "null".',
        )


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """What failed before something else answered.

    Attributes:
        ref: The version that failed; empty where there was none.
        failure: Why.
        node: Its place in the endpoint's graph.
    """

    ref: str
    failure: FlyballError | None
    node: str | None = None


class Scored(msgspec.Struct, kw_only=True):
    """What became of one row.

    Attributes:
        status: Whether there is a prediction, and if not, why.
        violations: What is wrong with the row, or warned of.
        failure: Why the model gave nothing, where it should have.
        prediction: The value, the positive class's probability, or the number of the likeliest class.
        scores: Each class's probability, where there are more than two.
        features: The model's inputs, as a JSON object.
        views: The stored features used.
        entity: The entity's key columns.
        key: The row's own key columns.
        time: The instant the row is about.
        explanation: What each feature added, where that was asked for.
        ref: The version that answered, where the endpoint is a graph and it is not its own model's; empty for none.
        node: Which node of the graph answered.
        attempts: What failed before.
    """

    status: PredictionStatus
    violations: list[Violation] = []
    failure: FlyballError | None = None
    prediction: float | None = None
    scores: list[float] | None = None
    features: msgspec.Raw = NO_FIELDS
    views: dict[str, ViewUse] = {}
    entity: dict[str, Any] = {}
    key: dict[str, Any] = {}
    time: datetime | None = None
    explanation: Explanation | None = None
    ref: str | None = None
    node: str | None = None
    attempts: list[Attempt] = []


def score_rows(
    loaded: LoadedVersion,
    lookup: FeatureLookup,
    rows: Sequence[Any],
    at: Sequence[datetime],
    on_violation: OnViolation = "refuse",
) -> list[Scored]:
    """Check rows and predict those that are right, in their order.

    A model that raises, or gives NaN, makes its rows `PredictionStatus.ERROR`; nothing is raised for them.

    Args:
        loaded: The version that answers.
        lookup: Where stored features are.
        rows: Field names and JSON values of each request.
        at: When each row was asked; its own time where it does not carry one.
        on_violation: What becomes of a row that breaks an expectation of severity ``fail``.
    """
    results = [check_request(loaded, row, on_violation) for row in rows]
    good = [number for number, result in enumerate(results) if result.status is PredictionStatus.OK]
    if good:
        chosen = [results[number] for number in good]
        try:
            inputs = prepare_inputs(
                loaded, lookup, [rows[number] for number in good], [at[number] for number in good], chosen
            )
            take_output(loaded, loaded.predictor.predict(inputs), chosen)
        except FlyballError as error:
            fail_rows(chosen, error)
        except Exception as error:  # noqa: BLE001 - the model's and the project's own code runs here
            _log.warning("%s failed", loaded.ref, exc_info=True)
            fail_rows(chosen, ModelFailedError(loaded.ref, f"{type(error).__name__}: {error}"))
    return results


def check_request(loaded: LoadedVersion, row: Any, on_violation: OnViolation) -> Scored:
    """Return what became of a row so far: it is OK until the model is asked, or it is not right."""
    if not isinstance(row, Mapping):
        message = f"a row must be an object of fields, but {type(row).__name__} was given"
        return _refused([Violation(column="", rule="type", severity="fail", message=message)])
    taken = len(loaded.request.schema.fields)
    # Looking for what was meant by each of a thousand unknown or endless names would take seconds.
    if len(row) > taken + _MOST_UNKNOWN or any(len(name) > _LONGEST_NAME for name in row):
        message = f"a row has {taken} fields with short names, but {len(row):,} were given, or longer ones"
        return _refused([Violation(column="", rule="unknown", severity="fail", message=message)])
    violations = loaded.request.check(row)
    if violations:
        return _refused(violations)
    violations = loaded.check_row(row)
    severities = {violation.severity for violation in violations}
    status = PredictionStatus.OK
    if "fail" in severities and on_violation == "refuse":
        status = PredictionStatus.REFUSED
    elif "fail" in severities or "quarantine" in severities:
        status = PredictionStatus.QUARANTINED
    return Scored(status=status, violations=violations)


def _refused(violations: list[Violation]) -> Scored:
    return Scored(status=PredictionStatus.REFUSED, violations=violations)


def prepare_inputs(
    loaded: LoadedVersion,
    lookup: FeatureLookup,
    rows: Sequence[Mapping[str, Any]],
    at: Sequence[datetime],
    results: Sequence[Scored],
) -> pl.DataFrame:
    """Return the model's inputs for right rows, and note in their results what they are about and rest on."""
    fields = _make_frame(loaded, rows, at)
    times = fields[loaded.time].to_list() if loaded.time is not None else list(at)
    _describe(loaded, fields, times, results)
    frames = [fields]
    if loaded.views:
        frames.append(_look_up(loaded, lookup, fields, at, results))
    if loaded.request_features:
        frames.extend(_compute(function, fields) for function in loaded.request_features)
    inputs = _select_inputs(loaded.input_types, frames, len(rows))
    for result, text in zip(results, _json_rows(inputs), strict=True):
        result.features = msgspec.Raw(text)
    return inputs


def _make_frame(loaded: LoadedVersion, rows: Sequence[Mapping[str, Any]], at: Sequence[datetime]) -> pl.DataFrame:
    """Return checked rows as a frame; an own time that is absent or null is when the row was asked.

    `Schema.frame` checks types again and takes nine times as long for one row.
    """
    if loaded.instants:
        read = [dict(row) for row in rows]
        for field in loaded.instants:
            for row, now in zip(read, at, strict=True):
                value = row.get(field.name)
                row[field.name] = (
                    now if value is None and field.name == loaded.time else read_instant(value, field.dtype, field.name)
                )
        rows = read
    return pl.from_dicts(rows, schema=loaded.field_types)


def _compute(function: RequestFeatures, fields: pl.DataFrame) -> pl.DataFrame:
    """Return what a function adds; that it keeps rows and their order was proven when the model was trained."""
    result = call(function.name, function.function, fields.lazy())
    if result.height != fields.height:
        raise FeatureFunctionError(function.name, f"returned {result.height:,} rows for {fields.height:,}", hint="")
    return result.select(name for name in result.columns if name not in fields.columns)


def _look_up(
    loaded: LoadedVersion,
    lookup: FeatureLookup,
    fields: pl.DataFrame,
    at: Sequence[datetime],
    results: Sequence[Scored],
) -> pl.DataFrame:
    """Return the stored features as they stand when the rows are asked; note in the results what was used."""
    names = list(dict.fromkeys(key for view in loaded.views for key in view.keys))
    keys = fields.select(names).to_dicts()
    completed = lookup.complete(keys, loaded.views, at if len(set(at)) > 1 else at[0])
    for result, event_times in zip(results, completed.event_times, strict=True):
        result.views = {
            view.name: ViewUse(
                version=view.version,
                event_time_us=to_us(event_times[view.name]) if view.name in event_times else None,
            )
            for view in loaded.views
        }
    return completed.frame


def _describe(
    loaded: LoadedVersion, fields: pl.DataFrame, times: Sequence[datetime], results: Sequence[Scored]
) -> None:
    names = [*loaded.entity, *loaded.key]
    columns = {name: [key_value(value) for value in fields[name].to_list()] for name in names}
    for number, (result, time) in enumerate(zip(results, times, strict=True)):
        result.time = time
        result.entity = {name: columns[name][number] for name in loaded.entity}
        result.key = {name: columns[name][number] for name in loaded.key}


def _select_inputs(types: pl.Schema, frames: Sequence[pl.DataFrame], height: int) -> pl.DataFrame:
    """Return the model's inputs; a feature that nobody gives is null, as it is for an entity never seen."""
    origin = {name: frame for frame in reversed(frames) for name in frame.columns}
    return pl.DataFrame(
        [
            origin[name][name] if name in origin else pl.Series(name, [None] * height, dtype=dtype)
            for name, dtype in types.items()
        ]
    )


def _json_rows(frame: pl.DataFrame) -> list[bytes]:
    # Writing many rows at once is far quicker for each; for a few rows its start takes longer than they do.
    if frame.height <= _FEW_ROWS or not frame.width:
        return [_encode(row) for row in frame.iter_rows(named=True)] if frame.width else [b"{}"] * frame.height
    return frame.write_ndjson().encode().split(b"\n")[: frame.height]


def take_output(loaded: LoadedVersion, output: Any, results: Sequence[Scored]) -> None:
    """Note in the results what the model answered; what is no finite number is its failure."""
    values = output.tolist()
    if len(values) != len(results):
        raise ModelFailedError(loaded.ref, f"it returned {len(values)} predictions for {len(results)} rows")
    for result, value in zip(results, values, strict=True):
        scores = [float(score) for score in value] if isinstance(value, list) else None
        number = float(scores.index(max(scores))) if scores else float(value)
        if math.isfinite(number) and all(math.isfinite(score) for score in scores or ()):
            result.prediction, result.scores = number, scores
        else:
            fail_rows([result], ModelFailedError(loaded.ref, f"it gave {number} as a prediction"))


def fail_rows(results: Sequence[Scored], error: FlyballError) -> None:
    """Note in the results that the model failed."""
    for result in results:
        result.status = PredictionStatus.ERROR
        result.failure = error
        result.prediction, result.scores = None, None


def time_us(result: Scored) -> int | None:
    """Return the instant that a row is about, in microseconds."""
    return None if result.time is None else to_us(result.time)
