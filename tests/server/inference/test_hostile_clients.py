"""Clients that break the rules of HTTP, or keep them so that others suffer: each is refused, nobody else notices."""

import gzip
import json
import re
import socket
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from typing import Any

import psutil
import pytest

from tests.server.inference.conftest import REQUEST, Gateway, StartGateway

ROW = list(REQUEST.values())
BODY = json.dumps(REQUEST).encode()
HEAD = b"POST /predict/credit HTTP/1.1\r\nhost: x\r\n"
SHORT = HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY


def tensor(rows: list[Any]) -> Any:
    return {
        "inputs": [{"name": "x", "datatype": "FP64", "shape": [len(rows), 3], "data": [*chain.from_iterable(rows)]}]
    }


FORMS: dict[str, Callable[[list[Any]], Any]] = {
    "/predict/credit": lambda rows: {"rows": [dict(zip(REQUEST, row, strict=True)) for row in rows]},
    "/predict/credit?explain=true": lambda rows: {"rows": [dict(zip(REQUEST, row, strict=True)) for row in rows]},
    "/v2/models/credit/infer": tensor,
    "/v2/models/credit/versions/2/infer": tensor,
    "/invocations": lambda rows: {"instances": rows},
    "/v1/models/credit:predict": lambda rows: {"instances": rows},
    "/v1/models/credit:explain": lambda rows: {"instances": rows},
    "/api/v1.0/predictions": lambda rows: {"data": {"ndarray": rows}},
}
HUGE = b" " * 100_000_000
every_address = pytest.mark.parametrize("path", FORMS)


