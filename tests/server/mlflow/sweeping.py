"""What requests to the MLflow protocol are made of: every route's fields, good values for them, and bad ones."""

import asyncio
import base64
import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any, NoReturn
from urllib.parse import quote

import msgspec
import msgspec.inspect as inspecting

from flyball.core.errors import InvalidInputError, NotFoundError
from flyball.server.mlflow.areas import ROUTES
from flyball.server.mlflow.requests import Request
from flyball.server.mlflow.routing import Kind, Route
from flyball.storage.catalog import list_shapes, read_pages
from flyball.workspace.home import Home
from tests.server.mlflow.calls import Calls, Reply

# As JSON, so that there are also values that no Python object becomes.
BAD_VALUES = (
    "null", "1.5", "1" + "0" * 40, "1e400", "[null]", '["x"]', '{"a": 1}', '""', r'"a\u0000b"', r'"\ud800"', '"../.."',
    json.dumps("x" * 70_000),
)  # fmt: skip
MORE_VALUES = (
    "true", "-1", "0", "9223372036854775808", "-1e400", "[]", "[1]", "{}", "[[[]]]", "[{}]", '" "', '"x"', '"-7"',
    '"12345678901234567890123"', '"NaN"', r'"\u0000"', '"%2e%2e"', '"\'; DROP TABLE tracking_run; --"', '"*"', r'"\n"',
    '"é\u202e\U0001f3af"', json.dumps(base64.urlsafe_b64encode(b"[1]").decode()),
)  # fmt: skip
BAD_SEGMENTS = ("%00", "a%00b", "%ff", "..", "%2e%2e", "%2F", "x" * 5_000, "%27%3B%20DROP", "%C3%A9", "%25", "*", "-1")
BAD_BODIES = (
    b"{", b"[]", b"[{}]", b"3", b'"x"', b"null", b"true", b"\xff\xfe", b"\0", b"{" * 100_000, b'{"a":' * 100_000,
    b"{'name': 1}", b'{"name": "x",}', b'{"name": "\x01"}', b"NaN", b"a=b&c=d",
)  # fmt: skip
CODES = {
    400: {"INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS"},
    403: {"PERMISSION_DENIED"},
    404: {"RESOURCE_DOES_NOT_EXIST", "ENDPOINT_NOT_FOUND"},
    405: {"ENDPOINT_NOT_FOUND"},
    413: {"INVALID_PARAMETER_VALUE"},
}
_fresh = count()


class _FoundError(Exception):
    """Carries the type that a handler decodes its request as."""

    def __init__(self, type_: type[Any]) -> None:
        self.type = type_


class _Asking(Request):
    """Stands for any request, to find what its handler reads of it."""

    def decode(self, type_: type[Any]) -> NoReturn:
        raise _FoundError(type_)

    async def read_body(self, *_: Any, **__: Any) -> None:
        return


class _Nobody:
    """Stands for the home while a handler reads its request: nothing is asked of it before."""

    def __getattr__(self, name: str) -> "_Nobody":
        return self

    def __call__(self) -> "_Nobody":
        return self


