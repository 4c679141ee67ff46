"""Whatever is sent, the answer is a client's error with a reason; never a 500, and nothing half kept."""

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyball.server.mlflow.areas import ROUTES
from flyball.server.mlflow.routing import Kind
from flyball.workspace.home import Home
from tests.server.mlflow.calls import Calls

_TRACKING = ("experiments/", "runs/", "metrics/")
PLACES = [
    (route.method, route.path)
    for route in ROUTES
    if route.kind is not Kind.STREAM and any(part in route.path for part in _TRACKING)
]
FIELDS = (
    "experiment_id", "experiment_ids", "experiment_name", "name", "new_name", "run_id", "run_uuid", "run_ids",
    "key", "value", "timestamp", "step", "metrics", "params", "tags", "datasets", "models", "model_json",
    "filter", "order_by", "max_results", "page_token", "run_view_type", "view_type", "status", "start_time",
    "end_time", "run_name", "user_id", "metric_key", "start_step", "end_step", "artifact_location",
)  # fmt: skip
TEXTS = (
    "",
    "0",
    "1",
    "x",
    "NaN",
    "Infinity",
    "é",
    "\0",
    "\ud800",
    "a/../b",
    "' OR 1=1 --",
    "%",
    "x" * 9_000,
    "\\",
    "`",
)
_plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(TEXTS)
    | st.text(max_size=8)
)
_values = st.recursive(
    _plain,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*FIELDS, "dataset"]), inner, max_size=4)
    ),
    max_leaves=8,
)
_numbers = count()
_bodies = st.dictionaries(st.sampled_from(FIELDS), _values, max_size=6)


@given(data=st.data())
@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_makes_the_server_fail(calls: Calls, data: st.DataObject) -> None:
    method, path = data.draw(st.sampled_from(PLACES))
    fields = data.draw(_bodies)
    if data.draw(st.booleans()):
        experiment = calls.post("experiments/create", name=f"e{next(_numbers)}")["experiment_id"]
        fields["run_id"] = calls.post("runs/create", experiment_id=experiment)["run"]["info"]["run_id"]
        fields.setdefault("experiment_id", experiment)
        fields.setdefault("experiment_ids", [experiment])
    if method == "GET":
        query = {name: value for name, value in fields.items() if isinstance(value, str | int | float | list)}
        reply = calls.send(method, path, **{name: _utf8(value) for name, value in query.items()})
    else:
        reply = calls.send(method, path, json.dumps(fields).encode())
    assert reply.status in (200, 400, 404, 413), (path, fields, reply.body)
    if reply.status != 200:
        assert reply.json()["message"]
        assert reply.json()["error_code"] in (
            "INVALID_PARAMETER_VALUE",
            "RESOURCE_DOES_NOT_EXIST",
            "RESOURCE_ALREADY_EXISTS",
        )


@given(body=st.binary(max_size=60))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_make_the_server_fail(calls: Calls, body: bytes) -> None:
    assert calls.send("POST", "/api/2.0/mlflow/runs/log-batch", body).status == 400


@given(filter_text=st.text(alphabet="ab'`\"().<>=! \n\tANDORLIKEIN0123e-+;%_\\", max_size=40))
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_filter_makes_the_server_fail(calls: Calls, filter_text: str) -> None:
    for text in (filter_text, f"metrics.a > {filter_text}", f"params.{filter_text} = 'x'", f"tags.a = '{filter_text}'"):
        assert calls.refused("runs/search", experiment_ids=["0"], filter=text).status in (200, 400)
        assert calls.refused("experiments/search", filter=text, max_results=5).status in (200, 400)


@pytest.mark.parametrize("body", [b"[]", b"3", b'"x"', b"null", b"true", b"[{}]"])
def test_a_body_that_is_no_object_is_refused_everywhere(calls: Calls, body: bytes) -> None:
    for method, path in PLACES:
        if method == "POST":
            reply = calls.send(method, path, body)
            assert reply.error == (400, "INVALID_PARAMETER_VALUE"), path
            assert "JSON object" in reply.json()["message"]


def test_a_run_that_is_deleted_between_two_calls_takes_nothing_more(calls: Calls, home: Home) -> None:
    run_id = _run(calls)

    def log(step: int) -> int:
        if step == 20:
            calls.post("runs/delete", run_id=run_id)
            return 0
        metrics = [{"key": key, "value": 1, "timestamp": 1, "step": step} for key in ("a", "b", "c")]
        return calls.refused("runs/log-batch", run_id=run_id, metrics=metrics).status

    with ThreadPoolExecutor(4) as threads:
        statuses = list(threads.map(log, range(60)))
    kept = statuses.count(200)
    assert set(statuses) <= {0, 200, 400}
    for key in ("a", "b", "c"):
        assert len(home.tracking.list_points(run_id, key)) == kept


def test_a_body_that_is_too_long_is_refused_unread(calls: Calls) -> None:
    body = b'{"run_id": "' + b"x" * 33_000_000 + b'"}'
    reply = calls.send("POST", "/api/2.0/mlflow/runs/log-batch", body)
    assert reply.error == (413, "INVALID_PARAMETER_VALUE")
    assert reply.headers["connection"] == "close"
    assert "several requests" in reply.json()["message"] and "max_body_bytes" not in reply.json()["message"]


def _run(calls: Calls) -> str:
    run_id: str = calls.post("runs/create", experiment_id="0")["run"]["info"]["run_id"]
    return run_id


def _utf8(value: Any) -> Any:
    if isinstance(value, list):
        return [str(item).encode(errors="replace").decode() for item in value]
    return str(value).encode(errors="replace").decode()
