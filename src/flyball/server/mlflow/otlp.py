"""Spans as OpenTelemetry's exporters send them: Protocol Buffers or JSON, perhaps compressed.

The messages are few and stay as they are, so they are read here by a table of their fields: the control plane needs no
library for Protocol Buffers.
"""

import base64
import math
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import msgspec

from flyball.core.errors import InvalidInputError
from flyball.domain.tracking.traces import SPAN_KIND, TRACE_PREFIX, Span
from flyball.server.problems import BodyTooLargeError

PROTOBUF = "application/x-protobuf"
_DEEPEST = 90  # as deep as the libraries for Protocol Buffers read, less what a client puts around it
# Each message's fields: number, name and kind; `id` is bytes that JSON has as hexadecimal digits, `[...]` many of them.
_MESSAGES: dict[str, dict[int, tuple[str, str]]] = {
    "Request": {1: ("resource_spans", "[ResourceSpans]")},
    "ResourceSpans": {1: ("resource", "Resource"), 2: ("scope_spans", "[ScopeSpans]"), 3: ("schema_url", "text")},
    "Resource": {1: ("attributes", "[KeyValue]"), 2: ("dropped_attributes_count", "number")},
    "ScopeSpans": {1: ("scope", "Scope"), 2: ("spans", "[Span]"), 3: ("schema_url", "text")},
    "Scope": {1: ("name", "text"), 2: ("version", "text"), 3: ("attributes", "[KeyValue]")},
    "Span": {
        1: ("trace_id", "id"),
        2: ("span_id", "id"),
        3: ("trace_state", "text"),
        4: ("parent_span_id", "id"),
        5: ("name", "text"),
        6: ("kind", "number"),
        7: ("start_time_unix_nano", "long"),
        8: ("end_time_unix_nano", "long"),
        9: ("attributes", "[KeyValue]"),
        10: ("dropped_attributes_count", "number"),
        11: ("events", "[Event]"),
        12: ("dropped_events_count", "number"),
        13: ("links", "[Link]"),
        14: ("dropped_links_count", "number"),
        15: ("status", "Status"),
        16: ("flags", "number"),
    },
    "Event": {
        1: ("time_unix_nano", "long"),
        2: ("name", "text"),
        3: ("attributes", "[KeyValue]"),
        4: ("dropped_attributes_count", "number"),
    },
    "Link": {
        1: ("trace_id", "id"),
        2: ("span_id", "id"),
        3: ("trace_state", "text"),
        4: ("attributes", "[KeyValue]"),
        5: ("dropped_attributes_count", "number"),
        6: ("flags", "number"),
    },
    "Status": {2: ("message", "text"), 3: ("code", "number")},
    "KeyValue": {1: ("key", "text"), 2: ("value", "AnyValue")},
    "AnyValue": {
        1: ("string_value", "text"),
        2: ("bool_value", "bool"),
        3: ("int_value", "signed"),
        4: ("double_value", "double"),
        5: ("array_value", "Values"),
        6: ("kvlist_value", "KeyValues"),
        7: ("bytes_value", "bytes"),
    },
    "Values": {1: ("values", "[AnyValue]")},
    "KeyValues": {1: ("values", "[KeyValue]")},
}
_STATUS = {"STATUS_CODE_UNSET": "UNSET", "STATUS_CODE_OK": "OK", "STATUS_CODE_ERROR": "ERROR"} | dict(
    enumerate(("UNSET", "OK", "ERROR"))
)
_CAPITAL = re.compile("([A-Z])")


class SpansUnreadableError(InvalidInputError):
    """A body is no export of spans."""

    code = "mlflow/spans-unreadable"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the body is no export of OpenTelemetry's spans: {reason}",
            hint="Send an ExportTraceServiceRequest as application/x-protobuf or application/json.",
        )


def read_spans(body: bytes, media_type: str, encoding: str, limit_bytes: int) -> list[Span]:
    """Return the spans of an export.

    Args:
        body: As it came.
        media_type: ``application/x-protobuf`` or ``application/json``.
        encoding: ``gzip``, ``deflate`` or nothing.
        limit_bytes: How long it may be when it is unpacked.

    Raises:
        SpansUnreadableError: It is none.
        BodyTooLargeError: It is longer when it is unpacked.
    """
    content = _unpack(body, encoding, limit_bytes)
    try:
        if media_type == PROTOBUF:
            export = _read(memoryview(content), "Request", 0)
        else:
            export = _normalise(msgspec.json.decode(content), "Request", 0)
        found = [_span(span) for span in _each_span(export)]
    except (ValueError, TypeError, AttributeError, IndexError, struct.error, RecursionError) as error:
        raise SpansUnreadableError(str(error) or "it is damaged") from error
    if not found:
        raise SpansUnreadableError("it holds none")
    return found


