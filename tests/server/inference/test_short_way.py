"""The short way over HTTP: what is said is the same, however requests arrive."""

import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Any

import pytest

from flyball.core.ids import list_ids
from tests.server.inference.conftest import Gateway, StartGateway

ROW: dict[str, Any] = {"customer_id": 3, "income": 10.5, "term": 2}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    running = Gateway(tmp_path_factory.mktemp("home"), live="m/5")
    yield running
    assert "coroutine" not in running.stop()


def infer(rows: list[list[Any]], **more: Any) -> bytes:
    tensor = {
        "name": "rows",
        "shape": [len(rows), 3],
        "datatype": "FP64",
        "data": [value for row in rows for value in row],
    }
    return json.dumps({"inputs": [tensor]} | more).encode()


def request(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: x", *headers, f"content-length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def talk(gateway: Gateway, *pieces: bytes, answers: int = 1) -> list[tuple[int, Any]]:
    """Send pieces on one connection and return the status and content of each answer."""
    received: list[tuple[int, Any]] = []
    data = b""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        while len(received) < answers:
            head, end, rest = data.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            if not end or length is None or len(rest) < int(length[1]):
                chunk = connection.recv(65_536)
                assert chunk, data
                data += chunk
                continue
            received.append((int(head.split()[1]), json.loads(rest[: int(length[1])])))
            data = rest[int(length[1]) :]
    return received


def predictions(answers: list[tuple[int, Any]]) -> list[float]:
    assert {status for status, _ in answers} == {200}
    return [answer["prediction"] for _, answer in answers]


def test_both_protocols_answer_and_each_prediction_is_logged(gateway: Gateway) -> None:
    own = gateway.predict(ROW).json
    many = gateway.predict({"rows": [ROW, ROW | {"term": None}]}).json
    open_inference = gateway.send("POST", "/v2/models/credit/infer", infer([[3, 10.5, 2]], id="mine")).json

    assert (own["prediction"], own["model_version"], own["variant"], own["status"]) == (12.5, "m/5", "live", "ok")
    assert [found["prediction"] for found in many["predictions"]] == [12.5, 10.5]
    assert open_inference == {
        "model_name": "credit",
        "model_version": "5",
        "id": "mine",
        "outputs": [{"name": "prediction", "datatype": "FP64", "shape": [1], "data": [12.5]}],
    }
    for found in (own, *many["predictions"]):
        record = gateway.house.predictions.get(found["prediction_id"])
        assert record.prediction == found["prediction"]
        assert record.entity == {"customer_id": 3}


@pytest.mark.parametrize(
    ("row", "status", "said"),
    [
        (ROW | {"income": -1}, 422, "between"),
        (ROW | {"income": "much"}, 422, "float"),
        ({"customer_id": 3, "income": 1.0}, 422, "missing"),
        (ROW | {"extra": 1}, 422, "extra"),
        (ROW | {"customer_id": 2**70}, 422, "64 bits"),
        (ROW | {"income": 13}, 502, "thirteen"),
        ([ROW], 422, "list"),
    ],
)
def test_what_is_wrong_is_said_as_on_the_long_way(gateway: Gateway, row: Any, status: int, said: str) -> None:
    response = gateway.predict(row)
    assert (response.status, said in response.body.decode()) == (status, True), response.body
    assert response.media_type == "application/problem+json"


def test_a_body_that_is_no_json_is_refused(gateway: Gateway) -> None:
    assert gateway.send("POST", "/predict/credit", b"{").status == 400
    response = gateway.send("POST", "/v2/models/credit/infer", b"{")
    assert (response.status, "error" in response.json) == (400, True)


def test_a_request_in_single_bytes_is_answered(gateway: Gateway) -> None:
    whole = request("/predict/credit", json.dumps(ROW).encode())
    assert predictions(talk(gateway, *(whole[at : at + 1] for at in range(len(whole))))) == [12.5]


def test_requests_that_follow_each_other_unasked_are_answered_in_order(gateway: Gateway) -> None:
    bodies = [json.dumps(ROW | {"income": number}).encode() for number in range(20, 40)]
    sent = b"".join(request("/predict/credit", body) for body in bodies)
    assert predictions(talk(gateway, sent, answers=20)) == [number + 2 for number in range(20, 40)]


def test_long_and_short_ways_share_a_connection_in_order(gateway: Gateway) -> None:
    chunked = b"POST /predict/credit HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    body = json.dumps(ROW | {"income": 1}).encode()
    chunked += b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    short = request("/predict/credit", json.dumps(ROW).encode())
    bad = request("/predict/credit", b"[]")

    answers = talk(gateway, short + chunked + bad + short + chunked, answers=5)

    assert [status for status, _ in answers] == [200, 200, 422, 200, 200]
    assert [answer.get("prediction") for _, answer in answers] == [12.5, 3.0, None, 12.5, 3.0]


def test_a_connection_that_shall_end_ends_after_the_answer(gateway: Gateway) -> None:
    whole = request("/predict/credit", json.dumps(ROW).encode(), "connection: close")
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(whole)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
    assert received.startswith(b"HTTP/1.1 200 ")


def test_a_client_that_leaves_in_the_middle_harms_nobody(gateway: Gateway) -> None:
    whole = request("/predict/credit", json.dumps(ROW).encode())
    for length in (10, 60, len(whole) - 1, len(whole)):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
            connection.sendall(whole[:length])
    assert gateway.predict(ROW).json["prediction"] == 12.5
    text = gateway.get("/metrics").body.decode()
    assert re.search(r'flyball_requests_in_progress\{worker="0"\} 1$', text, re.MULTILINE), "only this one is"


def test_many_at_once_get_their_own_answers(gateway: Gateway) -> None:
    def one(number: int) -> bool:
        if number % 7 == 0:
            return gateway.predict(ROW | {"income": 13, "customer_id": number}).status == 502
        return bool(gateway.predict(ROW | {"income": number + 100}).json["prediction"] == number + 102)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(300)))


