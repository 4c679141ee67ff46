"""Many predictions in one line of the log: what came, as it came, and what was answered.

Answering 100 rows must not cost writing 100 objects, so the request path writes their numbers once, row by row, and
whoever reads the log makes a `PredictionRecord` of each row.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

import msgspec

from flyball.core.ids import list_ids
from flyball.domain.data.schemas import DType
from flyball.domain.predictions.labels import key_value
from flyball.domain.predictions.records import PredictionRecord, ViewUse

BEGINNING = b'{"batch":1,'
_MOST_LAYOUTS = 200
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
        layout: What the values mean: a `Layout` as JSON, which is read once for all batches that have the same.
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
    layout: msgspec.Raw
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
    reader = _find_reader(bytes(batch.layout))
    layout, height = reader.layout, len(batch.predictions)
    rows = reader.read_rows(batch.values, batch.others)
    stored = {name: values for view in batch.views.values() for name, values in view.columns.items() if values}
    records = []
    for row, (identifier, fields) in enumerate(zip(list_ids(batch.id, height), rows, strict=True)):
        served = (
            fields | {name: values[row] for name, values in stored.items() if name not in fields} if stored else fields
        )
        records.append(
            PredictionRecord(
                id=identifier,
                endpoint=batch.endpoint,
                at_us=batch.at_us,
                variant=batch.variant,
                version=batch.version,
                entity={name: key_value(fields[name]) for name in layout.entity},
                key={name: key_value(fields[name]) for name in layout.key},
                time_us=batch.times_us[row] if batch.times_us else batch.at_us,
                request=msgspec.Raw(_encode(fields)),
                features=msgspec.Raw(_encode(reader.pick_inputs(served))),
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
        )
    return records


class _Reader:
    """Reads the rows of batches of one layout."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._kinds = [_KINDS.get(dtype, _as_it_is) for dtype in layout.dtypes]
        kinds = [_KINDS.get(dtype, _as_it_is) for dtype in layout.input_dtypes]
        self._inputs = list(zip(layout.inputs, kinds, strict=True))
        known = dict(zip(layout.names, self._kinds, strict=True))
        # Inputs that are fields, of the same types, are taken as they are.
        are_fields = len(self._inputs) > 1 and all(known.get(name) is kind for name, kind in self._inputs)
        self._take: Callable[[Any], tuple[Any, ...]] | None = itemgetter(*layout.inputs) if are_fields else None

    def read_rows(self, values: Sequence[Any], others: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
        """Yield each row's fields with the types of their columns: a matrix has one type for all of them."""
        names, kinds, width = self.layout.names, self._kinds, len(self.layout.names)
        is_nested = bool(values) and isinstance(values[0], list)
        cut = values if is_nested else [values[start : start + width] for start in range(0, len(values), width)]
        for row, found in enumerate(cut):
            numbers = [None if value is None else kind(value) for kind, value in zip(kinds, found, strict=True)]
            fields = dict(zip(names, numbers, strict=True))
            for name, column in others.items():
                fields[name] = column[row]
            yield fields

    def pick_inputs(self, served: Mapping[str, Any]) -> dict[str, Any]:
        """Return the model's inputs among what was served; null where nothing was."""
        if self._take is not None:
            return dict(zip(self.layout.inputs, self._take(served), strict=True))
        return {name: None if (value := served.get(name)) is None else kind(value) for name, kind in self._inputs}


def _as_it_is(value: Any) -> Any:
    return value


_KINDS: dict[DType, Callable[[Any], Any]] = {"float": float, "int": int, "bool": bool}
_decode_layout = msgspec.json.Decoder(Layout).decode


@lru_cache(maxsize=_MOST_LAYOUTS)
def _find_reader(layout: bytes) -> _Reader:
    return _Reader(_decode_layout(layout))
