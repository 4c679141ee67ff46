"""Bodies that are too long, whatever protocol they come by, are refused before they are read."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.server.inference.conftest import REQUEST, Gateway, StartGateway

PATHS = (
    "/predict/credit",
    "/v2/models/credit/infer",
    "/invocations",
    "/v1/models/credit:predict",
    "/api/v1.0/predictions",
)


def send_raw(gateway: Gateway, head: str, body: bytes = b"") -> bytes:
    received = b""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        try:
            while chunk := connection.recv(65_536):
                received += chunk
        except ConnectionResetError:
            pass
    return received


@pytest.mark.parametrize("path", PATHS)
def test_100_mb_are_refused_unread(gateway: Gateway, path: str) -> None:
    answer = send_raw(gateway, f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in head.lower()
    assert b"1,000,000 bytes" in body
    assert isinstance(json.loads(body), dict)


@pytest.mark.parametrize("path", PATHS)
def test_an_unknown_compression_is_refused_and_the_connection_ends(gateway: Gateway, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-encoding: br\r\ncontent-length: 10"
    answer = send_raw(gateway, head, b"0123456789")
    assert answer.startswith((b"HTTP/1.1 415 ", b"HTTP/1.1 400 "))
    assert b"connection: close" in answer.lower()


def test_a_million_rows_are_too_many_however_small_they_are(gateway: Gateway) -> None:
    # Ones and commas of a million elements are over the limit of bytes; a column of 400,000 flags is not.
    tensor = {"name": "x", "datatype": "BOOL", "shape": [400_000], "parameters": {"binary_data_size": 400_000}}
    header = json.dumps({"inputs": [tensor]}).encode()
    headers = {"inference-header-content-length": str(len(header))}
    response = gateway.send("POST", "/v2/models/credit/infer", header + b"\1" * 400_000, headers)
    assert (response.status, "400,000 rows" in response.json["error"]) == (400, True)


def test_a_slow_model_holds_up_only_its_own_requests_and_too_many_are_told_to_wait(start: StartGateway) -> None:
    running = start("", "m/4")  # takes 0.2 s for each request
    assert running.predict().status == 200
    with ThreadPoolExecutor(40) as pool:
        asked = [pool.submit(running.predict) for _ in range(40)]
        time.sleep(0.3)
        assert running.get("/health").status == 200
        assert not all(future.done() for future in asked), "others are not held up"
        answers = [future.result() for future in asked]
    statuses = {answer.status for answer in answers}
    assert statuses <= {200, 429, 504}
    assert {200, 429} <= statuses
    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.headers["retry-after"] == "1"
    assert refused.json["type"] == "urn:flyball:http/too-busy"
    running.stop()
    assert running.house.sealed().height >= sum(answer.status == 200 for answer in answers)


def test_requests_that_wait_for_a_slow_model_share_its_calls(start: StartGateway) -> None:
    running = start("", "m/7")  # each call takes 40 ms of the processor's time, each row half of one
    for _ in range(3):
        assert running.predict().status == 200
    with ThreadPoolExecutor(12) as pool:
        begun_s = time.monotonic()
        answers = list(pool.map(lambda number: running.predict(REQUEST | {"income": 1e4 * number}), range(60)))
        took_s = time.monotonic() - begun_s
    assert [answer.json["prediction"] for answer in answers] == pytest.approx([0.005 * n for n in range(60)])
    counted = read_metrics(running.get("/metrics").body)
    calls = counted['flyball_batch_requests_count{endpoint="credit"}']
    assert counted['flyball_batch_requests_sum{endpoint="credit"}'] == 63
    assert calls < 40, f"{calls} calls in {took_s:.1f} s"
    running.stop()
    logged = running.house.sealed()
    assert {answer.json["prediction_id"] for answer in answers} <= set(logged["id"])
    assert logged.height == 63


def read_metrics(text: bytes) -> dict[str, float]:
    lines = [line for line in text.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_explanations_that_take_too_long_end_for_who_waits(start: StartGateway) -> None:
    running = start("", "m/6")  # takes 3 s for each call
    v1 = json.dumps({"instances": [list(REQUEST.values())]}).encode()
    ask = [
        lambda: running.predict(REQUEST, "credit?explain=true"),
        lambda: running.send("POST", "/v1/models/credit:explain", v1),
    ]
    with ThreadPoolExecutor(10) as pool:
        answers = [future.result() for future in [pool.submit(ask[number % 2]) for number in range(10)]]
    assert {answer.status for answer in answers} == {504}
    assert running.get("/health").status == 200
    in_progress = read_metrics(running.get("/metrics").body)['flyball_requests_in_progress{worker="0"}']
    assert in_progress == 1, "only the one that asks"


def test_who_waits_too_long_is_told_so_by_every_protocol(start: StartGateway) -> None:
    running = start("", "m/6")  # takes 3 s for each request
    begun_s = time.monotonic()
    response = running.predict()
    assert (response.status, response.json["type"]) == (504, "urn:flyball:http/timed-out")
    assert time.monotonic() - begun_s < 2.5
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 1000.0, 12]}
    response = running.send("POST", "/v2/models/credit/infer", json.dumps({"inputs": [tensor]}).encode())
    assert (response.status, "within 1 seconds" in response.json["error"]) == (504, True)


def test_a_client_that_sends_byte_by_byte_for_long_loses_its_connection(start: StartGateway) -> None:
    running = start("impatient")
    with (
        socket.create_connection(("127.0.0.1", running.port), timeout=10) as slow,
        socket.create_connection(("127.0.0.1", running.port), timeout=10) as silent,
    ):
        slow.sendall(b"POST /predict/credit HTTP/1.1\r\nhost: x\r\n")
        assert slow.recv(1_000).startswith(b"HTTP/1.1 408 ")
        assert silent.recv(1_000) == b""
    assert running.predict().status == 200


def test_a_model_that_takes_too_much_memory_fails_alone(start: StartGateway) -> None:
    running = start("narrow", "m/5")
    row = {"customer_id": 3, "income": 10.5, "term": 2}
    assert running.predict(row).json["prediction"] == 12.5
    response = running.predict(row | {"income": 15})
    assert response.status == 502
    assert "MemoryError" in response.json["detail"] or "allocate" in response.json["detail"]
    assert running.predict(row).json["prediction"] == 12.5
    assert running.process.poll() is None
