"""Bodies that are too long, whatever protocol they come by, are refused before they are read."""

import json
import socket

import pytest

from tests.server.inference.conftest import Gateway

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
