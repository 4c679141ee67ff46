"""MLflow's scoring protocol, KServe's first version and Seldon's, as a client writes them by hand."""

import gzip
import io
import json
from typing import Any

import polars as pl
import pytest

from tests.server.inference.conftest import Gateway, Response

COLUMNS = ["customer_id", "income", "term"]
ROW = [1, 1000.0, 12]
RECORD = dict(zip(COLUMNS, ROW, strict=True))


def post(gateway: Gateway, path: str, content: Any, media_type: str = "application/json", **headers: str) -> Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return gateway.send("POST", path, body, {"content-type": media_type, **headers})


def invoke(gateway: Gateway, content: Any, media_type: str = "application/json", **headers: str) -> Response:
    return post(gateway, "/invocations", content, media_type, **headers)


def to_parquet(frame: pl.DataFrame) -> bytes:
    with io.BytesIO() as buffer:
        frame.write_parquet(buffer)
        return buffer.getvalue()


# MLflow

FORMS = {
    "split": {"dataframe_split": {"columns": COLUMNS, "index": [0, 1], "data": [ROW, ROW]}},
    "split with floats": {"dataframe_split": {"columns": COLUMNS, "data": [[1.0, 1000, 12.0]] * 2}},
    "split by place": {"dataframe_split": {"data": [ROW, ROW]}},
    "records": {"dataframe_records": [RECORD, RECORD], "params": {}},
    "instances by place": {"instances": [ROW, ROW]},
    "instances by name": {"instances": [RECORD, RECORD]},
    "inputs by place": {"inputs": [ROW, ROW]},
    "inputs by column": {"inputs": {name: [value] * 2 for name, value in RECORD.items()}},
    "inputs by column of arrays": {"inputs": {name: [[value]] * 2 for name, value in RECORD.items()}},
}


@pytest.mark.parametrize("name", FORMS)
def test_invocations_takes_every_form(gateway: Gateway, name: str) -> None:
    response = invoke(gateway, FORMS[name])
    assert (response.status, response.json) == (200, {"predictions": [0.25, 0.25]}), response.body
    assert response.headers["x-flyball-model-version"] == "1"


@pytest.mark.parametrize("path", ["/endpoints/credit/invocations", "/gateway/credit/invocations"])
def test_the_address_may_name_the_endpoint(gateway: Gateway, path: str) -> None:
    response = post(gateway, path, FORMS["records"])
    assert response.json == {"predictions": [0.25, 0.25]}
    assert post(gateway, path.replace("credit", "credti"), FORMS["records"]).status == 404