def _unpack(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise SpansUnreadableError(f"its Content-Encoding {encoding[:50]!r} is neither gzip nor deflate")
    try:
        unpacker = zlib.decompressobj(wbits=47 if encoding == "gzip" else 15)
        content = unpacker.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise SpansUnreadableError(f"it cannot be unpacked: {error}") from error
    if len(content) > limit_bytes:
        raise BodyTooLargeError(limit_bytes, hint="Let the exporter send fewer spans at once.")
    return content


def _each_span(export: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for resource_spans in export.get("resource_spans", []):
        for scope_spans in resource_spans.get("scope_spans", []):
            yield from scope_spans.get("spans", [])


def _span(content: dict[str, Any]) -> Span:
    trace_id, span_id = _hex(content.get("trace_id"), 16, "trace_id"), _hex(content.get("span_id"), 8, "span_id")
    texts = {
        item.get("key", ""): item["value"]["string_value"]
        for item in content.get("attributes", [])
        if "string_value" in item.get("value", {})
    }
    ended = int(content.get("end_time_unix_nano") or 0)
    return Span(
        trace_id=f"{TRACE_PREFIX}{trace_id}",
        id=span_id,
        parent=_hex(content["parent_span_id"], 8, "parent_span_id") if content.get("parent_span_id") else "",
        name=_keepable(content.get("name", "")),
        kind=_keepable(texts.get(SPAN_KIND, "UNKNOWN")),
        status=_STATUS.get(content.get("status", {}).get("code", 0), "UNSET"),
        started_at_ns=_within(int(content.get("start_time_unix_nano") or 0)),
        ended_at_ns=_within(ended) if ended else None,
        content=content,
        attributes={name: _keepable(value) for name, value in texts.items()},
    )


def _keepable(text: str) -> str:
    """No database keeps NUL within a text; the content, as JSON, has it escaped."""
    return text.replace("\0", "\ufffd")


def _within(ns: int) -> int:
    if not 0 <= ns < 2**63:
        raise ValueError(f"{ns} is no time in nanoseconds")
    return ns


def _hex(value: Any, size: int, name: str) -> str:
    found = base64.b64decode(value or "", validate=True)
    if len(found) != size:
        raise ValueError(f"{name} must have {size} bytes, but it has {len(found)}")
    return found.hex()


# Protocol Buffers


def _read(data: memoryview, message: str, depth: int) -> dict[str, Any]:
    if depth > _DEEPEST:
        raise ValueError("values are nested too deeply")
    fields, found, place = _MESSAGES[message], dict[str, Any](), 0
    while place < len(data):
        tag, place = _varint(data, place)
        raw, place = _take(data, place, tag & 7)
        known = fields.get(tag >> 3)
        if known is None:
            continue
        name, kind = known
        if kind.startswith("["):
            found.setdefault(name, []).append(_value(raw, kind[1:-1], depth))
        else:
            found[name] = _value(raw, kind, depth)
    return found


def _take(data: memoryview, place: int, wire: int) -> tuple[memoryview | int, int]:
    """Return a field's content and where the next one begins."""
    if wire == 0:
        return _varint(data, place)
    if wire == 2:
        size, place = _varint(data, place)
    elif wire in (1, 5):
        size = 8 if wire == 1 else 4
    else:
        raise ValueError(f"it has a field of the unknown kind {wire}")
    if place + size > len(data):
        raise ValueError("it ends too early")
    return data[place : place + size], place + size


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if place >= len(data) or shift > 63:
            raise ValueError("it ends too early")
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value & (2**64 - 1), place


def _value(raw: memoryview | int, kind: str, depth: int) -> Any:
    if isinstance(raw, int):
        if kind == "bool":
            return bool(raw)
        if kind == "signed":
            return str(raw - 2**64 if raw >= 2**63 else raw)
        if kind == "long":
            return str(raw)
        if kind == "number":
            return raw
        raise ValueError(f"a {kind} comes as a number")
    match kind:
        case "text":
            return bytes(raw).decode()
        case "id" | "bytes":
            return base64.b64encode(raw).decode()
        case "double":
            return _number(struct.unpack("<d", raw)[0])
        case "long":
            return str(struct.unpack("<Q", raw)[0])
        case "number":
            return struct.unpack("<I", raw)[0]
        case "bool" | "signed":
            raise ValueError(f"a {kind} comes as bytes")
    return _read(raw, kind, depth + 1)


def _number(value: float) -> float | str:
    """Return a number as the JSON of Protocol Buffers has it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


# JSON


def _normalise(found: Any, message: str, depth: int) -> dict[str, Any]:
    """Return JSON as it is kept: names of fields with underscores, ids in base 64."""
    if depth > _DEEPEST:
        raise ValueError("values are nested too deeply")
    if not isinstance(found, dict):
        raise ValueError(f"a {message} must be an object")
    kinds = dict(_MESSAGES[message].values())
    kept: dict[str, Any] = {}
    for camel, value in found.items():
        name = _CAPITAL.sub(r"_\1", camel).lower()
        kind = kinds.get(name)
        if kind is None or value is None:
            continue
        if kind.startswith("["):
            kept[name] = [_normalise(item, kind[1:-1], depth + 1) for item in value]
        elif kind in _MESSAGES:
            kept[name] = _normalise(value, kind, depth + 1)
        else:
            kept[name] = _plain(value, kind, name)
    return kept


def _plain(value: Any, kind: str, name: str) -> Any:
    match kind:
        case "id":
            return base64.b64encode(bytes.fromhex(value)).decode()
        case "long" | "signed":
            return str(int(value))
        case "text" | "bytes":
            if not isinstance(value, str):
                raise ValueError(f"{name} must be a text")
            return value
        case "bool":
            return bool(value)
    return value