def test_requests_are_counted_by_protocol_and_version(gateway: Gateway) -> None:
    gateway.predict(ROW)
    gateway.send("POST", "/v2/models/credit/infer", infer([[3, 10.5, 2]]))
    text = gateway.get("/metrics").body.decode()
    for name in ("flyball", "open_inference"):
        assert f'flyball_requests_total{{endpoint="credit",protocol="{name}",code="200"}}' in text
    assert 'flyball_predictions_total{endpoint="credit",version="m/5",variant="live",status="ok"}' in text


def test_a_process_whose_model_never_returns_is_ended_and_says_where_it_stood(start: StartGateway) -> None:
    running = start("watched", "m/5")
    assert running.predict(ROW).status == 200
    with pytest.raises((ConnectionError, HTTPException)):
        running.predict(ROW | {"income": 19})
    errors = running.process.communicate(timeout=10)[1].decode()
    assert running.process.returncode == 1
    assert "predict_array" in errors
    assert running.house.sealed().height == 1


@pytest.mark.parametrize(
    "body",
    [
        '{"inputs":[{"name":"x","shape":[2,3],"datatype":"FP64","data":[1,2.5,3, 4,5e0,6]}]}',
        '{"inputs":[{"name":"data","shape":[2,3],"datatype":"FP64","data":[1,2.5,3,4,5,6]}]}',
        '{"inputs":[{"name":"[","shape":[2,3],"datatype":"FP64","data":[1,2.5,3,4,5,6]}],"data":[9,9,9,9,9,9]}',
        '{"data":[9,9,9,9,9,9],"inputs":[{"name":"x","shape":[2,3],"datatype":"FP32","d\\u0061ta":[1,2.5,3,4,5,6]}]}',
        '{"inputs":[{"data":[1,2.5,3,\n4,5,6],"name":"x","shape":[2,3],"datatype":"FP64"}]}',
        '{"inputs":[{"name":"x","shape":[2,3],"datatype":"FP64","data":[[1,2.5,3],[4,5,6]]}]}',
    ],
)
def test_the_log_holds_what_was_sent_however_it_was_spelt(gateway: Gateway, body: str) -> None:
    answer = gateway.send("POST", "/v2/models/credit/infer", body.encode())
    assert answer.status == 200, answer.body
    assert answer.json["outputs"][0]["data"] == [5.5, 11.0]
    records = [gateway.house.predictions.get(name) for name in list_ids(answer.json["id"], 2)]
    assert [record.request_fields for record in records] == [
        {"customer_id": 1, "income": 2.5, "term": 3},
        {"customer_id": 4, "income": 5.0, "term": 6},
    ]


def test_invalid_utf_8_is_refused_also_in_a_field_that_nobody_reads(gateway: Gateway) -> None:
    path, good = "/v2/models/credit/infer", infer([[3, 10.5, 2]])
    bad, other = good[:-1] + b', "note": "\xff"}', good[:-1] + ', "note": "Zürich"}'.encode()
    talk(gateway, request(path, good))
    answers = talk(gateway, *(request(path, body) for body in (good, bad, other)), answers=3)
    assert [status for status, _ in answers] == [200, 400, 200]
    assert "not JSON in UTF-8" in answers[1][1]["error"]