def test_a_header_may_name_the_endpoint(gateway: Gateway) -> None:
    assert invoke(gateway, FORMS["records"], **{"x-flyball-endpoint": "credit"}).status == 200
    refused = invoke(gateway, FORMS["records"], **{"x-flyball-endpoint": "credti"})
    assert (refused.status, refused.json["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_an_answer_to_one_row_names_its_prediction(gateway: Gateway) -> None:
    response = invoke(gateway, {"instances": [ROW]})
    record = gateway.house.predictions.get(response.headers["x-flyball-prediction-id"])
    assert record.request_fields == RECORD


@pytest.mark.parametrize("media_type", ["text/csv", "text/csv; charset=utf-8"])
def test_csv_is_read_by_the_fields_types(gateway: Gateway, media_type: str) -> None:
    body = "\ufeffterm,customer_id,income,applied_at\r\n12,1,1e3,\r\n12,1,1000,2026-03-01T00:00:00Z\r\n".encode()
    response = invoke(gateway, body, media_type)
    assert response.json == {"predictions": [0.25, 0.25]}


def test_parquet_is_read(gateway: Gateway) -> None:
    body = to_parquet(pl.DataFrame([ROW, ROW], schema=COLUMNS, orient="row"))
    response = invoke(gateway, body, "application/vnd.apache.parquet")
    assert response.json == {"predictions": [0.25, 0.25]}, response.body


def test_bodies_may_be_compressed(gateway: Gateway) -> None:
    body = gzip.compress(json.dumps(FORMS["split"]).encode())
    assert invoke(gateway, body, **{"content-encoding": "gzip"}).status == 200


def test_nan_of_a_frame_is_null(gateway: Gateway) -> None:
    row = b'{"customer_id": 1, "income": 1000.0, "term": 12, "applied_at": NaN}'
    assert invoke(gateway, b'{"dataframe_records": [' + row + b"]}").status == 200
    refused = invoke(gateway, b'{"instances": [[1, NaN, 12]]}')
    assert (refused.status, "income" in refused.json["message"]) == (400, True)


def test_ping_version_and_the_list_of_endpoints(gateway: Gateway) -> None:
    assert gateway.get("/ping").status == 200
    assert gateway.get("/version").status == 200
    listed = gateway.get("/api/2.0/endpoints/").json["endpoints"]
    assert [endpoint["endpoint_url"] for endpoint in listed] == ["/endpoints/credit/invocations"]
    assert gateway.get("/api/2.0/endpoints/credit").json == listed[0]


BAD_INVOCATIONS = {
    "empty": (b"", "empty"),
    "no JSON": (b"{", "JSON"),
    "invalid UTF-8": (b'{"inputs": "\xff"}', "JSON"),
    "infinite": (b'{"instances": [[1, Infinity, 12]]}', "JSON"),
    "NaN and infinite": (b'{"instances": [[1, Infinity, NaN]]}', "Infinity"),
    "too deep": (b'{"instances": ' + b"[" * 100_000, "deep"),
    "NaN too deep": (b'{"NaN": ' + b"[" * 100_000, "JSON"),
    "a list": ([], "it is a list"),
    "nothing": ({}, "exactly one"),
    "two forms": ({"inputs": [ROW], "instances": [ROW]}, "inputs"),
    "something else": ({"inputs": [ROW], "more": 1}, "'more'"),
    "params": ({"inputs": [ROW], "params": {"a": 1}}, "params"),
    "no rows": ({"instances": []}, "no row"),
    "no list": ({"instances": 5}, "list"),
    "short rows": ({"instances": [ROW[:2]]}, "2 values, but there are 3"),
    "rows of other lengths": ({"instances": [ROW, [*ROW, 1]]}, "row 1"),
    "mixed rows": ({"instances": [RECORD, ROW]}, "row 1"),
    "wrong types": ({"instances": [["a", "b", "c"]]}, "customer_id"),
    "records that are lists": ({"dataframe_records": [ROW]}, "objects"),
    "split without data": ({"dataframe_split": {"columns": COLUMNS}}, "data"),
    "split with more": ({"dataframe_split": {"columns": COLUMNS, "data": [ROW], "dtypes": {}}}, "'dtypes'"),
    "split with records": ({"dataframe_split": {"columns": COLUMNS, "data": [RECORD]}}, "values"),
    "split with names that are none": ({"dataframe_split": {"columns": [1, 2, 3], "data": [ROW]}}, "names"),
    "split with a name twice": ({"dataframe_split": {"columns": ["term"] * 3, "data": [ROW]}}, "names"),
    "an unknown column": ({"dataframe_records": [RECORD | {"incmoe": 1}]}, "incmoe"),
    "unequal columns": ({"inputs": {"income": [1], "term": [1, 2]}}, "long"),
    "no columns": ({"inputs": {}}, "long"),
    "too many rows": ({"instances": [[1, 1, 1]] * 10_001}, "10,000"),
}


@pytest.mark.parametrize("name", BAD_INVOCATIONS)
def test_a_bad_invocation_is_refused_with_the_reason(gateway: Gateway, name: str) -> None:
    content, told = BAD_INVOCATIONS[name]
    response = invoke(gateway, content)
    assert (response.status, sorted(response.json)) == (400, ["error_code", "message"]), response.body
    assert told in response.json["message"]
    assert len(response.body) < 3_000


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b"", "text/csv", 400),
        (b"a,b\n1,2\n", "text/csv", 400),
        (b"customer_id,income,term\n1,2\n", "text/csv", 400),
        (b"customer_id,income,term\n1,x,2\n", "text/csv", 400),
        (b"customer_id,income,term\n", "text/csv", 400),
        (b"\xff\xfe", "text/csv", 400),
        (b'customer_id,income,term\n"1,2,3', "text/csv", 400),
        (b"customer_id,income,term\n" + b"1,1,1\n" * 10_001, "text/csv", 400),
        (b"PAR1 but not really PAR1", "application/vnd.apache.parquet", 400),
        (b"", "application/vnd.apache.parquet", 400),
        (b"<xml/>", "application/xml", 415),
        (b"{}", "application/x-www-form-urlencoded", 415),
    ],
)
def test_a_bad_file_is_refused(gateway: Gateway, body: bytes, media_type: str, status: int) -> None:
    response = invoke(gateway, body, media_type)
    assert (response.status, bool(response.json["message"])) == (status, True)


def test_a_small_file_that_stands_for_a_billion_rows_is_refused(gateway: Gateway) -> None:
    frame = pl.select(pl.repeat(1, 1_000_000).alias("customer_id"))
    response = invoke(gateway, to_parquet(frame), "application/vnd.apache.parquet")
    assert (response.status, "1,000,000 rows" in response.json["message"]) == (400, True)
    endless = pl.DataFrame({"customer_id": pl.repeat("x" * 100_000, 10_000, eager=True)})
    body = to_parquet(endless)
    assert len(body) < 500_000
    assert invoke(gateway, body, "application/vnd.apache.parquet").status in (400, 413)


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (pl.select(pl.repeat(1.0, 2_000_000).implode().alias("income")), "'income' is List(Float64)"),
        (pl.select(income=pl.struct(a=1, b=2)), "no field is of such values"),
        (pl.select(income=pl.repeat(b"x" * 100_000, 10_000)), "'income' is Binary"),
        (pl.DataFrame({f"column_{number}": [1] for number in range(1_000)}), "at most 24 columns, but it has 1,000"),
    ],
)
def test_columns_that_stand_for_more_than_they_weigh_are_refused(
    gateway: Gateway, frame: pl.DataFrame, told: str
) -> None:
    response = invoke(gateway, to_parquet(frame), "application/vnd.apache.parquet")
    assert (response.status, told in response.json["message"]) == (400, True), response.body


