"""The Open Inference Protocol over REST, as a client writes it by hand."""

import gzip
import json
import struct
import zlib
from typing import Any

import pytest

from tests.server.inference.conftest import Gateway, Response, StartGateway

INFER = "/v2/models/credit/infer"
ROW = [1.0, 1000.0, 12.0]


def field(name: str, datatype: str, *data: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(data)], "data": list(data)}


def by_field(**changes: Any) -> dict[str, Any]:
    values = {"customer_id": ("INT64", 1), "income": ("FP64", 1000.0), "term": ("INT64", 12)} | changes
    return {"inputs": [field(name, *value) for name, value in values.items()]}


def matrix(*rows: list[float], **changes: Any) -> dict[str, Any]:
    data = [value for row in rows for value in row]
    return {"inputs": [{"name": "x", "datatype": "FP64", "shape": [len(rows), 3], "data": data} | changes]}


def infer(gateway: Gateway, content: Any, path: str = INFER, **headers: str) -> Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return gateway.send("POST", path, body, headers)


# What is answered


def test_the_server_tells_what_it_is(gateway: Gateway) -> None:
    assert gateway.get("/v2").json["name"] == "flyball"
    assert "binary_tensor_data" in gateway.get("/v2").json["extensions"]
    assert gateway.get("/v2/health/live").json == {"live": True}
    assert gateway.get("/v2/health/ready").json == {"ready": True}
    assert gateway.get("/v2/models").json == {"models": ["credit"]}


@pytest.mark.parametrize("path", ["/v2/models/credit", "/v2/models/credit/versions/1"])
def test_a_models_metadata_comes_from_its_signature(gateway: Gateway, path: str) -> None:
    told = gateway.get(path).json
    assert (told["name"], told["versions"]) == ("credit", ["1"])
    assert told["inputs"] == [
        {"name": "customer_id", "datatype": "INT64", "shape": [-1]},
        {"name": "income", "datatype": "FP64", "shape": [-1]},
        {"name": "term", "datatype": "INT64", "shape": [-1]},
        {"name": "applied_at", "datatype": "BYTES", "shape": [-1]},
    ]
    assert told["outputs"][0] == {"name": "prediction", "datatype": "FP64", "shape": [-1]}


def test_a_tensor_for_each_field_is_answered_and_logged(gateway: Gateway) -> None:
    response = infer(gateway, by_field() | {"id": "mine"})
    answer = response.json
    assert (response.status, response.media_type) == (200, "application/json")
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("credit", "1", "mine")
    assert answer["outputs"] == [{"name": "prediction", "datatype": "FP64", "shape": [1], "data": [0.25]}]


def test_without_an_id_the_answer_names_its_prediction(gateway: Gateway) -> None:
    answer = infer(gateway, by_field()).json
    record = gateway.house.predictions.get(answer["id"])
    assert record.request_fields == {"customer_id": 1, "income": 1000.0, "term": 12}


@pytest.mark.parametrize("data", [[*ROW, *ROW], [ROW, ROW]])
def test_one_matrix_holds_all_required_fields(gateway: Gateway, data: Any) -> None:
    answer = infer(gateway, matrix(ROW, ROW, data=data)).json
    assert (answer["outputs"][0]["shape"], answer["outputs"][0]["data"]) == ([2], [0.25, 0.25])


def test_a_field_may_be_a_column_of_a_matrix(gateway: Gateway) -> None:
    content = by_field()
    for tensor in content["inputs"]:
        tensor.update(shape=[1, 1], data=[tensor["data"]])
    assert infer(gateway, content).status == 200


def test_other_outputs_are_answered_when_asked_for(gateway: Gateway) -> None:
    wanted = [{"name": "prediction_id"}, {"name": "model_version"}]
    answer = infer(gateway, matrix(ROW, ROW) | {"outputs": wanted}).json
    ids, versions = answer["outputs"]
    assert gateway.house.predictions.get(ids["data"][1]).prediction == 0.25
    assert (versions["datatype"], versions["data"]) == ("BYTES", ["1", "1"])


def test_a_named_version_answers_itself(gateway: Gateway) -> None:
    path = "/v2/models/credit/versions/2"
    assert gateway.get(f"{path}/ready").status in (200, 503)
    answer = infer(gateway, matrix(ROW), f"{path}/infer").json
    assert (answer["model_version"], answer["outputs"][0]["data"]) == ("2", [0.75])
    assert gateway.house.predictions.get(answer["id"]).variant == "pinned"
    assert gateway.get(f"{path}/ready").json == {"name": "credit", "ready": True}
    live = infer(gateway, matrix(ROW), "/v2/models/credit/versions/1/infer").json
    assert gateway.house.predictions.get(live["id"]).variant == "live"


