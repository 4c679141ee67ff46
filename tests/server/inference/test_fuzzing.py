"""Whatever is sent, the answer is a success or the sender's mistake, never the server's, and it is told in JSON."""

import json
import struct
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from flyball.server.inference.oip.tensors import DATATYPES
from flyball.server.inference.oip.wire import SERVICE
from tests.server.inference.conftest import Gateway
from tests.server.inference.oip.test_grpc import make_request

PATHS = (
    "/predict/credit",
    "/v2/models/credit/infer",
    "/v2/models/credit/versions/2/infer",
    "/v2/repository/index",
    "/v2/repository/models/credit/load",
    "/invocations",
    "/v1/models/credit:predict",
    "/api/v1.0/predictions",
)
MEDIA_TYPES = ("application/json", "text/csv", "application/vnd.apache.parquet", "application/octet-stream", "")
_hurried = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    derandomize=True,
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from([2**63, -(2**63) - 1, 1e308, "", "\x00", "1"])
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner))
names = st.sampled_from(["customer_id", "income", "term", "applied_at", "x", ""])
shapes = st.lists(st.integers(-1, 4) | st.just(10**18), max_size=3)
tensors = st.fixed_dictionaries(
    {"name": names | values, "datatype": st.sampled_from(DATATYPES) | values, "shape": shapes | values},
    optional={
        "data": st.lists(scalars, max_size=6) | values,
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 30) | values}) | values,
    },
)
requests = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=4) | values},
    optional={"outputs": values, "parameters": values, "id": values},
)
rows = st.lists(st.dictionaries(names, scalars, max_size=4) | st.lists(scalars, max_size=4) | values, max_size=3)
frames = st.fixed_dictionaries(
    {},
    optional={
        "dataframe_split": st.fixed_dictionaries({}, optional={"columns": values, "data": rows | values}) | values,
        "dataframe_records": rows,
        "instances": rows | values,
        "inputs": rows | values,
        "params": values,
        "rows": rows,
        "data": st.fixed_dictionaries({}, optional={"names": values, "ndarray": rows, "tensor": values}) | values,
        "jsonData": rows | values,
        "meta": values,
    },
)
bodies = st.binary(max_size=200) | (values | requests | frames).map(lambda value: json.dumps(value).encode())


def check(gateway: Gateway, path: str, body: bytes, headers: dict[str, str]) -> None:
    response = gateway.send("POST", path, body, headers)
    assert response.status < 500, (path, headers, body[:500], response.body)
    if response.status >= 400:
        assert isinstance(json.loads(response.body), dict)


@_hurried
@given(path=st.sampled_from(PATHS), body=bodies, media_type=st.sampled_from(MEDIA_TYPES))
def test_any_body_over_http(gateway: Gateway, path: str, body: bytes, media_type: str) -> None:
    check(gateway, path, body, {"content-type": media_type})


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Return a gateway whose requests are numbers alone, so that they go the short way."""
    running = Gateway(tmp_path_factory.mktemp("short"), live="m/5")
    yield running
    assert "Traceback" not in running.stop()


@_hurried
@given(path=st.sampled_from(PATHS[:2]), body=bodies)
def test_any_body_on_the_short_way(short: Gateway, path: str, body: bytes) -> None:
    check(short, path, body, {"content-type": "application/json"})


@_hurried
@given(
    request=requests,
    raw=st.binary(max_size=60),
    length=st.none() | st.sampled_from(["-1", "1e3", "99999999999999999999", "x"]),
)
def test_any_binary_tensors(gateway: Gateway, request: Any, raw: bytes, length: str | None) -> None:
    header = json.dumps(request).encode()
    headers = {"inference-header-content-length": length or str(len(header))}
    check(gateway, "/v2/models/credit/infer", header + raw, headers)


@_hurried
@given(
    body=bodies,
    encoding=st.sampled_from(["gzip", "deflate", "br", "identity", "gzip, gzip"]),
)
def test_any_compression(gateway: Gateway, body: bytes, encoding: str) -> None:
    check(gateway, "/v2/models/credit/infer", body, {"content-encoding": encoding})


@pytest.fixture(scope="module")
def infer(gateway: Gateway) -> Any:
    with grpc.insecure_channel(f"127.0.0.1:{gateway.port + 1}") as channel:
        yield channel.unary_unary(f"/{SERVICE}/ModelInfer")


contents = st.fixed_dictionaries(
    {},
    optional={
        "fp64_contents": st.lists(st.floats(), max_size=4),
        "int64_contents": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
        "bool_contents": st.lists(st.booleans(), max_size=4),
        "bytes_contents": st.lists(st.binary(max_size=5), max_size=4),
    },
)
messages = st.builds(
    lambda inputs, raw, model, version: make_request(
        *inputs, raw=raw, model_name=model, model_version=version
    ).SerializeToString(),
    st.lists(
        st.fixed_dictionaries(
            {"name": names, "datatype": st.sampled_from(DATATYPES), "shape": shapes}, optional={"contents": contents}
        ),
        max_size=3,
    ),
    st.lists(st.binary(max_size=30) | st.just(struct.pack("<3d", 1, 2, 3)), max_size=3),
    st.sampled_from(["credit", "", "credti"]),
    st.sampled_from(["", "1", "2", "99", "x"]),
)


@_hurried
@given(data=messages | st.binary(max_size=100))
def test_any_message_over_grpc(infer: Any, data: bytes) -> None:
    try:
        infer(data, timeout=10)
    except grpc.RpcError as error:
        assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND), error.details()
