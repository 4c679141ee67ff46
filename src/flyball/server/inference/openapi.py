"""What is at the gateway, for people and for tools: ``GET /`` and ``GET /openapi.json``.

Both are made from the versions that are live, so they tell a request's fields, what must hold of them, and an example
that the model answers.
"""

from collections.abc import Mapping
from typing import Any

from flyball.domain.data.row_rules import AtLeast, AtMost, Between, IsIn
from flyball.domain.data.rules import Rule
from flyball.domain.data.schemas import DType, Field
from flyball.domain.serving.explaining import MOST_ROWS as MOST_EXPLAINED
from flyball.domain.serving.fleet import Line
from flyball.domain.serving.loaded import LoadedVersion
from flyball.server.inference.asking import MAX_ROWS, required_fields
from flyball.server.inference.oip.interface import Interface
from flyball.server.inference.oip.tensors import DATATYPES
from flyball.server.inference.streaming import EVENTS, LINES
from flyball.version import __version__

_GREATEST_INT = 2**63 - 1
_TYPES: dict[DType, dict[str, Any]] = {
    "int": {"type": "integer", "format": "int64", "minimum": -_GREATEST_INT - 1, "maximum": _GREATEST_INT},
    "float": {"type": "number", "format": "double"},
    "bool": {"type": "boolean"},
    "string": {"type": "string"},
    "datetime": {"type": "string", "format": "date-time"},
    "date": {"type": "string", "format": "date"},
}
_EXAMPLES: dict[DType, Any] = {
    "int": 1,
    "float": 1.0,
    "bool": True,
    "string": "text",
    "datetime": "2026-03-01T12:00:00+00:00",
    "date": "2026-03-01",
}
_PROBLEM = "application/problem+json"
_Json = dict[str, Any]


def describe_gateway(lines: Mapping[str, Line], grpc_address: str) -> _Json:
    """Return what ``GET /`` answers: the endpoints and where each protocol finds them."""
    endpoints = [
        {
            "name": name,
            "model": line.served.model,
            "live": None if line.live is None else line.live.ref,
            "candidate": None if line.candidate is None else line.candidate.ref,
            "addresses": {
                "flyball": f"POST /predict/{name}",
                "open_inference": f"POST /v2/models/{name}/infer",
                "mlflow": f"POST /endpoints/{name}/invocations",
                "kserve_v1": f"POST /v1/models/{name}:predict",
                "seldon_v1": f"POST /seldon/flyball/{name}/api/v1.0/predictions",
            },
        }
        for name, line in sorted(lines.items())
    ]
    return {
        # KServe's client asks this address whether the server is alive.
        "status": "alive",
        "name": "flyball",
        "version": __version__,
        "endpoints": endpoints,
        "grpc": grpc_address or None,
        "openapi": "/openapi.json",
        "health": "/health",
        "metrics": "/metrics",
    }


def write_openapi(lines: Mapping[str, Line]) -> _Json:
    """Return the document of ``GET /openapi.json``: our own protocol and the Open Inference Protocol."""
    paths: _Json = {
        "/": {"get": _get("What is here")},
        "/health": {"get": _get("Whether all endpoints can answer", {503: _object("Not ready")})},
        "/v2": {"get": _get("The server's metadata")},
        "/v2/health/live": {"get": _get("Whether the server lives")},
        "/v2/health/ready": {"get": _get("Whether the server can answer", {503: _object("Not ready")})},
        "/v2/models": {"get": _get("The endpoints' names")},
        "/v2/repository/index": {"post": _list_repository()},
    }
    schemas: _Json = {"Problem": _problem_schema(), "Error": _error_schema(), "Answer": _answer_schema()}
    for name, line in sorted(lines.items()):
        if line.live is None:
            continue
        schemas[f"{name}.Row"] = row_schema(line.live)
        example = make_example(line.live)
        paths[f"/predict/{name}"] = {"post": _predict(name, example)}
        paths[f"/v2/models/{name}"] = {"get": _get(f"What {name} takes and gives", {409: _refusal("Error")})}
        paths[f"/v2/models/{name}/ready"] = {
            "get": _get(f"Whether {name} can answer", {503: _object("Not ready")}),
        }
        paths[f"/v2/models/{name}/infer"] = {"post": _infer(name, line.live, example)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Flyball's gateway",
            "version": __version__,
            "description": "Predictions of the models that are live. MLflow's scoring protocol, KServe's version 1 "
            "and Seldon's are answered too; GET / tells where.",
        },
        "paths": paths,
        "components": {"schemas": schemas},
    }


