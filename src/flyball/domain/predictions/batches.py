"""Many predictions in one line of the log: what came, as it came, and what was answered.

Answering 100 rows must not cost writing 100 objects, so the request path writes their numbers once, row by row, and
whoever reads the log makes a `PredictionRecord` of each row.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from flyball.core.ids import list_ids
from flyball.domain.data.schemas import DType
from flyball.domain.predictions.labels import key_value
from flyball.domain.predictions.records import PredictionRecord, ViewUse

BEGINNING = b'{"batch":1,'
_encode = msgspec.json.Encoder().encode


class Layout(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the values of a batch mean; the same for all batches of a version.

    Attributes:
        names: The fields that hold numbers and flags, in the order of `BatchRecord.values`.
        dtypes: Their types.
        inputs: The model's inputs, in order.
        input_dtypes: Their types.
        entity: Key columns of whom a row is about.
        key: Key columns of the row itself.
    """

    names: tuple[str, ...]
    dtypes: tuple[DType, ...]
    inputs: tuple[str, ...]
    input_dtypes: tuple[DType, ...]
    entity: tuple[str, ...] = ()
    key: tuple[str, ...] = ()


class StoredRows(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a feature view gave for the rows of a batch.

    Attributes:
        version: The view's version.
        event_times_us: When each row's features held; None where nothing was stored.
        columns: The features, each with a value for each row.
    """

    version: str
    event_times_us: list[int | None]
    columns: dict[str, list[Any]]


class BatchRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the log that holds several predictions of one version, all of them answered.

    Attributes:
        batch: The format's number; tells such a line from that of one prediction.
        id: The first prediction's id; the others' follow it (`core.ids.list_ids`).
        endpoint: Who answered.
        at_us: When, in microseconds since 1970 UTC.
        variant: ``live``, ``canary``, ``shadow`` or ``pinned``.
        version: The model version.
        layout: What the values mean.
        values: Each row's numbers and flags, one row after the other, nested or flat.
        others: The fields that are neither, each with a value for each row.
        times_us: The rows' own times, where they were given.
        views: The stored features that were used.
        predictions: What was predicted for each row.
        scores: Each class's probability, for models with more than two.
        latency_us: Time spent on each row until it was logged.
        stage: The rollout's stage.
        rollout: The rollout's id.
        shadow_of: The ids of the predictions that were answered, when these only ran beside them.
        propensity: How likely routing was to pick this variant.
    """

    batch: int
    id: str
    endpoint: str
    at_us: int
    variant: str
    version: str
    layout: Layout
    values: list[Any]
    others: dict[str, list[Any]] = {}
    times_us: list[int] = []
    views: dict[str, StoredRows] = {}
    predictions: list[float]
    scores: list[list[float]] = []
    latency_us: int = 0
    stage: str | None = None
    rollout: str | None = None
    shadow_of: list[str] = []
    propensity: float | None = None


decode_batch = msgspec.json.Decoder(BatchRecord).decode


def expand(batch: BatchRecord) -> list[PredictionRecord]:
    """Return the predictions of a batch, in their order."""
    layout, height = batch.layout, len(batch.predictions)
    width = len(layout.names)
    flat = batch.values
    if flat and isinstance(flat[0], list):
        flat = [value for row in flat for value in row]
    columns: dict[str, Sequence[Any]] = {
        name: _as(dtype, flat[at::width])
        for at, (name, dtype) in enumerate(zip(layout.names, layout.dtypes, strict=True))
    }
    columns |= batch.others
    stored = {name: values for view in batch.views.values() for name, values in view.columns.items()}
    inputs = {
        name: _as(dtype, columns[name] if name in columns else stored.get(name) or [None] * height)
        for name, dtype in zip(layout.inputs, layout.input_dtypes, strict=True)
    }
    return [
        PredictionRecord(
            id=identifier,
            endpoint=batch.endpoint,
            at_us=batch.at_us,
            variant=batch.variant,
            version=batch.version,
            entity={name: key_value(columns[name][row]) for name in layout.entity},
            key={name: key_value(columns[name][row]) for name in layout.key},
            time_us=batch.times_us[row] if batch.times_us else batch.at_us,
            request=_pick(columns, row),
            features=_pick(inputs, row),
            views={
                name: ViewUse(version=view.version, event_time_us=view.event_times_us[row])
                for name, view in batch.views.items()
            },
            prediction=batch.predictions[row],
            scores=batch.scores[row] if batch.scores else None,
            latency_us=batch.latency_us,
            stage=batch.stage,
            rollout=batch.rollout,
            shadow_of=batch.shadow_of[row] if batch.shadow_of else None,
            propensity=batch.propensity,
        )
        for row, identifier in enumerate(list_ids(batch.id, height))
    ]


def _as(dtype: DType, values: Sequence[Any]) -> Sequence[Any]:
    """Return values with the type of their column: a matrix has one type for all of them."""
    if dtype == "float":
        return [None if value is None else float(value) for value in values]
    if dtype == "int":
        return [None if value is None else int(value) for value in values]
    if dtype == "bool":
        return [None if value is None else bool(value) for value in values]
    return values


def _pick(columns: Mapping[str, Sequence[Any]], row: int) -> msgspec.Raw:
    return msgspec.Raw(_encode({name: values[row] for name, values in columns.items()}))
