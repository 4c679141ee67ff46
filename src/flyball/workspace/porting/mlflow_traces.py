"""Spans and assessments as MLflow's tables hold them, turned into what its protocol sends."""

import base64
import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from flyball.core.durations import from_us, to_us
from flyball.domain.tracking.traces import PLACE_TAG, SPAN_KIND, Assessment, Span, Trace, TraceState
from flyball.workspace.porting.records import SourceTrace

_STATUS = {"STATUS_CODE_OK": "OK", "STATUS_CODE_ERROR": "ERROR"}


def read_span(trace_id: str, content: str) -> Span | None:
    """Return a span from the JSON in MLflow's table; None where that cannot be read."""
    try:
        return _read_span(trace_id, json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _read_span(trace_id: str, found: dict[str, Any]) -> Span:
    # Attributes hold JSON within JSON; the protocol sends values.
    attributes = {name: _loads(value) for name, value in (found.get("attributes") or {}).items()}
    status, ended = found.get("status") or {}, found.get("end_time_unix_nano")
    wire: dict[str, Any] = {
        "trace_id": found["trace_id"],
        "span_id": found["span_id"],
        "name": found["name"],
        "start_time_unix_nano": str(found["start_time_unix_nano"]),
        "status": {key: value for key, value in status.items() if value},
        "attributes": _pairs(attributes),
        "events": [
            {
                "name": event["name"],
                "time_unix_nano": str(event["time_unix_nano"]),
                "attributes": _pairs(event.get("attributes") or {}),
            }
            for event in found.get("events") or ()
        ],
    }
    if found.get("parent_span_id"):
        wire["parent_span_id"] = found["parent_span_id"]
    if ended:
        wire["end_time_unix_nano"] = str(ended)
    if links := [link for link in map(_link, found.get("links") or ()) if link]:
        wire["links"] = links
    return Span(
        trace_id=trace_id,
        id=base64.b64decode(found["span_id"]).hex(),
        parent=base64.b64decode(found["parent_span_id"]).hex() if found.get("parent_span_id") else "",
        name=found["name"].replace("\0", "\ufffd"),
        kind=str(attributes.get(SPAN_KIND) or "UNKNOWN"),
        status=_STATUS.get(status.get("code", ""), "UNSET"),
        started_at_ns=int(found["start_time_unix_nano"]),
        ended_at_ns=int(ended) if ended else None,
        content=wire,
    )


def read_assessment_row(row: Mapping[str, Any]) -> Assessment:
    """Return an assessment from a row of MLflow's table, by the names of its columns."""
    kind, value = row["assessment_type"], json.loads(row["value"]) if row["value"] is not None else None
    if kind == "issue":
        body: dict[str, Any] = {"issue_name": row["name"]}
    elif kind == "expectation" and isinstance(value, dict | list):
        body = {"serialized_value": {"serialization_format": "JSON_FORMAT", "value": json.dumps(value)}}
    else:
        body = {"value": value}
    if row.get("error"):
        body["error"] = json.loads(row["error"])
    created_us = row["created_timestamp"] * 1000
    content: dict[str, Any] = {
        "assessment_id": row["assessment_id"],
        "assessment_name": row["name"],
        "trace_id": row["trace_id"],
        "source": {"source_type": row["source_type"], "source_id": row["source_id"]},
        "create_time": _time(created_us),
        "last_update_time": _time((row["last_updated_timestamp"] or row["created_timestamp"]) * 1000),
        kind: body,
        "valid": bool(row["valid"]),
    }
    for name in ("span_id", "rationale", "overrides"):
        if row.get(name):
            content[name] = row[name]
    if row.get("assessment_metadata"):
        content["metadata"] = json.loads(row["assessment_metadata"])
    return Assessment(
        id=row["assessment_id"],
        trace_id=row["trace_id"],
        name=row["name"],
        kind=kind,
        value=value if isinstance(value, str) else msgspec.json.encode(value).decode(),
        is_valid=bool(row["valid"]),
        created_at_us=created_us,
        content=content,
    )


def _link(found: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        trace_id = bytes.fromhex(str(found["trace_id"]).rpartition("/")[2].removeprefix("tr-"))
        span_id = bytes.fromhex(str(found["span_id"]).removeprefix("0x"))
    except (KeyError, ValueError):
        return None
    ids = {"trace_id": base64.b64encode(trace_id).decode(), "span_id": base64.b64encode(span_id).decode()}
    return ids | {"attributes": _pairs(found.get("attributes") or {})}


def _loads(value: Any) -> Any:
    try:
        return json.loads(value)
    except (TypeError, ValueError):
        return value


def _pairs(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _wrap(value)} for name, value in found.items()]


def _wrap(value: Any) -> dict[str, Any]:
    """Return a value as OpenTelemetry's JSON has it; nothing is what None is."""
    match value:
        case None:
            return {}
        case bool():
            return {"bool_value": value}
        case int() if -(2**63) <= value < 2**63:
            return {"int_value": str(value)}
        case int() | float():
            number = float(value)
            shown = "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
            return {"double_value": number if math.isfinite(number) else shown}
        case dict():
            return {"kvlist_value": {"values": _pairs({str(key): inner for key, inner in value.items()})}}
        case list() | tuple():
            return {"array_value": {"values": [_wrap(inner) for inner in value]}}
    return {"string_value": str(value)}


def _time(at_us: int) -> str:
    return from_us(at_us).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def read_wire_span(trace_id: str, found: dict[str, Any]) -> Span:
    """Return a span as the protocol sends it."""
    parent, ended = found.get("parent_span_id"), int(found.get("end_time_unix_nano") or 0)
    texts = {pair["key"]: pair.get("value", {}).get("string_value") for pair in found.get("attributes", ())}
    code = (found.get("status") or {}).get("code", "")
    return Span(
        trace_id=trace_id,
        id=base64.b64decode(found["span_id"]).hex(),
        parent=base64.b64decode(parent).hex() if parent else "",
        name=found.get("name", "").replace("\0", "\ufffd"),
        kind=str(texts.get(SPAN_KIND) or "UNKNOWN"),
        status=_STATUS.get(code, "UNSET"),
        started_at_ns=int(found.get("start_time_unix_nano") or 0),
        ended_at_ns=ended or None,
        content=found,
    )


def read_wire_trace(found: dict[str, Any]) -> SourceTrace:
    """Return a trace without its spans as the protocol sends it."""
    duration, metadata = found.get("execution_duration"), found.get("trace_metadata", {})
    trace = Trace(
        id=found["trace_id"],
        experiment_id=int(found["trace_location"]["mlflow_experiment"]["experiment_id"]),
        started_at_us=_read_time(found["request_time"]),
        duration_us=None if duration is None else round(float(duration.rstrip("s")) * 1e6),
        state=TraceState(found.get("state", TraceState.UNKNOWN.value)),
        client_request_id=found.get("client_request_id"),
        request_preview=found.get("request_preview"),
        response_preview=found.get("response_preview"),
        metadata=metadata,
        tags=found.get("tags", {}),
        assessments=[_read_wire_assessment(entry) for entry in found.get("assessments", ())],
    )
    return SourceTrace(trace, (), trace.tags.get(PLACE_TAG, ""))


def _read_wire_assessment(found: dict[str, Any]) -> Assessment:
    kind = next((name for name in ("feedback", "expectation", "issue") if name in found), "feedback")
    body = found.get(kind, {})
    value = body.get("value", body.get("issue_name"))
    if "serialized_value" in body:
        value = json.loads(body["serialized_value"]["value"])
    return Assessment(
        id=found["assessment_id"],
        trace_id=found["trace_id"],
        name=found["assessment_name"],
        kind=kind,
        value=value if isinstance(value, str) else msgspec.json.encode(value).decode(),
        is_valid=bool(found.get("valid", True)),
        created_at_us=_read_time(found["create_time"]),
        content=found,
    )


def _read_time(text: str) -> int:
    return to_us(msgspec.convert(text, datetime))
