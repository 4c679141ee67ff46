"""What clients send and read of traces, as the protocol's messages name it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from flyball.core.durations import from_us, to_us
from flyball.domain.tracking.client_runs import check_first_tags, check_text, check_value
from flyball.domain.tracking.experiments import parse_experiment_id
from flyball.domain.tracking.traces import Assessment, AssessmentInvalidError, Trace, TraceState
from flyball.server.mlflow.requests import ParameterInvalidError, ParameterMissingError

_MAX_ID = 250
_MAX_NAME = 250
_MAX_VALUE = 8_000
_MAX_PREVIEW = 10_000
_STATES = {state.value: state for state in TraceState} | dict(
    enumerate((TraceState.UNKNOWN, TraceState.OK, TraceState.ERROR, TraceState.RUNNING))
)
_KINDS = ("feedback", "expectation", "issue")


class ExperimentPlace(msgspec.Struct):
    """An experiment."""

    experiment_id: str


class Place(msgspec.Struct):
    """Where a trace is kept."""

    mlflow_experiment: ExperimentPlace | None = None


class TraceFields(msgspec.Struct):
    """A trace as its client tells it."""

    trace_id: str
    request_time: str
    trace_location: Place = msgspec.field(default_factory=Place)
    execution_duration: str | None = None
    state: str | int = TraceState.UNKNOWN.value
    client_request_id: str | None = None
    request_preview: str | None = None
    response_preview: str | None = None
    trace_metadata: dict[str, str] = {}
    tags: dict[str, str] = {}
    assessments: list[dict[str, Any]] = []


def read_trace(fields: TraceFields) -> Trace:
    """Return a trace without its assessments.

    Raises:
        InvalidInputError: A field is missing, too long or not of its kind.
    """
    path = "trace.trace_info"
    check_value(fields.trace_id, _MAX_ID, f"{path}.trace_id")
    if not fields.trace_id:
        raise ParameterMissingError(f"{path}.trace_id")
    if fields.state not in _STATES:
        raise ParameterInvalidError(f"{path}.state", f"there are {', '.join(state.value for state in TraceState)}")
    for name in ("client_request_id", "request_preview", "response_preview"):
        check_value(getattr(fields, name) or "", _MAX_PREVIEW, f"{path}.{name}")
    check_first_tags(len(fields.trace_metadata) + len(fields.tags))
    for kind, items in (("trace_metadata", fields.trace_metadata), ("tags", fields.tags)):
        for name, value in items.items():
            check_item(name, value, f"{path}.{kind}")
    return Trace(
        id=fields.trace_id,
        experiment_id=read_place(fields.trace_location, f"{path}.trace_location"),
        started_at_us=_read_time(fields.request_time, f"{path}.request_time"),
        duration_us=None if fields.execution_duration is None else _read_duration(fields.execution_duration, path),
        state=_STATES[fields.state],
        client_request_id=fields.client_request_id,
        request_preview=fields.request_preview,
        response_preview=fields.response_preview,
        metadata=fields.trace_metadata,
        tags=fields.tags,
    )


def read_place(place: Place, path: str) -> int:
    """Return the number of the experiment where traces are.

    Raises:
        ParameterMissingError: The place is none of MLflow's experiments.
        ExperimentIdError: Its id is no number.
    """
    if place.mlflow_experiment is None:
        raise ParameterMissingError(f"{path}.mlflow_experiment")
    return parse_experiment_id(place.mlflow_experiment.experiment_id)


def check_item(name: str, value: str, path: str) -> None:
    """Check a tag or a piece of metadata of a trace.

    Raises:
        ItemInvalidError: It cannot be kept.
    """
    if not name:
        raise ParameterMissingError(f"{path}.key")
    check_value(name, _MAX_NAME, f"{path}.key")
    check_value(value, _MAX_VALUE, f"{path}.{name[:50]}")


def read_assessment(found: dict[str, Any], trace_id: str, assessment_id: str, now_us: int) -> Assessment:
    """Return what was judged; its content gets its id, its trace's and times.

    Raises:
        AssessmentInvalidError: It has no name, or not exactly one of feedback, expectation and issue.
    """
    name = found.get("assessment_name")
    if not isinstance(name, str) or not name:
        raise AssessmentInvalidError("An assessment must have an assessment_name")
    check_value(name, _MAX_NAME, "assessment.assessment_name")
    kinds = [kind for kind in _KINDS if kind in found]
    if len(kinds) != 1 or not isinstance(found[kinds[0]], dict):
        raise AssessmentInvalidError(f"An assessment must be exactly one of {', '.join(_KINDS)}, but it has {kinds}")
    now = write_time(now_us)
    content = {"valid": True, "create_time": now, "last_update_time": now} | found
    content |= {"assessment_id": assessment_id, "trace_id": trace_id}
    check_text(msgspec.json.encode(content).decode(), "assessment")
    return Assessment(
        id=assessment_id,
        trace_id=trace_id,
        name=name,
        kind=kinds[0],
        value=_shown(found[kinds[0]]),
        is_valid=bool(content["valid"]),
        created_at_us=now_us,
        content=content,
    )


def write_trace(trace: Trace) -> dict[str, Any]:
    """Return a trace without its spans as clients read it."""
    optional = {
        "client_request_id": trace.client_request_id,
        "request_preview": trace.request_preview,
        "response_preview": trace.response_preview,
        "execution_duration": None if trace.duration_us is None else f"{trace.duration_us / 1e6:.6f}s",
    }
    return {
        "trace_id": trace.id,
        "trace_location": {
            "type": "MLFLOW_EXPERIMENT",
            "mlflow_experiment": {"experiment_id": str(trace.experiment_id)},
        },
        "request_time": write_time(trace.started_at_us),
        "state": trace.state.value,
        "trace_metadata": trace.metadata,
        "tags": trace.tags,
        "assessments": [assessment.content for assessment in trace.assessments],
    } | {name: value for name, value in optional.items() if value is not None}


def write_whole(trace: Trace, spans: Sequence[msgspec.Raw]) -> dict[str, Any]:
    """Return a trace with its spans as clients read it."""
    return {"trace_info": write_trace(trace), "spans": spans}


def write_time(at_us: int) -> str:
    """Return an instant as the JSON of Protocol Buffers has it."""
    return from_us(at_us).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _read_time(text: str, path: str) -> int:
    try:
        found = msgspec.convert(text, datetime)
    except msgspec.ValidationError as error:
        raise ParameterInvalidError(path, "write it as 2026-01-31T12:00:00Z") from error
    if found.tzinfo is None:
        raise ParameterInvalidError(path, "it must end with a time zone, such as Z")
    return to_us(found)


def _read_duration(text: str, path: str) -> int:
    try:
        if not text.endswith("s"):
            raise ValueError(text)
        found = round(float(text[:-1]) * 1e6)
    except (ValueError, OverflowError) as error:
        raise ParameterInvalidError(f"{path}.execution_duration", "write it as 1.5s") from error
    if not 0 <= found < 2**63:
        raise ParameterInvalidError(f"{path}.execution_duration", "it must not be negative")
    return found


def _shown(body: dict[str, Any]) -> str:
    """Return what filters compare: texts as they are, all else as JSON."""
    value = body.get("value", body.get("issue_name"))
    if value is None and isinstance(body.get("serialized_value"), dict):
        value = body["serialized_value"].get("value")
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