def send(gateway: Gateway, path: str, content: Any, **headers: str) -> tuple[int, str]:
    """Send a body to an address and return the status and what is told, which must be JSON."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = gateway.send("POST", path, body, {"content-type": "application/json"} | named)
    assert isinstance(response.json, dict)
    return response.status, response.body.decode()


# The same faults by every protocol


@every_address
def test_an_empty_body_is_refused(gateway: Gateway, path: str) -> None:
    status, told = send(gateway, path, b"")
    assert (status, "it is empty" in told) == (400, True)


@every_address
def test_invalid_utf_8_is_refused(gateway: Gateway, path: str) -> None:
    body = json.dumps(FORMS[path]([ROW])).encode()[:-1] + b', "id": "\xff"}'
    status, told = send(gateway, path, body)
    assert (status, "not JSON in UTF-8" in told) == (400, True), told


@every_address
def test_an_empty_batch_is_refused(gateway: Gateway, path: str) -> None:
    status, told = send(gateway, path, FORMS[path]([]))
    assert (status in (400, 422), "1 to 10,000 rows" in told) == (True, True), told


@every_address
def test_too_many_rows_are_refused_with_the_limit(gateway: Gateway, path: str) -> None:
    status, told = send(gateway, path, FORMS[path]([[1, 1, 1]] * 10_001))
    assert (status in (400, 422), "10,000 rows" in told) == (True, True), told


@every_address
@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e400"])
def test_what_is_no_number_of_json_is_refused(gateway: Gateway, path: str, text: str) -> None:
    body = json.dumps(FORMS[path]([[1, 7.25, 12]])).replace("7.25", text).encode()
    status, told = send(gateway, path, body)
    # MLflow's own clients write NaN for null, so these protocols read it so; and income must not be null.
    assert status == 400, told
    assert any(reason in told for reason in ("JSON", "out of range", "income must not be null")), told


@every_address
@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [("gzip", gzip.compress(b" " * 50_000_000, 1)), ("deflate", zlib.compress(b" " * 50_000_000, 1))],
    ids=["gzip", "deflate"],
)
def test_a_bomb_is_refused_before_it_goes_off(gateway: Gateway, path: str, encoding: str, bomb: bytes) -> None:
    status, told = send(gateway, path, bomb, content_encoding=encoding)
    assert (status, "1,000,000 bytes" in told) == (413, True)


@every_address
def test_a_client_that_sends_100_mb_before_it_reads_is_told_why(gateway: Gateway, path: str) -> None:
    status, told = send(gateway, path, HUGE)
    assert (status, "1,000,000 bytes" in told) == (413, True)


@every_address
def test_a_cut_off_compression_is_refused(gateway: Gateway, path: str) -> None:
    body = gzip.compress(json.dumps(FORMS[path]([ROW] * 50)).encode())[:-9]
    status, told = send(gateway, path, body, content_encoding="gzip")
    assert (status, "not compressed as its Content-Encoding says" in told) == (400, True), told


def test_bombs_leave_the_memory_as_it_was(gateway: Gateway) -> None:
    bomb = gzip.compress(b" " * 50_000_000, 1)
    process = psutil.Process(gateway.process.pid)
    send(gateway, "/invocations", bomb, content_encoding="gzip")
    before = process.memory_info().rss
    for _ in range(20):
        assert send(gateway, "/invocations", bomb, content_encoding="gzip")[0] == 413
    assert process.memory_info().rss - before < 20_000_000


# HTTP itself


def exchange(gateway: Gateway, data: bytes) -> bytes:
    """Send bytes, then nothing more; return all that comes until the connection ends or rests."""
    received = b""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(data)
        with suppress(OSError):  # it may have been ended already
            connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while chunk := connection.recv(65_536):
                received += chunk
    return received


BROKEN = {
    "two lengths": HEAD + b"content-length: 44\r\ncontent-length: 45\r\n\r\n" + BODY,
    "a length and chunks": HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a negative length": HEAD + b"content-length: -1\r\n\r\n" + BODY,
    "a length beyond numbers": HEAD + b"content-length: 99999999999999999999999\r\n\r\n",
    "a broken chunk": HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    "a null in a header": HEAD + b"x: a\0b\r\ncontent-length: 0\r\n\r\n",
    "an address not in ASCII": "POST /predict/crédit HTTP/1.1\r\nhost: x\r\n\r\n".encode(),
    "a broken address": b"POST http://[::1/predict/credit HTTP/1.1\r\nhost: x\r\n\r\n",
    "a method that is none": b"FOO /predict/credit HTTP/1.1\r\nhost: x\r\n\r\n",
    "HTTP/2 without asking": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": bytes.fromhex("1603010200010001fc0303") + bytes(200),
    "noise": b"\0\1\2\3" * 100 + b"\r\n\r\n",
    "a length that is too short": HEAD + b"content-length: 10\r\n\r\n" + BODY,
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_http_is_refused_and_the_connection_ends(gateway: Gateway, name: str) -> None:
    answer = exchange(gateway, BROKEN[name])
    assert re.match(rb"HTTP/1.1 400 ", answer), answer[:200]
    assert b"connection: close" in answer


@pytest.mark.parametrize("head", [b"x: " + b"a" * 900_000, b"".join(b"h%d: 1\r\n" % n for n in range(90_000))])
def test_an_endless_head_is_refused(gateway: Gateway, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        try:
            for start in range(0, len(head), 50_000):
                connection.sendall((HEAD if start == 0 else b"") + head[start : start + 50_000])
                time.sleep(0.005)
            answer = connection.recv(1_000)
        except (BrokenPipeError, ConnectionResetError):
            answer = b"HTTP/1.1 431 "  # it was told while more was sent, which loses the answer
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert gateway.predict().status == 200


def test_what_follows_a_chunked_body_is_bounded_too(gateway: Gateway) -> None:
    head = HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(head)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for number in range(3_000):
                connection.sendall(b"x%d: %b\r\n" % (number, b"a" * 9_000))
    assert gateway.predict().status == 200


def test_chunks_over_the_limit_are_refused(gateway: Gateway) -> None:
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunk * 15)
        time.sleep(0.3)  # a connection that ends while more arrives loses its answer
        connection.sendall(b"5000\r\n" + b" " * 0x5000 + b"\r\n")
        assert connection.recv(1_000).startswith(b"HTTP/1.1 413 ")


@pytest.mark.slow
def test_who_sends_on_without_reading_is_held_back(start: StartGateway) -> None:
    running = start("", "m/5")  # its requests go the short way
    process = psutil.Process(running.process.pid)
    before = process.memory_info().rss
    sent = 0
    with socket.create_connection(("127.0.0.1", running.port), timeout=1.5) as connection:
        with pytest.raises(TimeoutError):
            while sent < 2_000_000:
                connection.sendall(SHORT * 500)
                sent += 500
        assert running.predict().status == 200
        assert process.memory_info().rss - before < 40_000_000
    assert running.predict().status == 200
    assert "Traceback" not in running.stop()


def test_who_sends_many_at_once_and_reads_later_gets_all_answers(gateway: Gateway) -> None:
    count = 2_500
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        connection.sendall(SHORT * count)
        time.sleep(0.5)
        received = b""
        while received.count(b'"prediction":0.25') < count and (chunk := connection.recv(1_000_000)):
            received += chunk
    assert received.count(b"HTTP/1.1 200 OK") == count


def test_who_stops_in_the_middle_of_a_body_or_of_an_answer_loses_the_connection(start: StartGateway) -> None:
    running = start("impatient", "m/5")
    with (
        socket.create_connection(("127.0.0.1", running.port), timeout=10) as stopped,
        socket.create_connection(("127.0.0.1", running.port), timeout=1) as deaf,
    ):
        stopped.sendall(SHORT[:-5])
        with pytest.raises((TimeoutError, ConnectionResetError, BrokenPipeError)):
            while True:
                deaf.sendall(SHORT * 500)
        assert stopped.recv(1_000).startswith(b"HTTP/1.1 408 ")
        deaf.settimeout(10)
        with pytest.raises((ConnectionResetError, BrokenPipeError, TimeoutError)):
            while True:
                deaf.sendall(SHORT * 500)
    assert running.predict().status == 200
    connections = psutil.Process(running.process.pid).net_connections("tcp")
    assert not [one for one in connections if one.status == "ESTABLISHED" and one.laddr.port == running.port]
