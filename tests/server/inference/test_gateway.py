"""The gateway as its clients and its operators meet it: a process of its own on a port."""

import gzip
import http.client
import json
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import pytest

from flyball.domain.predictions.log import list_open_segments
from flyball.domain.serving.rollouts import Move, canary

from .conftest import REQUEST, Gateway, StartGateway
from .gateway_process import MAX_BODY_BYTES


def test_a_prediction_is_answered_with_its_origin_and_logged(gateway: Gateway) -> None:
    response = gateway.predict()
    answer = response.json
    assert (response.status, response.media_type) == (200, "application/json")
    assert (answer["prediction"], answer["model_version"], answer["variant"]) == (0.25, "m/1", "live")
    record = gateway.house.predictions.get(answer["prediction_id"])
    assert (record.prediction, record.request_fields) == (0.25, REQUEST)


def test_many_rows_are_answered_each_with_its_own_status(gateway: Gateway) -> None:
    response = gateway.predict({"rows": [REQUEST, {**REQUEST, "income": -1}, REQUEST]})
    assert response.status == 200
    assert [answer["status"] for answer in response.json["predictions"]] == ["ok", "refused", "ok"]
    assert response.json["predictions"][1]["errors"][0]["field"] == "income"


def test_a_wrong_row_is_told_field_by_field(gateway: Gateway) -> None:
    response = gateway.predict({"customer_id": "a", "income": -5.0})
    problem = response.json
    assert (response.status, response.media_type) == (422, "application/problem+json")
    assert problem["type"] == "urn:flyball:serving/request-refused"
    assert [error["field"] for error in problem["errors"]] == ["customer_id", "term"]
    assert set(problem) == {"type", "title", "status", "detail", "hint", "errors", "prediction_id"}
    assert gateway.house.predictions.get(problem["prediction_id"]).status.value == "refused"


def test_rows_that_are_all_wrong_are_refused_by_their_place(gateway: Gateway) -> None:
    response = gateway.predict({"rows": [{**REQUEST, "income": -1}, 5]})
    assert response.status == 422
    assert [error["field"] for error in response.json["errors"]] == ["rows[0].income", "rows[1]"]
    assert response.json["errors"][0]["message"] == "income must be between 0 and 1000000, but -1 was given"


BAD_BODIES = {
    "empty": (b"", 400),
    "not JSON": (b"{", 400),
    "two documents": (b"{}{}", 400),
    "invalid UTF-8": (b'{"income": "\xff\xfe"}', 400),
    "NaN": (b'{"income": NaN}', 400),
    "infinite": (b'{"customer_id": 1, "income": 1e400, "term": 12}', 400),
    "nested too deeply": (b'{"income": ' + b"[" * 100_000, 400),
    "nested deeply": (b'{"income": ' + b"[" * 900 + b"]" * 900 + b"}", 422),
    "a list": (b"[]", 422),
    "a number": (b"5", 422),
    "null": (b"null", 422),
    "no rows": (b'{"rows": []}', 422),
    "rows that are no objects": (b'{"rows": [1, null, "x", []]}', 422),
    "more rows than taken": (b'{"rows": [' + b",".join([b"{}"] * 10_001) + b"]}", 422),
    "an empty object": (b"{}", 422),
    "a huge number": (b'{"customer_id": 1%s, "income": 1, "term": 12}' % (b"0" * 50), 422),
    "a lone surrogate": (b'{"customer_id": "\\ud800", "income": 1, "term": 12}', 400),
    "thousands of fields": (json.dumps({f"field{n}": n for n in range(20_000)}).encode(), 422),
    "an endless name": (json.dumps({"x" * 500_000: 1}).encode(), 422),
    "an endless value": (json.dumps({**REQUEST, "income": "x" * 500_000}).encode(), 422),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_body_is_the_clients_mistake_and_told_quickly(gateway: Gateway, name: str) -> None:
    body, status = BAD_BODIES[name]
    started = time.monotonic()
    response = gateway.send("POST", "/predict/credit", body)
    assert (response.status, response.media_type) == (status, "application/problem+json"), response.body[:500]
    assert response.json["status"] == status
    assert response.json["detail"]
    assert len(response.body) < 5_000
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/csv"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 200),
        ({"content-type": "application/json", "content-encoding": "br"}, 415),
        ({"content-type": "application/json; charset=utf-8"}, 200),
        ({}, 200),
    ],
)
def test_only_json_is_read(gateway: Gateway, headers: Any, status: int) -> None:
    body = json.dumps(REQUEST).encode()
    if headers.get("content-encoding") == "gzip":
        body = gzip.compress(body)
    assert gateway.send("POST", "/predict/credit", body, headers).status == status


