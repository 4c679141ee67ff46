"""Traces: how a program answered one request, as a tree of spans, and what people and judges said of it."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec

from flyball.core.errors import InvalidInputError, NotFoundError
from flyball.domain.tracking.filters import KEYED_OPERATORS, TEXT_OPERATORS, Entity, Kind, Vocabulary

TRACE_PREFIX = "tr-"
"""What MLflow puts before OpenTelemetry's number of a trace."""
NAME_TAG = "mlflow.traceName"
SPANS_TAG = "mlflow.trace.spansLocation"
SPANS_HERE = "TRACKING_STORE"
PLACE_TAG = "mlflow.artifactLocation"
PROMPTS_TAG = "mlflow.linkedPrompts"
RUN_METADATA = "mlflow.sourceRun"
INPUTS, OUTPUTS, SPAN_KIND = "mlflow.spanInputs", "mlflow.spanOutputs", "mlflow.spanType"
PREVIEW_LENGTH = 1_000


class TraceState(StrEnum):
    """How a trace ended; the values are the protocol's."""

    UNKNOWN = "STATE_UNSPECIFIED"
    OK = "OK"
    ERROR = "ERROR"
    RUNNING = "IN_PROGRESS"


class Assessment(msgspec.Struct, frozen=True, kw_only=True):
    """What was judged of a trace.

    Attributes:
        kind: ``feedback``, ``expectation`` or ``issue``.
        value: JSON.
        is_valid: Whether no later one took its place.
        content: The whole of it, as its client sent it.
    """

    id: str
    trace_id: str
    name: str
    kind: str
    value: str
    is_valid: bool
    created_at_us: int
    content: dict[str, Any]


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """A trace without its spans.

    Attributes:
        id: The client's, such as ``tr-…``.
        duration_us: None while it runs.
        is_told: Whether its client told of it as a whole, or only its spans came.
        metadata: Texts by name that do not change, unlike tags.
        runs: Ids of the runs that it is linked to.
    """

    id: str
    experiment_id: int
    started_at_us: int
    duration_us: int | None
    state: TraceState
    client_request_id: str | None = None
    request_preview: str | None = None
    response_preview: str | None = None
    is_told: bool = True
    metadata: dict[str, str] = {}
    tags: dict[str, str] = {}
    runs: tuple[str, ...] = ()
    assessments: Sequence[Assessment] = ()


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a trace.

    Attributes:
        id: OpenTelemetry's, as hexadecimal digits; the parent's is empty for the root.
        kind: MLflow's type of a span, such as ``LLM``.
        status: ``OK``, ``ERROR`` or ``UNSET``.
        ended_at_ns: None while it runs.
        content: The whole span, as OpenTelemetry's JSON of Protocol Buffers.
        attributes: Its attributes that are texts.
    """

    trace_id: str
    id: str
    parent: str
    name: str
    kind: str
    status: str
    started_at_ns: int
    ended_at_ns: int | None
    content: dict[str, Any]
    attributes: dict[str, str] = {}


class TraceNotFoundError(NotFoundError):
    """There is no such trace."""

    code = "tracking/trace-not-found"

    def __init__(self, trace_id: str) -> None:
        super().__init__(f"Trace with ID '{trace_id[:200]}' not found")


class TraceTagNotFoundError(NotFoundError):
    """The trace has no such tag."""

    code = "tracking/trace-tag-not-found"

    def __init__(self, trace_id: str, name: str) -> None:
        super().__init__(f"No trace tag with key '{name[:200]}' for trace '{trace_id[:200]}'")


class AssessmentNotFoundError(NotFoundError):
    """The trace has no such assessment."""

    code = "tracking/assessment-not-found"

    def __init__(self, trace_id: str, assessment_id: str) -> None:
        super().__init__(f"Assessment with ID '{assessment_id[:200]}' not found for trace '{trace_id[:200]}'")


class AssessmentInvalidError(InvalidInputError):
    """An assessment has no name, or not exactly one of feedback, expectation and issue."""

    code = "tracking/assessment-invalid"


def summarise(spans: Sequence[Span]) -> tuple[int, int | None, TraceState]:
    """Return start, duration (microseconds) and state of a trace whose client told only these spans of it."""
    started = min(span.started_at_ns for span in spans) // 1000
    root = next((span for span in spans if not span.parent), None)
    if root is None or root.ended_at_ns is None:
        return started, None, TraceState.RUNNING
    state = TraceState.ERROR if root.status == "ERROR" else TraceState.OK
    return started, root.ended_at_ns // 1000 - started, state


_ATTRIBUTE = Entity(
    name="attribute",
    kind=Kind.TEXT,
    operators=TEXT_OPERATORS,
    keys={name: name for name in ("status", "client_request_id", "name", "run_id", "prompt", "text")}
    | dict.fromkeys(("request_id", "trace_id"), "request_id")
    | dict.fromkeys(("timestamp", "timestamp_ms"), "timestamp")
    | dict.fromkeys(("execution_time", "execution_time_ms"), "execution_time")
    | dict.fromkeys(("end_time", "end_time_ms"), "end_time")
    | {"experiment_id": "experiment_id"},
    numbers=frozenset({"timestamp", "execution_time", "end_time"}),
)
_TAG = Entity(name="tag", kind=Kind.TEXT, operators=KEYED_OPERATORS)
_METADATA = Entity(name="metadata", kind=Kind.TEXT, operators=KEYED_OPERATORS)
_SPAN = Entity(
    name="span",
    kind=Kind.TEXT,
    operators=TEXT_OPERATORS,
    keys={name: name for name in ("name", "type", "status", "content")},
)
_FEEDBACK = Entity(name="feedback", kind=Kind.TEXT, operators=KEYED_OPERATORS)
_EXPECTATION = Entity(name="expectation", kind=Kind.TEXT, operators=KEYED_OPERATORS)

TRACES = Vocabulary(
    entities={
        **dict.fromkeys(("attribute", "attributes", "attr", "trace"), _ATTRIBUTE),
        **dict.fromkeys(("tag", "tags"), _TAG),
        **dict.fromkeys(("metadata", "request_metadata"), _METADATA),
        "span": _SPAN,
        "feedback": _FEEDBACK,
        "expectation": _EXPECTATION,
    },
    default=_ATTRIBUTE,
    orderable=frozenset(
        {"experiment_id", "timestamp", "execution_time", "end_time", "status", "request_id", "name", "run_id"}
    ),
)
