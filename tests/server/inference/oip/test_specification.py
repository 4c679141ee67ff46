"""The gateway keeps to the Open Inference Protocol as it is specified, not only to our own description of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.peers.fuzzing import check_no_fault
from tests.server.inference.conftest import Gateway

DATATYPES = ["BOOL", *(f"{kind}{bits}" for kind in ("UINT", "INT") for bits in (8, 16, 32, 64))]
DATATYPES += ["FP16", "FP32", "FP64", "BYTES"]
TEXT = {"type": "string"}
NUMBERS = {"type": "array", "items": {"type": "integer"}}
# Parameters that a server does not know are none of its business; MLServer's clients put whole objects there.
PARAMETERS = {"type": "object"}
# Clients write null for what they leave out.
NO_PARAMETERS = {"anyOf": [PARAMETERS, {"type": "null"}]}
ELEMENT = {"type": ["number", "string", "boolean"]}


def make_object(required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required.split(), "properties": properties}


def make_list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


TENSOR = {
    "name": TEXT,
    "shape": NUMBERS,
    "datatype": {"enum": DATATYPES},
    "parameters": NO_PARAMETERS,
    "data": make_list({"anyOf": [ELEMENT, make_list(ELEMENT)]}),
}
METADATA = make_object("name datatype shape", name=TEXT, datatype=TEXT, shape=NUMBERS)
INFER = make_object(
    "inputs",
    id={"type": ["string", "null"]},
    parameters=NO_PARAMETERS,
    inputs=make_list(make_object("name shape datatype data", **TENSOR)),
    outputs={"anyOf": [make_list(make_object("name", name=TEXT, parameters=NO_PARAMETERS)), {"type": "null"}]},
)
ANSWER = make_object(
    "model_name outputs",
    model_name=TEXT,
    model_version=TEXT,
    id=TEXT,
    parameters=PARAMETERS,
    outputs=make_list(make_object("name shape datatype data", **TENSOR)),
)
ROW = {"inputs": [{"name": "rows", "shape": [1, 3], "datatype": "FP64", "data": [1, 1000.0, 12]}]}
# The third version of the gateway's model is broken.
NAMES = {"model": ["credit", "credti"], "version": ["2", "1", "99", "x"]}
INDEX = make_list(make_object("name", name=TEXT, version=TEXT, state=TEXT, reason=TEXT))


def describe() -> dict[str, Any]:
    """Return the protocol's addresses, bodies and answers, for a server with the model credit in two versions."""
    error = make_reply(make_object("error", error=TEXT))
    refused = dict.fromkeys(("400", "404", "405", "409", "413", "415"), error)

    def call(answer: Any, body: Any = None, example: Any = None) -> dict[str, Any]:
        found: dict[str, Any] = {"responses": {"200": make_reply(answer)} | refused}
        if body is not None:
            found["requestBody"] = {"content": {"application/json": {"schema": body, "example": example}}}
        return found

    paths: dict[str, Any] = {
        "/v2": {"get": call(make_object("name version extensions", name=TEXT, extensions=make_list(TEXT)))},
        "/v2/health/live": {"get": call(make_object("live"))},
        "/v2/health/ready": {"get": call(make_object("ready"))},
        "/v2/repository/index": {"post": call(INDEX, make_object("", ready={"type": "boolean"}), {"ready": True})},
    }
    tells = make_object("name platform inputs outputs", versions=make_list(TEXT), inputs=make_list(METADATA))
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        parameters = [describe_name(name, known) for name, known in NAMES.items() if name in path]
        paths[path] = {"get": call(tells), "parameters": parameters}
        paths[f"{path}/ready"] = {"get": call(make_object("name ready")), "parameters": parameters}
        paths[f"{path}/infer"] = {"post": call(ANSWER, INFER, ROW), "parameters": parameters}
    return {"openapi": "3.1.0", "info": {"title": "Open Inference Protocol", "version": "2"}, "paths": paths}


def describe_name(name: str, known: list[str]) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"enum": known}, "example": known[0]}


def make_reply(schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": "an answer", "content": {"application/json": {"schema": schema}}}


@pytest.mark.slow
def test_schemathesis_finds_no_fault_in_what_is_specified(gateway: Gateway, tmp_path: Path) -> None:
    description = tmp_path / "open_inference.json"
    description.write_text(json.dumps(describe()))
    address = f"http://127.0.0.1:{gateway.port}"
    check_no_fault(description, "--url", address, folder=tmp_path, examples=40)
    assert gateway.predict().status == 200