def test_the_repository_lists_loads_and_unloads_versions(gateway: Gateway) -> None:
    def states() -> dict[str, str]:
        index = gateway.send("POST", "/v2/repository/index", b"{}").json
        return {entry["version"]: entry["state"] for entry in index}

    load = "/v2/repository/models/credit/load"
    assert gateway.send("POST", load, b'{"parameters": {"version": "3"}}').status == 200
    assert states() == states() | {"1": "READY", "3": "READY"}
    unload = "/v2/repository/models/credit/unload"
    assert gateway.send("POST", unload, b'{"parameters": {"version": "3"}}').status == 200
    assert states()["3"] == "UNAVAILABLE"
    ready = gateway.send("POST", "/v2/repository/index", b'{"ready": true}').json
    assert "3" not in [entry["version"] for entry in ready]
    assert gateway.send("POST", load, b"").status == 200
    refused = gateway.send("POST", unload, b"")
    assert (refused.status, "flyball rollback" in refused.json["error"]) == (409, True)


# Binary tensors


def binary(content: Any, *parts: bytes) -> tuple[bytes, dict[str, str]]:
    header = json.dumps(content).encode()
    return b"".join([header, *parts]), {"Inference-Header-Content-Length": str(len(header))}


def test_binary_tensors_go_in_and_out(gateway: Gateway) -> None:
    raw = struct.pack("<6d", *ROW, *ROW)
    tensor = {"name": "x", "datatype": "FP64", "shape": [2, 3], "parameters": {"binary_data_size": len(raw)}}
    body, headers = binary({"inputs": [tensor], "parameters": {"binary_data_output": True}}, raw)
    response = gateway.send("POST", INFER, body, headers)
    assert (response.status, response.media_type) == (200, "application/octet-stream")
    length = int(response.headers["inference-header-content-length"])
    output = json.loads(response.body[:length])["outputs"][0]
    assert output["parameters"] == {"binary_data_size": 16}
    assert struct.unpack("<2d", response.body[length:]) == (0.25, 0.25)


def test_json_and_binary_tensors_mix(gateway: Gateway) -> None:
    content = by_field(applied_at=("BYTES", ""))
    content["inputs"][0] = {
        "name": "customer_id",
        "datatype": "INT32",
        "shape": [1],
        "parameters": {"binary_data_size": 4},
    }
    text = b"2026-03-01T00:00:00Z"
    raw_text = struct.pack("<I", len(text)) + text
    content["inputs"][3] = {
        "name": "applied_at",
        "datatype": "BYTES",
        "shape": [1],
        "parameters": {"binary_data_size": len(raw_text)},
    }
    content["outputs"] = [{"name": "prediction"}, {"name": "prediction_id", "parameters": {"binary_data": True}}]
    body, headers = binary(content, struct.pack("<i", 7), raw_text)
    response = gateway.send("POST", INFER, body, headers)
    assert response.status == 200, response.body
    length = int(response.headers["inference-header-content-length"])
    prediction, _ = json.loads(response.body[:length])["outputs"]
    assert prediction["data"] == [0.25]
    record = gateway.house.predictions.get(response.body[length + 4 :].decode())
    assert record.request_fields["applied_at"] == text.decode()
    assert record.request_fields["customer_id"] == 7


