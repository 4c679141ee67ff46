"""What the gateway tells of itself, and whether it keeps to it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.peers.fuzzing import check_no_fault
from tests.server.inference.conftest import Gateway


def test_the_root_lists_endpoints_and_addresses(gateway: Gateway) -> None:
    told = gateway.get("/").json
    assert told["status"] == "alive"
    [endpoint] = told["endpoints"]
    assert (endpoint["name"], endpoint["live"]) == ("credit", "m/1")
    assert told["grpc"] == f"127.0.0.1:{gateway.port + 1}"
    for address in endpoint["addresses"].values():
        method, path = address.split()
        assert gateway.send(method, path, b"", {}).status in (400, 422), address


def test_a_row_is_described_by_its_fields_and_expectations(gateway: Gateway) -> None:
    row = gateway.get("/openapi.json").json["components"]["schemas"]["credit.Row"]
    assert row["required"] == ["customer_id", "income", "term"]
    assert row["additionalProperties"] is False
    assert row["properties"]["income"] == {"type": "number", "format": "double", "minimum": 0.0, "maximum": 1e6}
    assert row["properties"]["applied_at"]["type"] == ["string", "null"]


def test_every_example_is_answered(gateway: Gateway) -> None:
    paths: dict[str, Any] = gateway.get("/openapi.json").json["paths"]
    asked = 0
    for path, methods in paths.items():
        body = methods.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {})
        examples = [example["value"] for example in body.get("examples", {}).values()]
        examples += [body["example"]] if "example" in body else []
        for example in examples:
            assert gateway.send("POST", path, json.dumps(example).encode()).status == 200, path
            asked += 1
    assert asked == 3
    for path, methods in paths.items():
        if "get" in methods:
            assert gateway.get(path).status == 200, path


def test_examples_are_rows_of_the_reference(gateway: Gateway) -> None:
    paths = gateway.get("/openapi.json").json["paths"]
    examples = paths["/predict/credit"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert examples["one"]["value"] == {"customer_id": 1, "income": 1234.5, "term": 24}


@pytest.mark.parametrize(("method", "allowed"), [("PUT", "POST"), ("GET", "POST"), ("DELETE", "POST")])
def test_a_refused_method_names_the_right_one(gateway: Gateway, method: str, allowed: str) -> None:
    for path in ("/predict/credit", "/v2/models/credit/infer"):
        response = gateway.send(method, path)
        assert (response.status, response.headers["allow"]) == (405, allowed)


@pytest.mark.slow
def test_schemathesis_finds_no_fault(gateway: Gateway, tmp_path: Path) -> None:
    check_no_fault(f"http://127.0.0.1:{gateway.port}/openapi.json", folder=tmp_path, examples=100)
    assert gateway.predict().status == 200
