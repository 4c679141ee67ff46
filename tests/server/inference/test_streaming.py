"""Answers come one after the other over a real connection, for so long as somebody reads them."""

import http.client
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.server.inference.conftest import REQUEST, Gateway, StartGateway
from tests.stories.system import wait_for


@pytest.fixture
def yielding(start: StartGateway) -> Gateway:
    return start("", "m/8")  # yields an answer every tenth of a second


def body(*incomes: Any) -> bytes:
    return json.dumps({"rows": [REQUEST | {"income": income} for income in incomes]}).encode()


@contextmanager
def asking(gateway: Gateway, content: bytes, **headers: str) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)
    try:
        connection.request("POST", "/predict/credit?stream=true", content, headers)
        yield connection.getresponse()
    finally:
        connection.close()


def test_each_answer_comes_when_it_is_known(yielding: Gateway) -> None:
    begun_s = time.monotonic()
    with asking(yielding, body(1e5, "much", 2e5, 3e5, 4e5)) as response:
        assert (response.status, response.headers["content-type"]) == (200, "application/x-ndjson")
        first = json.loads(response.readline())
        first_s = time.monotonic() - begun_s
        rest = [json.loads(line) for line in response]
        took_s = time.monotonic() - begun_s
    assert [first["prediction"], *(answer["prediction"] for answer in rest)] == [0.05, None, 0.1, 0.15, 0.2]
    assert [answer["status"] for answer in rest] == ["refused", "ok", "ok", "ok"]
    assert first_s < took_s - 0.2
    yielding.stop()
    assert set(yielding.house.sealed()["id"]) == {answer["prediction_id"] for answer in (first, *rest)}


def test_events_for_who_takes_them(yielding: Gateway) -> None:
    with asking(yielding, body(1e5, 2e5), accept="text/event-stream") as response:
        assert response.headers["content-type"] == "text/event-stream"
        text = response.read().decode()
    events = [event for event in text.split("\n\n") if event]
    assert all(event.startswith("data: {") for event in events)
    assert [json.loads(event.removeprefix("data: "))["prediction"] for event in events] == [0.05, 0.1]


def test_curl_shows_them_line_by_line(yielding: Gateway) -> None:
    url = f"http://127.0.0.1:{yielding.port}/predict/credit?stream=true"
    done = subprocess.run(
        ["curl", "--silent", "--no-buffer", "--json", body(1e5, 2e5, 3e5).decode(), url],
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert [json.loads(line)["prediction"] for line in done.stdout.splitlines()] == [0.05, 0.1, 0.15]


def test_a_model_stops_when_its_client_leaves(yielding: Gateway) -> None:
    content = body(*range(100, 200))
    head = f"POST /predict/credit?stream=true HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", yielding.port), timeout=10) as connection:
        connection.sendall(head.encode() + content)
        assert b"prediction_id" in connection.recv(65_536) + connection.recv(65_536)
    counted = 'flyball_requests_total{endpoint="credit",protocol="flyball",code="499"} 1'
    wait_for(lambda: counted in yielding.get("/metrics").body.decode(), "that the client left is counted", 10)
    time.sleep(0.5)
    yielding.stop()
    assert 0 < yielding.house.sealed().height < 30


def test_a_model_that_breaks_is_told_in_the_place_of_its_answers(yielding: Gateway) -> None:
    with asking(yielding, body(1e5, 13, 2e5)) as response:
        answers = [json.loads(line) for line in response]
    assert [answer["status"] for answer in answers] == ["ok", "error", "error"]
    assert "thirteen" in answers[1]["errors"][0]["message"]


def test_a_model_that_stands_still_is_told_after_the_time_and_others_go_on(yielding: Gateway) -> None:
    with asking(yielding, body(1e5, 19, 2e5)) as response:
        assert json.loads(response.readline())["prediction"] == 0.05
        assert yielding.get("/health").status == 200
        [last] = [json.loads(line) for line in response]
    assert last["status"] == "error"
    assert last["problem"]["type"] == "urn:flyball:http/timed-out"
    with asking(yielding, body(1e5)) as response:
        assert json.loads(response.read())["prediction"] == 0.05


def test_what_cannot_be_answered_at_all_is_told_by_its_status(yielding: Gateway) -> None:
    with asking(yielding, b"{") as response:
        assert (response.status, response.headers["content-type"]) == (400, "application/problem+json")
    both = yielding.send("POST", "/predict/credit?stream=true&explain=true", body(1e5))
    assert (both.status, "together" in both.json["detail"]) == (422, True)
    assert yielding.send("POST", "/predict/nobody?stream=true", body(1e5)).status == 404
    assert yielding.send("POST", "/predict/credit?stream=perhaps", body(1e5)).status == 422