# KServe


@pytest.mark.parametrize("form", ["instances", "inputs"])
@pytest.mark.parametrize("row", [ROW, RECORD])
def test_kserve_predicts_instances(gateway: Gateway, form: str, row: Any) -> None:
    response = post(gateway, "/v1/models/credit:predict", {form: [row, row]})
    assert (response.status, response.json) == (200, {"predictions": [0.25, 0.25]})


def test_kserve_takes_cloud_events(gateway: Gateway) -> None:
    event = {"specversion": "1.0", "type": "x", "source": "y", "id": "z", "data": {"instances": [ROW]}}
    path = "/v1/models/credit:predict"
    assert post(gateway, path, event, "application/cloudevents+json").json == {"predictions": [0.25]}
    headers = {"ce-specversion": "1.0", "ce-type": "x", "ce-source": "y", "ce-id": "z"}
    assert post(gateway, path, event["data"], **headers).json == {"predictions": [0.25]}
    assert post(gateway, path, event | {"data": "x"}, "application/cloudevents+json").status == 400


def test_kserve_explains(gateway: Gateway) -> None:
    response = post(gateway, "/v1/models/credit:explain", {"instances": [ROW, ROW]})
    assert response.status == 200, response.body
    assert response.json["predictions"] == [0.25, 0.25]
    for explanation in response.json["explanations"]:
        assert explanation["base"] + sum(explanation["attributions"].values()) == 0.25
        assert list(explanation["attributions"]) == ["income", "term", "late", "burden"]
    assert post(gateway, "/v1/models/credit:explain", {"instances": [ROW] * 101}).status == 400


def test_kserve_lists_models(gateway: Gateway) -> None:
    assert gateway.get("/v1/models").json == {"models": ["credit"]}
    assert gateway.get("/v1/models/credit").json == {"name": "credit", "ready": True}
    assert gateway.get("/v1/models/credti").status == 404


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/v1/models/credti:predict", {"instances": [ROW]}, 404),
        ("POST", "/v1/models/credit:predict", {"rows": [ROW]}, 400),
        ("POST", "/v1/models/credit:predict", {"instances": [], "inputs": []}, 400),
        ("POST", "/v1/models/credit:predict", [], 400),
        ("POST", "/v1/models/credit:predict", b"\xff", 400),
        ("POST", "/v1/models/credti:explain", {"instances": [ROW]}, 404),
        ("POST", "/v1/models/credit/more", {}, 404),
        ("GET", "/v1/models/credit:predict", None, 405),
        ("POST", "/v1/models", {}, 405),
    ],
)
def test_kserve_errors_are_told(gateway: Gateway, method: str, path: str, content: Any, status: int) -> None:
    response = gateway.get(path) if method == "GET" else post(gateway, path, content)
    assert (response.status, list(response.json)) == (status, ["error"])


# Seldon

SELDON = "/api/v1.0/predictions"


@pytest.mark.parametrize("path", [SELDON, "/seldon/anywhere/credit/api/v1.0/predictions"])
def test_seldon_takes_an_ndarray(gateway: Gateway, path: str) -> None:
    content = {"data": {"names": COLUMNS, "ndarray": [ROW, ROW]}, "meta": {"puid": "mine"}}
    answer = post(gateway, path, content).json
    assert answer["data"] == {"names": ["prediction"], "ndarray": [[0.25], [0.25]]}
    assert answer["meta"] == {"puid": "mine", "requestPath": {"credit": "1"}}


def test_seldon_takes_tensors_and_json(gateway: Gateway) -> None:
    tensor = {"data": {"tensor": {"shape": [2, 3], "values": [*ROW, *ROW]}}}
    assert post(gateway, SELDON, tensor).json["data"]["tensor"] == {"shape": [2, 1], "values": [0.25, 0.25]}
    answer = post(gateway, SELDON, {"jsonData": RECORD}).json
    assert answer["data"]["ndarray"] == [[0.25]]
    assert gateway.house.predictions.get(answer["meta"]["puid"]).prediction == 0.25


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"strData": "x"},
        {"data": 5},
        {"data": {}},
        {"data": {"ndarray": [ROW], "tensor": {}}},
        {"data": {"tensor": {"shape": [2, 3], "values": ROW}}},
        {"data": {"tensor": {"shape": [3], "values": ROW}}},
        {"data": {"tensor": {"shape": [0, 0], "values": []}}},
        {"data": {"names": "abc", "ndarray": [ROW]}},
        {"data": {"names": ["a", "b", "c"], "ndarray": [ROW]}},
        {"data": {"ndarray": []}},
        {"jsonData": "x"},
        b"",
    ],
)
def test_seldon_errors_are_told(gateway: Gateway, content: Any) -> None:
    response = post(gateway, SELDON, content)
    assert (response.status, response.json["status"]["status"]) == (400, "FAILURE"), response.body
    assert response.json["status"]["info"]