class _Anything(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "x"


def type_of(route: Route) -> type[Any] | None:
    """Return the struct that a route's body or query is; None where it reads none."""

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def commit(_work: Any) -> Any:
        return None

    request = _Asking(route.method, route.path, b"", [], receive, commit, values=_Anything())
    try:
        found = route.handler(_Nobody(), request)
        if route.kind is Kind.STREAM:
            asyncio.run(found)
    except _FoundError as error:
        return error.type
    except (TypeError, InvalidInputError, NotFoundError):
        return None
    return None


def named_routes() -> Iterator[tuple[str, Route]]:
    """Yield every route that is no file's, with a name for its test."""
    for route in ROUTES:
        if "{path:path}" not in route.path or "/mpu/" in route.path:
            yield f"{route.method} {route.path}", route


class World:
    """A store that holds one of everything, and requests about it that are good."""

    def __init__(self, home: Home, calls: Calls) -> None:
        self._home = home
        self._calls = calls
        self._beside: sqlite3.Connection | None = None
        number = next(_fresh)
        self.model_name, self.experiment_name = f"m{number}", f"e{number}"
        self.experiment = calls.post("experiments/create", name=self.experiment_name)["experiment_id"]
        run = calls.post("runs/create", experiment_id=self.experiment, run_name="r")["run"]["info"]
        self.run: str = run["run_id"]
        metric = {"key": "m", "value": 1.0, "timestamp": 5}
        batch: dict[str, Any] = {"metrics": [metric], "params": [{"key": "p", "value": "1"}]}
        calls.post("runs/log-batch", run_id=self.run, tags=[{"key": "k", "value": "v"}], **batch)
        self.root = f"{self.experiment}/{self.run}/artifacts"
        calls.send("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{self.root}/model/MLmodel", b"x", "text/plain")
        self.model: str = calls.post("logged-models", experiment_id=self.experiment)["model"]["info"]["model_id"]
        self._send("PATCH", f"/api/2.0/mlflow/logged-models/{self.model}/tags", tags=[{"key": "k", "value": "v"}])
        calls.post("registered-models/create", name=self.model_name, tags=[{"key": "k", "value": "v"}])
        version = {"name": self.model_name, "version": "1"}
        calls.post("model-versions/create", name=self.model_name, source=f"runs:/{self.run}/model", run_id=self.run)
        calls.post("model-versions/set-tag", **version, key="k", value="v")
        calls.post("registered-models/alias", **version, alias="champion")
        calls.post("experiments/set-experiment-tag", experiment_id=self.experiment, key="k", value="v")
        self.trace = f"tr-{number}"
        self._tell_trace(self.trace)
        assessment = {"assessment_name": "a", "feedback": {"value": 1}}
        made = self._send("POST", f"/api/3.0/mlflow/traces/{self.trace}/assessments", assessment=assessment)
        self.assessment: str = made["assessment"]["assessment_id"]
        hook: dict[str, Any] = {"name": f"w{number}", "url": "http://127.0.0.1:9/"}
        events = [{"entity": "MODEL_VERSION", "action": "CREATED"}]
        self.webhook: str = calls.post("webhooks", **hook, events=events)["webhook"]["webhook_id"]
        self.upload, self.etag = self._begin_upload("")
        self.upload_below, _ = self._begin_upload(f"/{self.root}")

    def _begin_upload(self, folder: str) -> tuple[str, str]:
        prefix = "/api/2.0/mlflow-artifacts/mpu"
        upload: str = self._send("POST", f"{prefix}/create{folder}", path="f", num_parts=1)["upload_id"]
        return upload, self._calls.send("PUT", f"{prefix}/parts/{upload}/1", b"part", "").headers["etag"]

    def _send(self, method: str, path: str, /, **fields: Any) -> Any:
        reply = self._calls.send(method, path, json.dumps(fields).encode())
        assert reply.status == 200, (path, reply.body)
        return reply.json()

    def add_more(self) -> None:
        """Add a second run, point, logged model, version and trace."""
        tags = [{"key": "k", "value": "v"}]
        self._calls.post("runs/create", experiment_id=self.experiment, tags=tags)
        self._calls.post("runs/log-metric", run_id=self.run, key="m", value=2.0, timestamp=6)
        self._calls.post("logged-models", experiment_id=self.experiment)
        self._calls.post("model-versions/create", name=self.model_name, source="s3://x/y")
        self._tell_trace(f"{self.trace}-more")

    def _tell_trace(self, trace_id: str) -> None:
        place = {"mlflow_experiment": {"experiment_id": self.experiment}}
        told = {"trace_id": trace_id, "trace_location": place, "request_time": "2026-01-01T00:00:00Z", "state": "OK"}
        self._send("POST", "/api/3.0/mlflow/traces", trace={"trace_info": told | {"tags": {"k": "v"}}})

    def path(self, route: Route, **other: str) -> str:
        """Return a route's address for what the world holds."""
        values = {
            "trace_id": self.trace,
            "assessment_id": self.assessment,
            "model_id": self.model,
            "webhook_id": self.webhook,
            "key": "k",
            "upload_id": self.upload,
            "number": "1",
            "path:path": self.root,
        } | other
        return re.sub(r"{([^}]+)}", lambda match: values[match[1]], route.path)

    def good(self, route: Route, type_: type[Any]) -> dict[str, Any]:
        """Return fields with which a route succeeds."""
        return self._struct(type_, self._special(route.path))

    def _special(self, path: str) -> dict[str, Any]:
        """Return the fields that this address wants otherwise than others."""
        fresh = f"f{next(_fresh)}"
        model = {"artifact_path": "m", "flavors": {}, "utc_time_created": "x", "run_id": self.run}
        found: dict[str, dict[str, Any]] = {
            "experiments/create": {"name": fresh},
            "registered-models/create": {"name": fresh},
            "/webhooks": {"name": fresh, "status": "ACTIVE"},
            "/webhooks/{webhook_id}": {"name": fresh, "status": "ACTIVE"},
            "runs/update": {"status": "FINISHED"},
            "runs/search": {"order_by": ["start_time"]},
            "traces/search": {"order_by": ["timestamp"]},
            "logged-models/{model_id}": {"status": "LOGGED_MODEL_READY"},
            "log-model": {"model_json": json.dumps(model)},
            "delete-traces": {"max_timestamp_millis": None, "max_traces": None, "request_ids": [self.trace]},
            "artifacts/list": {"path": "model"},
            "get-artifact": {"path": "model/MLmodel"},
            "mlflow-artifacts/artifacts": {"path": self.root},
        }
        if "/mpu/" in path:
            return {"path": "f", "upload_id": self.upload_below if "{path" in path else self.upload}
        return next((fields for end, fields in found.items() if path.endswith(end)), {})

    def _struct(self, type_: type[Any], special: Mapping[str, Any]) -> dict[str, Any]:
        info = inspecting.type_info(type_)
        assert isinstance(info, inspecting.StructType)
        return {
            field.encode_name: special[field.encode_name]
            if field.encode_name in special
            else self._value(field.encode_name, field.type)
            for field in info.fields
        }

    def _value(self, name: str, type_: inspecting.Type) -> Any:
        kinds = type_.types if isinstance(type_, inspecting.UnionType) else (type_,)
        listed = next((kind for kind in kinds if isinstance(kind, inspecting.ListType)), None)
        if name in ("run_uuid", "experiment_ids", "run_ids") or (name == "run_id" and listed):
            known: Any = {"run_uuid": self.run, "experiment_ids": [self.experiment]}.get(name, [self.run])
            return known
        if listed is not None:
            return [self._value(name, listed.item_type)]
        struct = next((kind for kind in kinds if isinstance(kind, inspecting.StructType)), None)
        if struct is not None:
            return self._struct(struct.cls, {})
        values: dict[str, Any] = {
            "experiment_id": self.experiment,
            "run_id": self.run,
            "source_run_id": self.run,
            "model_id": self.model,
            "trace_id": self.trace,
            "trace_ids": self.trace,
            "name": self.model_name,
            "new_name": f"f{next(_fresh)}",
            "experiment_name": self.experiment_name,
            "version": "1",
            "alias": "champion",
            "source": f"runs:/{self.run}/model",
            "stage": "Staging",
            "stages": "Staging",
            "status": None,
            "url": "http://127.0.0.1:9/",
            "entity": "MODEL_VERSION",
            "action": "CREATED",
            "key": "k",
            "value": 1.0 if any(isinstance(kind, inspecting.FloatType) for kind in kinds) else "v",
            "metric_key": "m",
            "dataset_name": "d",
            "filter": "",
            "order_by": "creation_time" if any(isinstance(kind, inspecting.StrType) for kind in kinds) else None,
            "field_name": "creation_time",
            "page_token": "",
            "artifact_location": "",
            "request_time": "2026-01-01T00:00:00Z",
            "execution_duration": "1.5s",
            "state": "OK",
            "num_parts": 1,
            "part_number": 1,
            "etag": self.etag,
            "path": "",
            "assessment": {"assessment_name": "a", "feedback": {"value": 1}},
            "assessments": {"assessment_name": "a", "feedback": {"value": 1}},
            "update_mask": "feedback,assessmentName",
            "max_results": 10,
            "view_type": "ACTIVE_ONLY",
            "run_view_type": "ACTIVE_ONLY",
            "start_step": 0,
            "end_step": 10,
        }
        if name in values:
            return values[name]
        if any(isinstance(kind, inspecting.StrType) for kind in kinds):
            return "x"
        if any(isinstance(kind, inspecting.DictType) for kind in kinds):
            return {"a": "b"}
        return False if any(isinstance(kind, inspecting.BoolType) for kind in kinds) else 1

    def spans(self) -> dict[str, Any]:
        """Return what OpenTelemetry's exporters send, with every field that is read."""
        text = {"key": "mlflow.spanInputs", "value": {"stringValue": "x"}}
        whole = {"arrayValue": {"values": [{"intValue": "1"}, {"doubleValue": 1.5}, {"boolValue": True}]}}
        pairs = {"kvlistValue": {"values": [{"key": "a", "value": {"bytesValue": "eA=="}}]}}
        span = {
            "traceId": "0" * 31 + "1",
            "spanId": "0" * 15 + "2",
            "parentSpanId": "0" * 15 + "3",
            "traceState": "x",
            "name": "s",
            "kind": 1,
            "startTimeUnixNano": "1",
            "endTimeUnixNano": "2000",
            "attributes": [text, {"key": "whole", "value": whole}, {"key": "pairs", "value": pairs}],
            "events": [{"timeUnixNano": "5", "name": "e", "attributes": [text]}],
            "links": [{"traceId": "0" * 31 + "4", "spanId": "0" * 15 + "5", "attributes": [text]}],
            "status": {"code": 1, "message": "x"},
        }
        scope = {"scope": {"name": "x", "version": "1"}, "spans": [span]}
        return {"resourceSpans": [{"resource": {"attributes": [text]}, "scopeSpans": [scope]}]}

    def send(self, route: Route, fields: Any, **places: str) -> Reply:
        """Send a request; fields of a GET go into the query."""
        path = self.path(route, **places)
        if route.method != "GET":
            body = fields if isinstance(fields, bytes) else encode(fields)
            return self._calls.send(route.method, path, body, headers={"x-mlflow-experiment-id": self.experiment})
        parts = []
        for name, value in fields.items():
            for one in value if isinstance(value, list) else [value]:
                if one is not None:
                    text = one.text if isinstance(one, Literal) else str(one)
                    parts.append(f"{quote(name)}={_query(text)}")
        return self._calls.send("GET", f"{path}?{'&'.join(parts)}")

    def mark(self) -> int:
        """Return a number that is another one after any change of the store, and maybe without one."""
        file = self._home.home / "flyball.db"
        if file.exists():
            self._beside = self._beside or sqlite3.connect(file)
            return int(self._beside.execute("PRAGMA data_version").fetchone()[0])
        with self._home.db.read() as tx:
            return int(tx.value("SELECT pg_snapshot_xmax(pg_current_snapshot())"))

    def state(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return every row of every table."""
        with self._home.db.read() as tx:
            return {
                shape.name: [row for page in read_pages(tx, shape, 1 << 20) for row in page] for shape in list_shapes()
            }


class Literal(msgspec.Struct, frozen=True):
    """A value that is written into the body as it is."""

    text: str


def encode(fields: Any) -> bytes:
    """Return JSON with literals as they are."""
    if isinstance(fields, Literal):
        return fields.text.encode()
    if isinstance(fields, dict):
        return b"{" + b", ".join(json.dumps(name).encode() + b": " + encode(fields[name]) for name in fields) + b"}"
    if isinstance(fields, list):
        return b"[" + b", ".join(map(encode, fields)) + b"]"
    return json.dumps(fields).encode()


def places_of(fields: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value within fields."""
    items = fields.items() if isinstance(fields, dict) else enumerate(fields) if isinstance(fields, list) else ()
    for name, value in items:
        yield (*place, name)
        yield from places_of(value, (*place, name))


def put(fields: Any, place: tuple[Any, ...], value: Any) -> Any:
    """Return fields with another value at a place."""
    if not place:
        return value
    changed = dict(fields) if isinstance(fields, dict) else list(fields)
    changed[place[0]] = put(changed[place[0]], place[1:], value)
    return changed


def _query(text: str) -> str:
    """Return a JSON value as a query has it; texts without their quotes, NUL and halves of pairs as they may come."""
    plain = text[1:-1] if text.startswith('"') else text
    return quote(plain.replace(r"\u0000", "\0").replace(r"\n", "\n")).replace("%5Cud800", "%ED%A0%80")
