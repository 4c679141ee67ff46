"""Traces: told by clients, sent as spans, found, tagged, judged, deleted."""

import re
from typing import Any

import msgspec

from flyball.core.errors import InvalidInputError
from flyball.domain.tracking.client_runs import BatchTooLargeError, check_time_ms
from flyball.domain.tracking.experiments import parse_experiment_id
from flyball.domain.tracking.traces import TraceNotFoundError
from flyball.server.mlflow.answers import JSON, Answer
from flyball.server.mlflow.experiments import read_limit
from flyball.server.mlflow.otlp import PROTOBUF, read_spans
from flyball.server.mlflow.requests import Int64, ParameterMissingError, Request
from flyball.server.mlflow.routing import MAX_BODY_BYTES, Kind, Route, Work, read, write
from flyball.server.mlflow.trace_wire import (
    Place,
    TraceFields,
    check_item,
    read_assessment,
    read_place,
    read_trace,
    write_time,
    write_trace,
    write_whole,
)
from flyball.storage.db import Transaction
from flyball.workspace.home import Home

EXPERIMENT_HEADER = b"x-mlflow-experiment-id"
RUN_HEADER = b"x-mlflow-run-id"
_MAX_PAGE = 500
_MAX_AT_ONCE = 1_000
_MAX_EXPERIMENTS = 10_000
_MAX_SPANS = 20_000
_A = "/api/2.0/mlflow/traces"
_B = "/api/3.0/mlflow/traces"
_CHANGEABLE = ("assessment_name", "expectation", "feedback", "rationale", "metadata", "valid")


class Told(msgspec.Struct):
    """A trace; spans come by OpenTelemetry."""

    trace_info: TraceFields


class Start(msgspec.Struct):
    """A trace to be kept."""

    trace: Told


class Reference(msgspec.Struct):
    """One trace."""

    trace_id: str


class References(msgspec.Struct):
    """Some traces."""

    trace_ids: list[str]
    experiment_ids: list[str] | None = None


class Search(msgspec.Struct):
    """What traces to show."""

    locations: list[Place]
    filter: str | None = None
    max_results: Int64 | None = None
    order_by: list[str] | None = None
    page_token: str | None = None


class Deletion(msgspec.Struct):
    """Traces to be deleted: by id, or the oldest until an instant."""

    experiment_id: str
    max_timestamp_millis: Int64 | None = None
    max_traces: Int64 | None = None
    request_ids: list[str] | None = None
    trace_ids: list[str] | None = None


class Tag(msgspec.Struct):
    """A tag of a trace."""

    key: str
    value: str = ""


class TagName(msgspec.Struct):
    """A tag of a trace to be removed."""

    key: str


class RunLink(msgspec.Struct):
    """Traces that belong to a run."""

    trace_ids: list[str]
    run_id: str


class Prompt(msgspec.Struct):
    """A version of a prompt."""

    name: str
    version: str


class PromptLink(msgspec.Struct):
    """Versions of prompts that a trace used."""

    trace_id: str
    prompt_versions: list[Prompt]


class Judgement(msgspec.Struct):
    """What is judged of a trace."""

    assessment: dict[str, Any]


class Change(msgspec.Struct):
    """What changes of an assessment."""

    assessment: dict[str, Any]
    update_mask: str


def start(home: Home, request: Request) -> Work:
    """Keep a trace that its client tells of, mostly when it has ended."""
    fields = request.decode(Start).trace.trace_info
    trace, now_us = read_trace(fields), home.traces.now_us()
    assessments = [
        read_assessment(found, trace.id, str(found.get("assessment_id") or home.traces.new_assessment_id()), now_us)
        for found in fields.assessments
    ]
    trace = msgspec.structs.replace(trace, assessments=assessments)
    return lambda tx: {"trace": {"trace_info": write_trace(home.traces.put(tx, trace))}}


def get_info(home: Home, request: Request) -> Any:
    """Return a trace without its spans."""
    return {"trace": {"trace_info": write_trace(home.traces.get(request.values["trace_id"]))}}