def row_schema(loaded: LoadedVersion) -> _Json:
    """Return the JSON schema of one row of a version."""
    fields = loaded.request.schema.fields
    bounds = _bounds(loaded.rules)
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [field.name for field in required_fields(loaded)],
        "properties": {field.name: _field_schema(field, bounds.get(field.name, {}), loaded.time) for field in fields},
    }


def make_example(loaded: LoadedVersion) -> _Json:
    """Return a row that a version answers, as far as its reference sample and its expectations tell."""
    bounds = _bounds(loaded.rules)
    example = {}
    for field in required_fields(loaded):
        value = loaded.example.get(field.name, _EXAMPLES[field.dtype])
        bound = bounds.get(field.name, {})
        if field.name not in loaded.example:
            value = bound["enum"][0] if "enum" in bound else bound.get("minimum", bound.get("maximum", value))
        example[field.name] = value
    return example


def _bounds(rules: tuple[Rule, ...]) -> dict[str, _Json]:
    """Return what expectations of severity ``fail`` say of numbers and lists, in words of JSON schema."""
    bounds: dict[str, _Json] = {}
    for rule in rules:
        if rule.severity != "fail":
            continue
        found = bounds.setdefault(rule.column, {})
        match rule:
            case Between(low=int() | float() as low, high=int() | float() as high):
                found |= {"minimum": low, "maximum": high}
            case AtLeast(limit=int() | float() as low):
                found["minimum"] = low
            case AtMost(limit=int() | float() as high):
                found["maximum"] = high
            case IsIn(values=values):
                found["enum"] = list(values)
    return bounds


def _field_schema(field: Field, bounds: _Json, time: str | None) -> _Json:
    schema = _TYPES[field.dtype] | bounds
    if field.nullable or field.name == time:
        schema = schema | {"type": [schema["type"], "null"]}
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    return schema


def _predict(name: str, example: _Json) -> _Json:
    row = {"$ref": f"#/components/schemas/{name}.Row"}
    many = {
        "type": "object",
        "additionalProperties": False,
        "required": ["rows"],
        "properties": {"rows": {"type": "array", "minItems": 1, "maxItems": MAX_ROWS, "items": row}},
    }
    answer = {"$ref": "#/components/schemas/Answer"}
    answers = {
        "type": "object",
        "required": ["endpoint", "predictions"],
        "properties": {"endpoint": {"type": "string"}, "predictions": {"type": "array", "items": answer}},
    }
    return {
        "operationId": f"predict-{name}",
        "summary": f"Predict one row or many at {name}",
        "parameters": [
            {
                "name": "explain",
                "in": "query",
                "required": False,
                "description": f"Tell what each feature added to each prediction, of at most {MOST_EXPLAINED} rows",
                "schema": {"enum": ["true", "false", "1", "0"]},
            },
            {
                "name": "stream",
                "in": "query",
                "required": False,
                "description": "Send each row's answer as soon as it is known, as lines of JSON or as events",
                "schema": {"enum": ["true", "false", "1", "0"]},
            },
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"oneOf": [row, many]},
                    "examples": {"one": {"value": example}, "many": {"value": {"rows": [example, example]}}},
                }
            },
        },
        "responses": {
            "200": _streamed(_object("The predictions", {"anyOf": [answer, answers]})),
            "202": _object("Kept aside without a prediction", {"anyOf": [answer, answers]}),
            **_refusals("Problem", 400, 404, 409, 413, 415, 422, 429, 502, 503, 504),
        },
    }


def _streamed(response: _Json) -> _Json:
    """Return a response that may also come as a stream."""
    streams = {kind: {"schema": {"type": "string"}} for kind in (LINES, EVENTS)}
    return response | {"content": response["content"] | streams}