@pytest.mark.parametrize(
    ("method", "path", "status", "told"),
    [
        ("GET", "/predict/credit", 405, "Use POST"),
        ("POST", "/health", 405, "Use GET"),
        ("POST", "/", 405, "Use GET"),
        ("GET", "/nothing", 404, "POST /predict/ENDPOINT"),
        ("POST", "/predict/", 404, "POST /predict/ENDPOINT"),
        ("POST", "/predict/credti", 404, "did you mean 'credit'"),
        ("POST", "/predict/../etc/passwd", 404, ""),
        ("POST", "/predict/%00%ff", 404, ""),
    ],
)
def test_a_wrong_address_is_told(gateway: Gateway, method: str, path: str, status: int, told: str) -> None:
    response = gateway.send(method, path, json.dumps(REQUEST).encode() if method == "POST" else None)
    assert (response.status, response.media_type) == (status, "application/problem+json")
    assert told in response.json["detail"] + response.json["hint"]


def read_until_end(connection: socket.socket) -> bytes:
    received = b""
    try:
        while chunk := connection.recv(65_536):
            received += chunk
    except ConnectionResetError:
        pass
    return received


def test_a_body_of_100_mb_is_refused_unread(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(b"POST /predict/credit HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000\r\n\r\n")
        answer = read_until_end(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"1,000,000 bytes" in answer


def test_a_body_without_a_length_is_read_up_to_the_limit(gateway: Gateway) -> None:
    chunk = b"%x\r\n" % 65_536 + b" " * 65_536 + b"\r\n"
    sent = 0
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(b"POST /predict/credit HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        try:
            while sent < 100_000_000:
                connection.sendall(chunk)
                sent += 65_536
        except OSError:
            pass
        answer = read_until_end(connection)
    assert sent < 20 * MAX_BODY_BYTES
    assert not answer or answer.startswith(b"HTTP/1.1 413 ")
    assert gateway.predict().status == 200


def test_a_client_that_leaves_halfway_costs_nothing(gateway: Gateway) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
            connection.sendall(b"POST /predict/credit HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n{")
    assert gateway.predict().status == 200


def test_health_and_metrics_tell_what_goes_on(gateway: Gateway) -> None:
    gateway.predict()
    health = gateway.get("/health")
    assert (health.status, health.json["endpoints"]["credit"]["live"]) == (200, "m/1")
    metrics = gateway.get("/metrics").body.decode()
    assert 'flyball_predictions_total{endpoint="credit",version="m/1",variant="live",status="ok"}' in metrics
    assert (
        'flyball_request_duration_seconds_bucket{endpoint="credit",protocol="flyball",version="m/1",le="+Inf"}'
        in metrics
    )


def test_before_the_first_version_it_is_ready_but_says_so(start: StartGateway) -> None:
    gateway = start(live=None)
    response = gateway.predict()
    assert (response.status, response.json["type"]) == (409, "urn:flyball:serving/nothing-live")
    gateway.house.go_live("m/2")
    deadline = time.monotonic() + 1
    while gateway.predict().status != 200:
        assert time.monotonic() < deadline


def test_an_endpoint_may_quarantine(start: StartGateway) -> None:
    gateway = start("quarantine")
    response = gateway.predict({**REQUEST, "income": -5.0})
    assert (response.status, response.json["status"], response.json["prediction"]) == (202, "quarantined", None)
    assert response.json["errors"][0]["message"] == "income must be between 0 and 1000000, but -5 was given"


def test_a_model_that_raises_is_not_the_clients_fault(start: StartGateway) -> None:
    gateway = start(live="m/3")
    response = gateway.predict()
    assert (response.status, response.json["type"]) == (502, "urn:flyball:serving/model-failed")
    assert "it is broken" in response.json["detail"]


@pytest.mark.parametrize("version", ["m/1", "m/5"], ids=["long way", "short way"])
def test_with_a_full_disk_nothing_is_answered(start: StartGateway, version: str) -> None:
    gateway = start("full", version)
    for _ in range(3):
        response = gateway.predict()
        assert (response.status, response.json["type"]) == (503, "urn:flyball:predictions/log-unavailable")
        assert "disk space" in response.json["hint"]


def ask(connection: http.client.HTTPConnection, method: str, path: str, content: Any = None) -> Any:
    connection.request(method, path, json.dumps(content), {"content-type": "application/json"})
    response = connection.getresponse()
    assert response.status == 200
    return json.loads(response.read())


@pytest.mark.parametrize("version", ["m/1", "m/5"], ids=["long way", "short way"])
def test_with_a_durable_log_the_disk_has_the_record_before_the_client_has_the_answer(
    start: StartGateway, version: str
) -> None:
    gateway = start("disk", version)
    times_s = gateway.root / "synced"
    for number in range(3):
        begun_s = time.monotonic()
        assert gateway.predict().status == 200
        answered_s = time.monotonic()
        synced_s = [float(line) for line in times_s.read_text().splitlines()]
        assert len(synced_s) == number + 1
        assert begun_s + 0.2 < synced_s[-1] < answered_s
    times_s.unlink()
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(12))
        connections = [http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20) for _ in range(12)]
        for connection in connections:
            stack.enter_context(closing(connection)).connect()
            ask(connection, "GET", "/health")
        answers = list(threads.map(lambda connection: ask(connection, "POST", "/predict/credit", REQUEST), connections))
    assert len({answer["prediction_id"] for answer in answers}) == 12
    assert len(times_s.read_text().splitlines()) <= 4, "requests that came together did not share the wait"


@pytest.mark.parametrize("version", ["m/1", "m/5"], ids=["long way", "short way"])
def test_what_the_disk_did_not_take_is_not_answered(start: StartGateway, version: str) -> None:
    gateway = start("broken disk", version)
    for _ in range(2):
        response = gateway.predict()
        assert (response.status, response.json["type"]) == (503, "urn:flyball:predictions/log-unavailable")
    gateway.stop()
    gateway.house.predictions.seal()
    assert gateway.house.predictions.count("credit") == 0


def test_a_rollout_and_its_rollback_fail_no_request(start: StartGateway) -> None:
    gateway = start()
    results: list[tuple[int, str, float]] = []
    is_done = threading.Event()

    def ask() -> None:
        number = 0
        while not is_done.is_set():
            number += 1
            response = gateway.predict({**REQUEST, "customer_id": number % 9})
            answer = response.json
            results.append((response.status, answer.get("model_version", ""), answer.get("prediction", -1)))

    client = threading.Thread(target=ask)
    client.start()
    try:
        for _ in range(3):
            gateway.house.start("m/2", canary(0.5, "1h"))
            time.sleep(0.3)
            gateway.house.rollouts.apply("credit", Move.PROMOTE, reason="test")
            gateway.house.go_live("m/2")
            time.sleep(0.3)
            gateway.house.go_live("m/1")
            moved = time.monotonic()
            while gateway.predict().json["model_version"] != "m/1":
                assert time.monotonic() - moved < 10
    finally:
        is_done.set()
        client.join()
    assert {status for status, _, _ in results} == {200}
    assert {(version, value) for _, version, value in results} == {("m/1", 0.25), ("m/2", 0.75)}


def test_kill_loses_no_answered_prediction(start: StartGateway) -> None:
    gateway = start()
    answered: list[str] = []

    def ask() -> None:
        try:
            while True:
                response = gateway.predict({"rows": [REQUEST] * 5})
                answered.extend(answer["prediction_id"] for answer in response.json["predictions"])
        except (OSError, http.client.HTTPException):
            pass  # the gateway is gone; half an answer is none

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for client in clients:
        client.start()
    time.sleep(0.7)
    gateway.stop(signal.SIGKILL)
    for client in clients:
        client.join()
    gateway.house.predictions.seal()
    logged = gateway.house.predictions.scan("credit").collect()["id"].to_list()
    assert len(answered) > 20
    assert set(answered) <= set(logged)
    assert len(set(logged)) == len(logged)


def test_stopping_finishes_what_was_asked_and_closes_the_log(start: StartGateway) -> None:
    gateway = start(live="m/4")
    answers: list[int] = []
    client = threading.Thread(target=lambda: answers.append(gateway.predict().status))
    client.start()
    time.sleep(0.1)
    gateway.stop(signal.SIGTERM)
    client.join()
    assert answers == [200]
    [result] = gateway.house.predictions.seal()
    assert result.rows == 1
    assert list_open_segments(gateway.house.predictions._root, "credit") == []
