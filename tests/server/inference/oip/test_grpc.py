"""The Open Inference Protocol over gRPC, in the process of the gateway."""

import json
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from flyball.server.inference.oip.wire import HEALTH_SERVICE, SERVICE, make_messages
from tests.server.inference.conftest import Gateway, StartGateway

ROW = [1.0, 1000.0, 12.0]
Call = Callable[..., Any]
messages = make_messages()


@pytest.fixture(scope="module")
def channel(gateway: Gateway) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{gateway.port + 1}") as opened:
        yield opened


@pytest.fixture
def call(channel: grpc.Channel) -> Call:
    def send(name: str, request: Any, answer: str, service: str = SERVICE) -> Any:
        decode = messages[answer].FromString
        data = request if isinstance(request, bytes) else request.SerializeToString()
        return channel.unary_unary(f"/{service}/{name}", response_deserializer=decode)(data, timeout=10)

    return send


@pytest.fixture
def infer(call: Call) -> Call:
    return lambda request: call("ModelInfer", request, "ModelInferResponse")


def make_request(*inputs: dict[str, Any], raw: Any = (), **fields: Any) -> Any:
    return messages["ModelInferRequest"](
        **({"model_name": "credit"} | fields), inputs=list(inputs), raw_input_contents=list(raw)
    )


