"""Traces over plain HTTP: what the client's own tests do not reach."""

import asyncio
import json
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from flyball.server.mlflow.app import MlflowApp
from flyball.workspace.home import Home
from tests.server.mlflow.calls import Calls, Reply

A, B = "/api/2.0/mlflow/traces", "/api/3.0/mlflow/traces"
PLACE = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}


def send(calls: Calls, method: str, path: str, **fields: Any) -> Any:
    reply = calls.send(method, path, json.dumps(fields).encode())
    assert reply.status == 200, reply.body
    return reply.json()


def start(calls: Calls, trace_id: str, **fields: Any) -> Any:
    told = {
        "trace_id": trace_id,
        "trace_location": PLACE,
        "request_time": "2026-01-02T03:04:05.678Z",
        "execution_duration": "0.25s",
        "state": "OK",
    }
    return send(calls, "POST", B, trace={"trace_info": told | fields})["trace"]["trace_info"]


def export(home: Home, *spans: WireSpan, experiment: bytes = b"0") -> Reply:
    """Send spans; the headers are not those of JSON."""
    body = ExportTraceServiceRequest()
    body.resource_spans.add().scope_spans.add().spans.extend(spans)
    content, sent = body.SerializeToString(), []
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/traces",
        "raw_path": b"/v1/traces",
        "query_string": b"",
        "headers": [(b"content-type", b"application/x-protobuf"), (b"x-mlflow-experiment-id", experiment)],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    async def keep(message: Any) -> None:
        sent.append(message)

    app = MlflowApp(home)
    asyncio.run(app(scope, receive, keep))
    app.close()
    return Reply(sent[0]["status"], {}, sent[1]["body"])


def span(number: int, *, parent: int = 0, **fields: Any) -> WireSpan:
    found = WireSpan(
        trace_id=b"t" * 16,
        span_id=number.to_bytes(8, "big"),
        parent_span_id=parent.to_bytes(8, "big") if parent else b"",
        start_time_unix_nano=1_000_000_000 + number,
        end_time_unix_nano=2_000_000_000 + number,
    )
    return WireSpan(**{name.name: value for name, value in found.ListFields()} | fields)


TRACE = f"tr-{(b't' * 16).hex()}"


def test_a_trace_is_told_and_read_back(calls: Calls) -> None:
    start(calls, "tr-1", tags={"a": "b"}, trace_metadata={"c": "d"}, request_preview="{}", client_request_id="mine")
    found = calls.send("GET", f"{B}/tr-1").json()["trace"]["trace_info"]
    assert found["tags"].pop("mlflow.artifactLocation") == "mlflow-artifacts:/0/traces/tr-1/artifacts"
    assert found == {
        "trace_id": "tr-1",
        "trace_location": PLACE,
        "request_time": "2026-01-02T03:04:05.678000Z",
        "execution_duration": "0.250000s",
        "state": "OK",
        "client_request_id": "mine",
        "request_preview": "{}",
        "trace_metadata": {"c": "d"},
        "tags": {"a": "b"},
        "assessments": [],
    }


def test_spans_alone_make_a_trace(home: Home, calls: Calls) -> None:
    """Any exporter of OpenTelemetry can send here; children come before the root."""
    child = span(2, parent=1, name="step")
    assert export(home, child).status == 200
    before = calls.send("GET", f"{B}/{TRACE}").json()["trace"]["trace_info"]
    assert before["state"] == "IN_PROGRESS" and "execution_duration" not in before
    asked = KeyValue(key="mlflow.spanInputs", value=AnyValue(string_value='{"q": 1}'))
    assert export(home, span(1, name="root", attributes=[asked], status=Status(code=2))).status == 200
    found = calls.send("GET", f"{B}/get", trace_id=TRACE).json()["trace"]
    info = found["trace_info"]
    assert (info["state"], info["execution_duration"], info["request_preview"]) == ("ERROR", "1.000000s", '{"q": 1}')
    assert info["tags"]["mlflow.traceName"] == "root"
    assert [kept["name"] for kept in found["spans"]] == ["root", "step"]
    start(calls, TRACE, tags={"kind": "told"})
    export(home, span(3, parent=1, name="late"))
    told = calls.send("GET", f"{B}/get", trace_id=TRACE).json()["trace"]
    assert told["trace_info"]["state"] == "OK" and len(told["spans"]) == 3
    assert told["trace_info"]["tags"]["mlflow.traceName"] == "root"


def test_pages_go_on_where_they_ended(calls: Calls) -> None:
    for number in range(7):
        start(
            calls, f"tr-{number}", request_time=f"2026-01-0{number // 3 + 1}T00:00:00Z", execution_duration=f"{number}s"
        )
    for order in ([], ["timestamp ASC"], ["execution_time DESC"], ["name", "request_id DESC"], ["run_id", "status"]):
        found: list[str] = []
        token = ""
        while True:
            page = send(
                calls, "POST", f"{B}/search", locations=[PLACE], max_results=2, order_by=order, page_token=token
            )
            found += [trace["trace_id"] for trace in page["traces"]]
            token = page.get("next_page_token", "")
            if not token:
                break
        assert sorted(found) == [f"tr-{number}" for number in range(7)], order
    assert found[0] == "tr-0"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {"tr-a", "tr-b"}),
        ("attributes.status = 'ERROR'", {"tr-b"}),
        ("status IN ('OK', 'ERROR') AND trace.name = 'one'", {"tr-a"}),
        ("tags.kind IS NULL", {"tr-b"}),
        ("metadata.`mlflow.modelId` = 'm-1'", {"tr-b"}),
        ("timestamp_ms >= 1767323045678", {"tr-a", "tr-b"}),
        ("execution_time_ms < 200", {"tr-b"}),
        ("end_time > 1767323045828", {"tr-a"}),
        ("request_id != 'tr-a'", {"tr-b"}),
        ("run_id = 'r'", {"tr-b"}),
        ("name ILIKE 'ONE%'", {"tr-a"}),
        ("tags.kind = 'x'' OR 1 = 1 --'", set()),
    ],
)
def test_filters(calls: Calls, text: str, expected: set[str]) -> None:
    start(calls, "tr-a", tags={"kind": "x", "mlflow.traceName": "one"})
    about = {"mlflow.modelId": "m-1", "mlflow.sourceRun": "r"}
    start(calls, "tr-b", state="ERROR", execution_duration="0.1s", trace_metadata=about)
    found = send(calls, "POST", f"{B}/search", locations=[PLACE], filter=text)["traces"]
    assert {trace["trace_id"] for trace in found} == expected