def get(home: Home, request: Request) -> Any:
    """Return a trace with its spans."""
    trace_id = request.decode(Reference).trace_id
    found = home.traces.list_with_spans([trace_id])
    if not found:
        raise TraceNotFoundError(trace_id)
    return {"trace": write_whole(*found[0])}


def get_some(home: Home, request: Request) -> Any:
    """Return those of some traces that are there, with their spans."""
    wanted, experiments = _wanted(request)
    found = home.traces.list_with_spans(wanted)
    return {
        "traces": [
            write_whole(trace, spans)
            for trace, spans in found
            if experiments is None or trace.experiment_id in experiments
        ]
    }


def get_some_infos(home: Home, request: Request) -> Any:
    """Return those of some traces that are there, without their spans."""
    wanted, experiments = _wanted(request)
    found = home.traces.list_traces(wanted)
    return {
        "trace_infos": [
            write_trace(trace) for trace in found if experiments is None or trace.experiment_id in experiments
        ]
    }


def search(home: Home, request: Request) -> Any:
    """Return a page of traces."""
    fields = request.decode(Search)
    if len(fields.locations) > _MAX_EXPERIMENTS:
        raise BatchTooLargeError("locations", _MAX_EXPERIMENTS, len(fields.locations))
    found, token = home.traces.search(
        [read_place(place, f"locations[{number}]") for number, place in enumerate(fields.locations)],
        filter_text=fields.filter or "",
        orders=fields.order_by or [],
        limit=read_limit(fields.max_results, 100, _MAX_PAGE),
        token=fields.page_token or "",
    )
    answer: dict[str, Any] = {"traces": [write_trace(trace) for trace in found]}
    return answer | ({"next_page_token": token} if token else {})


def delete(home: Home, request: Request) -> Work:
    """Remove traces."""
    fields = request.decode(Deletion)
    experiment_id, wanted = parse_experiment_id(fields.experiment_id), fields.request_ids or fields.trace_ids
    if (not wanted) == (fields.max_timestamp_millis is None):
        raise ParameterMissingError("request_ids or max_timestamp_millis (one of them, not both)")
    if wanted and fields.max_traces is not None:
        raise InvalidInputError("max_traces goes with max_timestamp_millis, not with request_ids")
    if wanted is not None and len(wanted) > _MAX_AT_ONCE:
        raise BatchTooLargeError("request_ids", _MAX_AT_ONCE, len(wanted))
    limit = None if fields.max_traces is None else read_limit(fields.max_traces, 0, 2**31)
    until = fields.max_timestamp_millis
    until_us = None if until is None else check_time_ms(until, "max_timestamp_millis") + 999
    return lambda tx: {
        "traces_deleted": home.traces.delete(
            tx, experiment_id, trace_ids=wanted or None, until_us=until_us, limit=limit
        )
    }


def set_tag(home: Home, request: Request) -> Work:
    """Keep a tag."""
    fields, trace_id = request.decode(Tag), request.values["trace_id"]
    check_item(fields.key, fields.value, "tag")
    return lambda tx: home.traces.set_tag(tx, trace_id, fields.key, fields.value)


def delete_tag(home: Home, request: Request) -> Work:
    """Remove a tag."""
    fields, trace_id = request.decode(TagName), request.values["trace_id"]
    return lambda tx: home.traces.delete_tag(tx, trace_id, fields.key)


def link_run(home: Home, request: Request) -> Work:
    """Let traces belong to a run."""
    fields = request.decode(RunLink)
    if len(fields.trace_ids) > _MAX_AT_ONCE:
        raise BatchTooLargeError("trace_ids", _MAX_AT_ONCE, len(fields.trace_ids))
    return lambda tx: home.traces.link_run(tx, fields.trace_ids, fields.run_id)


def link_prompts(home: Home, request: Request) -> Work:
    """Keep which versions of prompts a trace used."""
    fields = request.decode(PromptLink)
    prompts = [{"name": prompt.name, "version": prompt.version} for prompt in fields.prompt_versions]
    return lambda tx: home.traces.link_prompts(tx, fields.trace_id, prompts)


