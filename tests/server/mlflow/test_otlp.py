"""Spans of OpenTelemetry are read as its own library wrote them."""

import contextlib
import gzip
import json
import random
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

from flyball.server.mlflow.otlp import PROTOBUF, SpansUnreadableError, read_spans
from flyball.server.problems import BodyTooLargeError

_LIMIT = 1_000_000
_texts = st.text(max_size=10).filter(lambda text: text.isprintable())


def _one(**fields: object) -> AnyValue:
    return AnyValue(**fields)


_values = st.recursive(
    st.one_of(
        _texts.map(lambda text: _one(string_value=text)),
        st.booleans().map(lambda found: _one(bool_value=found)),
        st.integers(-(2**63), 2**63 - 1).map(lambda found: _one(int_value=found)),
        st.floats().map(lambda found: _one(double_value=found if found == found else float("nan"))),
        st.binary(max_size=9).map(lambda found: _one(bytes_value=found)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda found: _one(array_value=ArrayValue(values=found))),
        st.dictionaries(_texts, inner, max_size=3).map(
            lambda found: _one(kvlist_value=KeyValueList(values=[KeyValue(key=k, value=v) for k, v in found.items()]))
        ),
    ),
    max_leaves=6,
)
_times = st.integers(0, 2**63 - 1)
_attributes = st.dictionaries(_texts, _values, max_size=3).map(
    lambda found: [KeyValue(key=name, value=value) for name, value in found.items()]
)
_spans = st.builds(
    WireSpan,
    trace_id=st.binary(min_size=16, max_size=16),
    span_id=st.binary(min_size=8, max_size=8),
    parent_span_id=st.one_of(st.just(b""), st.binary(min_size=8, max_size=8)),
    name=_texts,
    kind=st.integers(0, 5),
    start_time_unix_nano=_times,
    end_time_unix_nano=_times,
    attributes=_attributes,
    events=st.lists(st.builds(WireSpan.Event, name=_texts, time_unix_nano=_times, attributes=_attributes), max_size=2),
    flags=st.integers(0, 2**32 - 1),
)


def _export(spans: list[WireSpan]) -> ExportTraceServiceRequest:
    export = ExportTraceServiceRequest()
    export.resource_spans.add().scope_spans.add().spans.extend(spans)
    return export


@settings(max_examples=60, deadline=None)
@given(spans=st.lists(_spans, min_size=1, max_size=3))
def test_what_is_kept_is_the_same_message(spans: list[WireSpan]) -> None:
    for span, kept in zip(spans, read_spans(_export(spans).SerializeToString(), PROTOBUF, "", _LIMIT), strict=True):
        again = ParseDict(kept.content, WireSpan())
        assert again.SerializeToString(deterministic=True) == span.SerializeToString(deterministic=True)
        assert kept.trace_id == f"tr-{span.trace_id.hex()}" and kept.parent == span.parent_span_id.hex()


def test_json_and_compressed_bodies_say_the_same() -> None:
    span = WireSpan(trace_id=bytes(range(16)), span_id=bytes(range(8)), name="n", start_time_unix_nano=5)
    span.attributes.append(KeyValue(key="k", value=AnyValue(int_value=-3)))
    export = _export([span])
    expected = read_spans(export.SerializeToString(), PROTOBUF, "", _LIMIT)
    found = MessageToDict(export)
    wire = found["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    wire["traceId"], wire["spanId"] = span.trace_id.hex(), span.span_id.hex()
    body = json.dumps(found).encode()
    assert read_spans(body, "application/json", "", _LIMIT) == expected
    assert read_spans(gzip.compress(export.SerializeToString()), PROTOBUF, "gzip", _LIMIT) == expected


def test_damaged_bodies_are_refused() -> None:
    good = _export([WireSpan(trace_id=b"t" * 16, span_id=b"s" * 8, name="n")]).SerializeToString()
    chance = random.Random(7)
    for _ in range(2_000):
        bad = bytearray(good)
        for _ in range(chance.randint(1, 3)):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        with contextlib.suppress(SpansUnreadableError):
            read_spans(bytes(bad[: chance.randint(0, len(bad))]), PROTOBUF, "", _LIMIT)
    for body in (
        b"",
        b"[1]",
        b"{}",
        b'{"resourceSpans": 7}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": ["x"]}]}]}',
    ):
        with pytest.raises(SpansUnreadableError):
            read_spans(body, "application/json", "", _LIMIT)
    with pytest.raises(SpansUnreadableError, match="cannot be unpacked"):
        read_spans(b"no zip", PROTOBUF, "gzip", _LIMIT)
    with pytest.raises(BodyTooLargeError):
        read_spans(gzip.compress(b"\0" * (_LIMIT + 1)), PROTOBUF, "gzip", _LIMIT)


def test_values_nested_too_deeply_are_refused() -> None:
    value: dict[str, Any] = {"stringValue": "end"}
    for _ in range(60):
        value = {"arrayValue": {"values": [value]}}
    span = {"traceId": "ab" * 16, "spanId": "cd" * 8, "attributes": [{"key": "k", "value": value}]}
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    with pytest.raises(SpansUnreadableError, match="nested"):
        read_spans(body, "application/json", "", _LIMIT)
    # The same in Protocol Buffers: tags 1 and 5 in turn, each around the one before.
    inner = b""
    for _ in range(100):
        inner = b"\x0a" + bytes(_varint(len(inner))) + inner
        inner = b"\x2a" + bytes(_varint(len(inner))) + inner
    for tag in (b"\x12", b"\x4a", b"\x12", b"\x12", b"\x0a"):
        inner = tag + bytes(_varint(len(inner))) + inner
    with pytest.raises(SpansUnreadableError, match="nested"):
        read_spans(inner, PROTOBUF, "", _LIMIT)


def _varint(number: int) -> list[int]:
    return [number] if number < 128 else [number % 128 + 128, *_varint(number // 128)]