def test_the_oldest_are_deleted_up_to_an_instant(home: Home, calls: Calls) -> None:
    for number in range(1, 6):
        start(calls, f"tr-{number}", request_time=f"2026-01-0{number}T00:00:00Z")
    until = 1_767_225_600_000 + 3 * 86_400_000
    body = {"experiment_id": "0", "max_timestamp_millis": until, "max_traces": 2}
    assert send(calls, "POST", f"{A}/delete-traces", **body) == {"traces_deleted": 2}
    left = {trace["trace_id"] for trace in send(calls, "POST", f"{B}/search", locations=[PLACE])["traces"]}
    assert left == {"tr-3", "tr-4", "tr-5"}
    assert send(calls, "POST", f"{A}/delete-traces", experiment_id="0", request_ids=["tr-3", "no"]) == {
        "traces_deleted": 1
    }
    with home.db.read() as tx:
        assert tx.value("SELECT count(*) FROM tracking_trace_item WHERE trace <= 3") == 0
    assert [event.data for event in home.journal.list_events(kinds=["tracking.traces.deleted"])] == [
        {"traces": 2},
        {"traces": 1},
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"trace_id": ""},
        {"trace_id": "x" * 251},
        {"trace_id": "nul\0"},
        {"trace_location": {"type": "INFERENCE_TABLE"}},
        {"trace_location": {"mlflow_experiment": {"experiment_id": "x"}}},
        {"request_time": "yesterday"},
        {"request_time": "2026-01-01T00:00:00"},
        {"request_time": 5},
        {"execution_duration": "soon"},
        {"execution_duration": "-1s"},
        {"execution_duration": "infs"},
        {"state": "DONE"},
        {"tags": {"": "x"}},
        {"tags": {"k": 5}},
        {"tags": ["k"]},
        {"trace_metadata": {"k": "v" * 8_001}},
        {"assessments": [{"assessment_name": "x"}]},
        {"assessments": [{"feedback": {"value": 1}}]},
        {"assessments": [{"assessment_name": "x", "feedback": {"value": 1}, "expectation": {"value": 1}}]},
    ],
)
def test_a_bad_trace_is_refused(calls: Calls, fields: dict[str, Any]) -> None:
    told = {"trace_id": "tr-1", "trace_location": PLACE, "request_time": "2026-01-02T03:04:05Z"} | fields
    reply = calls.send("POST", B, json.dumps({"trace": {"trace_info": told}}).encode())
    assert reply.error == (400, "INVALID_PARAMETER_VALUE")
    assert calls.send("GET", f"{B}/tr-1").error == (404, "RESOURCE_DOES_NOT_EXIST")


def test_what_is_not_there_is_said(home: Home, calls: Calls) -> None:
    missing = (404, "RESOURCE_DOES_NOT_EXIST")
    good = json.dumps({"assessment": {"assessment_name": "x", "feedback": {"value": 1}}}).encode()
    assert calls.send("GET", f"{B}/get", trace_id="no").error == missing
    assert calls.send("PATCH", f"{A}/no/tags", b'{"key": "k", "value": "v"}').error == missing
    assert calls.send("POST", f"{B}/no/assessments", good).error == missing
    assert calls.send("POST", f"{A}/link-to-run", b'{"trace_ids": [], "run_id": "no"}').error == missing
    assert calls.send("GET", f"{B}/batchGet", trace_ids=["no"]).json() == {"traces": []}
    assert export(home, span(1, name="x"), experiment=b"77").error == missing
    assert export(home, span(1, name="x"), experiment=b"x").error == (400, "INVALID_PARAMETER_VALUE")
    assert calls.send("POST", "/v1/traces", b"{}").error == (400, "INVALID_PARAMETER_VALUE")
    start(calls, "tr-1")
    assert calls.send("GET", f"{B}/tr-1/assessments/a-1").error == missing
    replacing = {"assessment_name": "x", "feedback": {"value": 1}, "overrides": "a-1"}
    assert calls.send("POST", f"{B}/tr-1/assessments", json.dumps({"assessment": replacing}).encode()).error == missing
    for body in (b'{"experiment_id": "0"}', b'{"experiment_id": "0", "request_ids": ["a"], "max_timestamp_millis": 1}'):
        assert calls.send("POST", f"{A}/delete-traces", body).error == (400, "INVALID_PARAMETER_VALUE")


def test_a_page_of_traces_is_found_by_an_index(home: Home, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--database") != "sqlite":
        pytest.skip("the plan is asked for in SQLite's words")
    with home.db.read() as tx:
        plan = tx.rows(
            "EXPLAIN QUERY PLAN SELECT id FROM tracking_trace AS t WHERE t.experiment_id IN (?)"
            " ORDER BY t.started_at_us DESC, t.id ASC LIMIT 10",
            (0,),
        )
    assert any("tracking_trace_experiment" in row["detail"] for row in plan)
    assert not any("TEMP B-TREE" in row["detail"] for row in plan)