@pytest.mark.parametrize(("encoding", "squeeze"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_bodies_may_be_compressed(gateway: Gateway, encoding: str, squeeze: Any) -> None:
    body = squeeze(json.dumps(matrix(ROW)).encode())
    assert gateway.send("POST", INFER, body, {"content-encoding": encoding}).status == 200


def test_long_answers_are_compressed_for_who_takes_it(gateway: Gateway) -> None:
    content = matrix(*[ROW] * 1_000) | {"outputs": [{"name": "prediction_id"}]}
    response = infer(gateway, content, **{"accept-encoding": "gzip"})
    assert response.headers["content-encoding"] == "gzip"
    assert len(json.loads(gzip.decompress(response.body))["outputs"][0]["data"]) == 1_000


@pytest.mark.parametrize("media_type", [None, "application/json", "application/octet-stream", "text/plain"])
def test_the_media_type_decides_nothing(gateway: Gateway, media_type: str | None) -> None:
    headers = {} if media_type is None else {"content-type": media_type}
    assert infer(gateway, matrix(ROW), **headers).status == 200


# What is refused

BAD = {
    "empty": (b"", "empty"),
    "not JSON": (b"{", "JSON"),
    "invalid UTF-8": (b'{"id": "\xff", "inputs": []}', "not JSON in UTF-8"),
    "NaN": (b'{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [NaN, 1, 2]}]}', "JSON"),
    "nested too deeply": (b'{"inputs": [{"data": ' + b"[" * 100_000, "deep"),
    "a list": (b"[]", "object"),
    "no inputs": ({}, "not a request of the Open Inference Protocol: Object missing required field `inputs`"),
    "no tensors": ({"inputs": []}, "no row"),
    "an empty batch": (matrix(data=[]), "no row"),
    "a shape of other type": (matrix(ROW, shape=["1", 3]), "int"),
    "a negative shape": (matrix(ROW, shape=[-1, 3]), ">= 0"),
    "a huge shape": (matrix(ROW, shape=[10**12, 10**12]), "elements"),
    "an unknown datatype": (matrix(ROW, datatype="FP63"), "FP63"),
    "fewer elements than the shape": (matrix(ROW, shape=[2, 3]), "6 elements, but 3"),
    "nesting unlike the shape": (matrix(ROW, ROW, data=[[*ROW, 1.0], ROW[:2]]), "nested"),
    "three dimensions": (matrix(ROW, shape=[1, 1, 3]), "[rows]"),
    "too few columns": (matrix(ROW, shape=[1, 2], data=[1, 2]), "customer_id, income, term"),
    "text for a number": (matrix(ROW, data=["a", 1, 2]), "element 0 is 'a'"),
    "an object for a number": (matrix(ROW, data=[{}, 1, 2]), "an object"),
    "a float for an int": (by_field(term=("INT64", 1.5)), "element 0 is 1.5"),
    "a broken float for an int": (by_field(term=("FP64", 1.5)), "1.5"),
    "a flag for a number": (by_field(income=("BOOL", True)), "'income' is FP64"),
    "an int too large": (by_field(term=("UINT8", 256)), "256"),
    "null where none may be": (by_field(income=("FP64", None)), "income"),
    "a missing field": ({"inputs": by_field()["inputs"][:2]}, "term must be given"),
    "an unknown field": (by_field(incmoe=("FP64", 1.0)), "did you mean 'income'"),
    "two of one name": ({"inputs": [*by_field()["inputs"], field("term", "INT64", 1)]}, "twice"),
    "unequal columns": (by_field(term=("INT64", 1, 2)), "2 rows"),
    "a broken expectation": (by_field(income=("FP64", -1.0)), "between"),
    "an unknown output": (matrix(ROW) | {"outputs": [{"name": "predictoin"}]}, "did you mean 'prediction'"),
    "no flag": (matrix(ROW) | {"parameters": {"binary_data_output": 1}}, "true or false"),
    "FP16 as JSON": (matrix(ROW, datatype="FP16"), "binary"),
    "no data": (matrix(ROW, data=None), "list"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_body_is_refused_with_the_reason(gateway: Gateway, name: str) -> None:
    content, told = BAD[name]
    response = infer(gateway, content)
    assert response.status == 400, response.body
    assert list(response.json) == ["error"]
    assert told in response.json["error"]
    assert len(response.body) < 3_000


def test_more_rows_than_are_taken_are_refused(gateway: Gateway) -> None:
    response = infer(gateway, matrix(*[[1, 1, 1]] * 10_001))
    assert (response.status, "1 to 10,000 rows" in response.json["error"]) == (400, True)


def test_a_bad_row_is_told_by_its_number(gateway: Gateway) -> None:
    response = infer(gateway, matrix(ROW, [1, -5, 12]))
    assert (response.status, "row 1: income" in response.json["error"]) == (400, True)


@pytest.mark.parametrize(
    ("tensor", "raw", "told"),
    [
        ({"shape": [1, 3], "parameters": {"binary_data_size": 16}}, b"0" * 16, "24 bytes, but 16"),
        ({"shape": [1, 3], "parameters": {"binary_data_size": 25}}, b"0" * 24, "24 are left"),
        ({"shape": [1, 3], "parameters": {"binary_data_size": -1}}, b"0" * 24, "-1"),
        ({"shape": [1, 3], "parameters": {"binary_data_size": "24"}}, b"0" * 24, "'24'"),
        ({"shape": [1, 3], "parameters": {"binary_data_size": 24}}, b"0" * 25, "1 bytes follow"),
        ({"shape": [1, 3], "parameters": {"binary_data_size": 24}, "data": [1]}, b"0" * 24, "both"),
        ({"datatype": "BYTES", "shape": [1, 3], "parameters": {"binary_data_size": 3}}, b"abc", "lengths"),
        ({"datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}, b"\1\0\0\0\xff", "UTF-8"),
        ({"datatype": "BOOL", "shape": [1, 3], "parameters": {"binary_data_size": 3}}, b"\0\1\2", "0 or 1"),
    ],
)
def test_bad_binary_tensors_are_refused(gateway: Gateway, tensor: Any, raw: bytes, told: str) -> None:
    body, headers = binary({"inputs": [{"name": "x", "datatype": "FP64"} | tensor]}, raw)
    response = gateway.send("POST", INFER, body, headers)
    assert (response.status, told in response.json["error"]) == (400, True), response.body


@pytest.mark.parametrize(
    ("path", "change", "told"),
    [
        (INFER, {"outputs": [{"name": "prediction", "parameters": {"classification": 2}}]}, "classification"),
        (INFER, {"outputs": [{"name": "prediction", "parameters": {"shared_memory_region": "a"}}]}, "shared_memory"),
        ("/v2/repository/models/credit/load", {"parameters": {"config": "{}"}}, "config"),
        ("/v2/repository/models/credit/load", {"parameters": {"file:1/model.onnx": "AA=="}}, "file:1/model.onnx"),
    ],
)
def test_what_other_servers_would_do_is_not_left_undone_in_silence(
    gateway: Gateway, path: str, change: Any, told: str
) -> None:
    response = gateway.send("POST", path, json.dumps(matrix(ROW) | change).encode())
    assert (response.status, told in response.json["error"]) == (400, True), response.body


@pytest.mark.parametrize("length", ["-1", "x", "100000", ""])
def test_a_wrong_header_length_is_refused(gateway: Gateway, length: str) -> None:
    response = infer(gateway, matrix(ROW), **{"inference-header-content-length": length})
    assert response.status == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/credti/infer", 404),
        ("GET", "/v2/models/credti", 404),
        ("GET", "/v2/models/credti/ready", 404),
        ("POST", "/v2/models/credit/versions/99/infer", 404),
        ("GET", "/v2/models/credit/versions/99", 404),
        ("GET", "/v2/models/credit/versions/99/ready", 404),
        ("GET", "/v2/models/credit/versions/abc", 404),
        ("GET", f"/v2/models/credit/versions/{'9' * 23}", 404),
        ("POST", f"/v2/models/credit/versions/{'9' * 5_000}/infer", 404),
        ("POST", "/v2/models/credit/versions/%00/infer", 404),
        ("GET", "/v2/nothing", 404),
        ("GET", INFER, 405),
        ("POST", "/v2", 405),
        ("GET", "/v2/repository/index", 405),
        ("POST", "/v2/repository/models/credti/load", 404),
        ("POST", "/v2/repository/nothing", 404),
    ],
)
def test_a_wrong_address_is_told(gateway: Gateway, method: str, path: str, status: int) -> None:
    response = gateway.send(method, path, json.dumps(matrix(ROW)).encode() if method == "POST" else None)
    assert (response.status, list(response.json)) == (status, ["error"]), response.body


def test_a_gzip_bomb_is_refused(gateway: Gateway) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    response = gateway.send("POST", INFER, bomb, {"content-encoding": "gzip"})
    assert (response.status, "1,000,000 bytes" in response.json["error"]) == (413, True)


@pytest.mark.parametrize("body", [b"no gzip", gzip.compress(b"{}" * 1000)[:-9]], ids=["no gzip", "cut off"])
def test_damaged_compression_is_refused(gateway: Gateway, body: bytes) -> None:
    assert gateway.send("POST", INFER, body, {"content-encoding": "gzip"}).status == 400


def test_before_the_first_version_a_model_is_not_ready(start: StartGateway) -> None:
    gateway = start(live=None)
    assert gateway.get("/v2/health/ready").status == 200
    assert gateway.get("/v2/models/credit/ready").status == 503
    assert infer(gateway, matrix(ROW)).status == 409


def test_a_model_that_raises_is_told_as_the_servers_fault(start: StartGateway) -> None:
    gateway = start(live="m/3")
    response = infer(gateway, matrix(ROW))
    assert (response.status, "it is broken" in response.json["error"]) == (502, True)