def matrix(rows: int = 1, **changes: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP64", "shape": [rows, 3]} | changes


def refusal(infer: Call, request: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as refused:
        infer(request)
    return refused.value


def test_health_and_metadata(call: Call) -> None:
    assert call("ServerLive", messages["ServerLiveRequest"](), "ServerLiveResponse").live
    assert call("ServerReady", messages["ServerReadyRequest"](), "ServerReadyResponse").ready
    assert call("ServerMetadata", messages["ServerMetadataRequest"](), "ServerMetadataResponse").name == "flyball"
    asked = messages["ModelReadyRequest"](name="credit")
    assert call("ModelReady", asked, "ModelReadyResponse").ready
    told = call("ModelMetadata", messages["ModelMetadataRequest"](name="credit"), "ModelMetadataResponse")
    assert [(spec.name, spec.datatype, list(spec.shape)) for spec in told.inputs][:2] == [
        ("customer_id", "INT64", [-1]),
        ("income", "FP64", [-1]),
    ]
    health = call("Check", messages["HealthCheckRequest"](), "HealthCheckResponse", HEALTH_SERVICE)
    assert health.status == 1


def test_raw_contents_are_answered_raw(infer: Call, gateway: Gateway) -> None:
    answer = infer(make_request(matrix(2), raw=[struct.pack("<6d", *ROW, *ROW)], id="mine"))
    assert (answer.model_name, answer.model_version, answer.id) == ("credit", "1", "mine")
    assert struct.unpack("<2d", answer.raw_output_contents[0]) == (0.25, 0.25)
    assert list(answer.outputs[0].shape) == [2]
    assert not answer.outputs[0].HasField("contents")


def test_typed_contents_are_answered_typed(infer: Call) -> None:
    inputs = [
        {"name": "customer_id", "datatype": "INT64", "shape": [1], "contents": {"int64_contents": [1]}},
        {"name": "income", "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [1000.0]}},
        {"name": "term", "datatype": "UINT8", "shape": [1], "contents": {"uint_contents": [12]}},
        {
            "name": "applied_at",
            "datatype": "BYTES",
            "shape": [1, 1],
            "contents": {"bytes_contents": [b"2026-03-01T00:00:00Z"]},
        },
    ]
    answer = infer(make_request(*inputs, outputs=[{"name": "prediction"}, {"name": "prediction_id"}]))
    assert list(answer.outputs[0].contents.fp64_contents) == [0.25]
    assert len(answer.outputs[1].contents.bytes_contents[0]) == 26
    assert not answer.raw_output_contents


def test_a_named_version_answers_itself(infer: Call) -> None:
    answer = infer(make_request(matrix(contents={"fp64_contents": ROW}), model_version="2"))
    assert (answer.model_version, list(answer.outputs[0].contents.fp64_contents)) == ("2", [0.75])


def test_the_repository_as_triton_and_as_kserve_ask_for_it(call: Call) -> None:
    request = messages["RepositoryModelRequest"]
    named = request(model_name="credit", parameters={"version": {"string_param": "3"}})
    call("RepositoryModelLoad", named, "RepositoryModelResponse")
    index = call("RepositoryIndex", messages["RepositoryIndexRequest"](ready=True), "RepositoryIndexResponse")
    assert "3" in [model.version for model in index.models]
    call("RepositoryModelUnload", named, "RepositoryModelResponse")
    told = call("RepositoryModelLoad", request(repository_name="credit"), "RepositoryModelResponse")
    assert (told.model_name, told.is_done) == ("credit", True)


def test_a_stream_answers_each_request(channel: grpc.Channel) -> None:
    good, bad = make_request(matrix(contents={"fp64_contents": ROW})), make_request(matrix())
    stream = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")
    data = [good.SerializeToString(), bad.SerializeToString(), b"\xff", good.SerializeToString()]
    answers = [messages["ModelStreamInferResponse"].FromString(found) for found in stream(iter(data), timeout=10)]
    assert [bool(answer.error_message) for answer in answers] == [False, True, True, False]
    assert list(answers[3].infer_response.outputs[0].contents.fp64_contents) == [0.25]


INVALID = {
    "no inputs": make_request(),
    "no bytes": make_request(matrix(), raw=[b""]),
    "too few elements": make_request(matrix(2, contents={"fp64_contents": ROW})),
    "the wrong contents": make_request(matrix(contents={"fp32_contents": ROW})),
    "two kinds of contents": make_request(matrix(contents={"fp32_contents": ROW, "fp64_contents": ROW})),
    "raw and typed": make_request(matrix(contents={"fp64_contents": ROW}), raw=[b"0" * 24]),
    "raw for other inputs": make_request(matrix(), raw=[b"0" * 24] * 2),
    "an unknown datatype": make_request(matrix(datatype="FP63", contents={"fp64_contents": ROW})),
    "a negative shape": make_request(matrix(shape=[-1, 3], contents={"fp64_contents": ROW})),
    "NaN": make_request(matrix(contents={"fp64_contents": [1, float("nan"), 12]})),
    "infinite": make_request(matrix(contents={"fp64_contents": [float("inf"), 1, 12]})),
    "an output as classes": make_request(
        matrix(contents={"fp64_contents": ROW}),
        outputs=[{"name": "prediction", "parameters": {"classification": {"int64_param": 2}}}],
    ),
    "an unknown output": make_request(matrix(contents={"fp64_contents": ROW}), outputs=[{"name": "x"}]),
    "half precision, typed": make_request(matrix(datatype="FP16", contents={"fp32_contents": ROW})),
    "no message": b"\xff\xff\xff",
}


@pytest.mark.parametrize("name", INVALID)
def test_a_bad_request_is_an_invalid_argument(infer: Call, name: str) -> None:
    refused = refusal(infer, INVALID[name])
    assert (refused.code(), bool(refused.details())) == (grpc.StatusCode.INVALID_ARGUMENT, True)


@pytest.mark.parametrize("name", [{"model_name": "credti"}, {"model_version": "99"}, {"model_version": "x"}])
def test_what_does_not_exist_is_not_found(infer: Call, name: dict[str, str]) -> None:
    refused = refusal(infer, make_request(matrix(contents={"fp64_contents": ROW}), **name))
    assert refused.code() is grpc.StatusCode.NOT_FOUND


def test_a_message_over_the_limit_is_refused(infer: Call) -> None:
    refused = refusal(infer, make_request(matrix(100_000), raw=[b"0" * 2_400_000]))
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert list(infer(make_request(matrix(contents={"fp64_contents": ROW}))).outputs[0].shape) == [1]


def test_a_message_that_grows_beyond_the_limit_is_refused(gateway: Gateway, infer: Call) -> None:
    bomb = make_request(matrix(), raw=[bytes(50_000_000)]).SerializeToString()
    unbounded = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{gateway.port + 1}", options=unbounded) as channel:
        send = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            send(bomb, timeout=10, compression=grpc.Compression.Gzip)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert list(infer(make_request(matrix(contents={"fp64_contents": ROW}))).outputs[0].shape) == [1]


def test_versions_swap_under_load_without_a_wrong_or_failed_answer(start: StartGateway) -> None:
    gateway = start()
    found: list[tuple[str, float]] = []
    is_done = threading.Event()
    body = json.dumps({"inputs": [matrix(data=ROW)]}).encode()
    data = make_request(matrix(contents={"fp64_contents": ROW})).SerializeToString()

    def ask_rest() -> None:
        while not is_done.is_set():
            response = gateway.send("POST", "/v2/models/credit/infer", body)
            assert response.status == 200, response.body
            found.append((response.json["model_version"], response.json["outputs"][0]["data"][0]))

    def ask_grpc() -> None:
        with grpc.insecure_channel(f"127.0.0.1:{gateway.port + 1}") as channel:
            infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")
            while not is_done.is_set():
                answer = messages["ModelInferResponse"].FromString(infer(data, timeout=10))
                found.append((answer.model_version, answer.outputs[0].contents.fp64_contents[0]))

    with ThreadPoolExecutor(2) as pool:
        clients = [pool.submit(ask_rest), pool.submit(ask_grpc)]
        for ref in ("m/2", "m/1", "m/2"):
            gateway.house.go_live(ref)
            time.sleep(0.4)
        is_done.set()
        for client in clients:
            client.result()
    assert set(found) == {("1", 0.25), ("2", 0.75)}