def assess(home: Home, request: Request) -> Work:
    """Keep what was judged of a trace."""
    fields, trace_id = request.decode(Judgement), request.values["trace_id"]
    found = read_assessment(fields.assessment, trace_id, home.traces.new_assessment_id(), home.traces.now_us())
    return lambda tx: {"assessment": home.traces.assess(tx, found).content}


def get_assessment(home: Home, request: Request) -> Any:
    """Return an assessment."""
    found = home.traces.get_assessment(request.values["trace_id"], request.values["assessment_id"])
    return {"assessment": found.content}


def change_assessment(home: Home, request: Request) -> Work:
    """Change parts of an assessment."""
    fields = request.decode(Change)
    trace_id, assessment_id = request.values["trace_id"], request.values["assessment_id"]
    paths = [re.sub("([A-Z])", r"_\1", path).lower() for path in fields.update_mask.split(",")]
    changed = {path: fields.assessment[path] for path in paths if path in _CHANGEABLE and path in fields.assessment}

    def work(tx: Transaction) -> Any:
        before = home.traces.get_assessment(trace_id, assessment_id, tx=tx)
        content = before.content | changed | {"last_update_time": write_time(home.traces.now_us())}
        found = read_assessment(content, trace_id, assessment_id, before.created_at_us)
        return {"assessment": home.traces.assess(tx, found).content}

    return work


def delete_assessment(home: Home, request: Request) -> Work:
    """Remove an assessment."""
    trace_id, assessment_id = request.values["trace_id"], request.values["assessment_id"]
    return lambda tx: home.traces.delete_assessment(tx, trace_id, assessment_id)


def receive_spans(home: Home, request: Request) -> Work:
    """Keep spans as OpenTelemetry's exporters send them."""
    experiment = request.header(EXPERIMENT_HEADER)
    if not experiment:
        raise ParameterMissingError(f"the header {EXPERIMENT_HEADER.decode()}")
    experiment_id = parse_experiment_id(experiment)
    media_type = request.header(b"content-type").partition(";")[0].strip().lower()
    encoding = request.header(b"content-encoding").strip().lower()
    spans = read_spans(request.body, media_type, encoding, MAX_BODY_BYTES)
    if len(spans) > _MAX_SPANS:
        raise BatchTooLargeError("spans", _MAX_SPANS, len(spans))
    run_id = request.header(RUN_HEADER)

    def work(tx: Transaction) -> Answer:
        home.traces.put_spans(tx, experiment_id, spans, run_id=run_id)
        # An answer without fields, in either form.
        return Answer(b"", PROTOBUF) if media_type == PROTOBUF else Answer(b"{}")

    return work


def _wanted(request: Request) -> tuple[list[str], set[int] | None]:
    fields = request.decode(References)
    if len(fields.trace_ids) > _MAX_AT_ONCE:
        raise BatchTooLargeError("trace_ids", _MAX_AT_ONCE, len(fields.trace_ids))
    experiments = fields.experiment_ids
    return fields.trace_ids, None if experiments is None else {parse_experiment_id(text) for text in experiments}


ROUTES: tuple[Route, ...] = (
    Route(method="POST", path="/v1/traces", handler=receive_spans, kind=Kind.WRITE, media_types=(JSON, PROTOBUF)),
    write("POST", _B, start),
    read("GET", _B + "/get", get),
    read("GET", _B + "/batchGet", get_some),
    read("POST", _B + "/batchGetInfos", get_some_infos),
    read("POST", _B + "/search", search),
    read("GET", _B + "/{trace_id}", get_info),
    *(
        route
        for prefix in (_A, _B)
        for route in (
            write("POST", prefix + "/delete-traces", delete),
            write("PATCH", prefix + "/{trace_id}/tags", set_tag),
            write("DELETE", prefix + "/{trace_id}/tags", delete_tag),
        )
    ),
    write("POST", _A + "/link-to-run", link_run),
    write("POST", _A + "/link-prompts", link_prompts),
    write("POST", _B + "/{trace_id}/assessments", assess),
    read("GET", _B + "/{trace_id}/assessments/{assessment_id}", get_assessment),
    write("PATCH", _B + "/{trace_id}/assessments/{assessment_id}", change_assessment),
    write("DELETE", _B + "/{trace_id}/assessments/{assessment_id}", delete_assessment),
)