def _infer(name: str, loaded: LoadedVersion, example: _Json) -> _Json:
    interface = Interface.of(loaded)
    tensors = [
        {"name": spec.name, "datatype": spec.datatype, "shape": [1], "data": [example[spec.name]]}
        for spec in interface.inputs
        if spec.name in example
    ]
    tensor = {
        "type": "object",
        "required": ["name", "datatype", "shape", "data"],
        "properties": {
            "name": {"type": "string"},
            "datatype": {"enum": list(DATATYPES)},
            "shape": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "integer", "minimum": 1}},
            "parameters": {"type": ["object", "null"]},
            "data": {"type": "array"},
        },
    }
    body = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": ["string", "null"]},
            "parameters": {"type": ["object", "null"]},
            "inputs": {"type": "array", "minItems": 1, "items": tensor},
            "outputs": {
                "type": ["array", "null"],
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"enum": list(interface.outputs)},
                        "parameters": {"type": ["object", "null"]},
                    },
                },
            },
        },
    }
    answer = {
        "type": "object",
        "required": ["model_name", "model_version", "id", "outputs"],
        "properties": {
            "model_name": {"const": name},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": tensor},
        },
    }
    return {
        "operationId": f"infer-{name}",
        "summary": f"Predict tensors at {name}: one for each field, or one matrix of all of them",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body, "example": {"inputs": tensors}}},
        },
        "responses": {
            "200": _object("The predictions", answer),
            **_refusals("Error", 400, 404, 409, 413, 415, 429, 502, 503, 504),
        },
    }


def _list_repository() -> _Json:
    body = {"type": "object", "properties": {"ready": {"type": "boolean"}}}
    return {
        "summary": "All versions, and which are in memory",
        "requestBody": {"content": {"application/json": {"schema": body}}},
        "responses": {
            "200": _object("The versions", {"type": "array"}),
            **_refusals("Error", 400, 413, 415),
        },
    }


def _get(summary: str, further: dict[int, _Json] | None = None) -> _Json:
    responses = {str(status): response for status, response in (further or {}).items()}
    return {"summary": summary, "responses": {"200": _object(summary)} | responses}


def _object(description: str, schema: _Json | None = None) -> _Json:
    return {
        "description": description,
        "content": {"application/json": {"schema": schema or {"type": "object"}}},
    }


_REASONS = {
    400: "The body cannot be read, or is not what the model takes",
    404: "There is no such endpoint or version",
    409: "No version is live",
    413: "The body is too long",
    415: "The body is of a kind that is not read",
    422: "The row is not what the model takes",
    429: "Too many requests wait already",
    502: "The model failed",
    503: "Something the answer needs is not there now",
    504: "The model did not answer in time",
}


def _refusals(schema: str, *statuses: int) -> _Json:
    return {str(status): _refusal(schema, _REASONS[status]) for status in statuses}


def _refusal(schema: str, description: str = _REASONS[409]) -> _Json:
    media_type = _PROBLEM if schema == "Problem" else "application/json"
    return {
        "description": description,
        "content": {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


def _problem_schema() -> _Json:
    return {
        "type": "object",
        "required": ["type", "title", "status", "detail", "hint"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "hint": {"type": "string"},
            "errors": {"type": "array", "items": {"type": "object"}},
            "prediction_id": {"type": "string"},
        },
    }


def _error_schema() -> _Json:
    return {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}


def _answer_schema() -> _Json:
    text = {"type": "string"}
    return {
        "type": "object",
        "required": ["prediction", "prediction_id", "model_version", "variant", "endpoint", "features", "status"],
        "properties": {
            "prediction": {"type": ["number", "boolean", "string", "null"]},
            "prediction_id": text,
            "model_version": text,
            "variant": text,
            "endpoint": text,
            "features": {"type": "object"},
            "status": {"enum": ["ok", "quarantined", "refused", "error"]},
            "scores": {"type": "object"},
            "errors": {"type": "array", "items": {"type": "object"}},
            "warnings": {"type": "array", "items": {"type": "object"}},
            "node": text,
            "explanation": {
                "type": "object",
                "required": ["base", "attributions", "scale", "method"],
                "properties": {
                    "base": {"type": "number"},
                    "attributions": {"type": "object", "additionalProperties": {"type": "number"}},
                    "scale": {"enum": ["value", "probability", "log-odds"]},
                    "method": text,
                    "class": {"type": ["number", "boolean", "string"]},
                },
            },
        },
    }
