"""Prediction records as the rows of a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from flyball.core.durations import to_us
from flyball.domain.predictions.records import (
    Explanation,
    PredictionRecord,
    PredictionStatus,
    Reason,
    ViewUse,
)

_INSTANT = pl.Datetime("us", "UTC")
FRAME_SCHEMA: dict[str, Any] = {
    "id": pl.String,
    "endpoint": pl.String,
    "at": _INSTANT,
    "variant": pl.String,
    "version": pl.String,
    "status": pl.String,
    "time": _INSTANT,
    "entity": pl.String,
    "key": pl.String,
    "request": pl.String,
    "features": pl.String,
    "views": pl.String,
    "prediction": pl.Float64,
    "scores": pl.List(pl.Float64),
    "reasons": pl.String,
    "latency_us": pl.Int64,
    "stage": pl.String,
    "rollout": pl.String,
    "shadow_of": pl.String,
    "propensity": pl.Float64,
    "node": pl.String,
    "explanation": pl.String,
}
"""Columns of sealed segments; entity, key, request, features, views, reasons and explanation are JSON text."""

_encode = msgspec.json.Encoder().encode
_PLAIN = ("id", "endpoint", "variant", "version", "prediction", "scores", "latency_us")
_OPTIONAL = ("stage", "rollout", "shadow_of", "propensity", "node")
_JSON = ("entity", "key", "views", "reasons")
_EMPTY = {"entity": "{}", "key": "{}", "views": "{}", "reasons": "[]"}


def to_frame(records: Sequence[PredictionRecord]) -> pl.DataFrame:
    """Return records as a frame of `FRAME_SCHEMA`, in their order."""
    columns: dict[str, list[Any]] = {
        name: [getattr(record, name) for record in records] for name in (*_PLAIN, *_OPTIONAL)
    }
    columns["at"] = [record.at_us for record in records]
    columns["time"] = [record.time_us for record in records]
    columns["status"] = [record.status.value for record in records]
    for name in ("request", "features"):
        columns[name] = [bytes(getattr(record, name)).decode() for record in records]
    for name in _JSON:
        empty = _EMPTY[name]
        values = [getattr(record, name) for record in records]
        columns[name] = [_encode(value).decode() if value else empty for value in values]
    explained = [record.explanation for record in records]
    columns["explanation"] = [None if found is None else _encode(found).decode() for found in explained]
    return pl.DataFrame(
        [
            pl.Series(name, columns[name], dtype=pl.Int64 if dtype == _INSTANT else dtype).cast(dtype)
            for name, dtype in FRAME_SCHEMA.items()
        ]
    )


def scan_sealed(paths: Sequence[Path]) -> pl.LazyFrame:
    """Return the rows of sealed files with all columns; those that an earlier release did not know are null."""
    return pl.scan_parquet(list(paths), hive_partitioning=False, schema=FRAME_SCHEMA, missing_columns="insert")


def from_row(row: Mapping[str, Any]) -> PredictionRecord:
    """Return the record of one row of `to_frame` (its times as aware instants), of this release or an earlier one."""
    explanation = row.get("explanation")
    plain: dict[str, Any] = {name: row[name] for name in _PLAIN} | {name: row.get(name) for name in _OPTIONAL}
    return PredictionRecord(
        **plain,
        explanation=None if explanation is None else msgspec.json.decode(explanation, type=Explanation),
        at_us=to_us(row["at"]),
        time_us=None if row["time"] is None else to_us(row["time"]),
        status=PredictionStatus(row["status"]),
        request=msgspec.Raw(row["request"].encode()),
        features=msgspec.Raw(row["features"].encode()),
        entity=msgspec.json.decode(row["entity"]),
        key=msgspec.json.decode(row["key"]),
        views=msgspec.json.decode(row["views"], type=dict[str, ViewUse]),
        reasons=msgspec.json.decode(row["reasons"], type=list[Reason]),
    )


def expand_json(frame: pl.DataFrame, column: str, dtypes: Mapping[str, pl.DataType] | None = None) -> pl.DataFrame:
    """Return one column for each field of a JSON column such as ``features``; a row that lacks a field has null.

    Args:
        frame: Rows of `to_frame`.
        column: ``request``, ``features``, ``entity`` or ``key``.
        dtypes: The fields wanted and their types; found out from the rows by default.
    """
    if dtypes is not None:
        fields = [pl.Field(name, dtype) for name, dtype in dtypes.items()]
        return frame[column].str.json_decode(pl.Struct(fields)).struct.unnest()
    rows: list[dict[str, Any]] = [msgspec.json.decode(text) for text in frame[column]]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pl.DataFrame([pl.Series(name, [row.get(name) for row in rows], strict=False) for name in names])
