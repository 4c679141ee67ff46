"""Kept-alive connections to a server, one a thread."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from flyball.core.errors import BackendError, BackendUnavailableError, InvalidInputError

_TIMEOUT_S = 120.0
_ATTEMPTS = 5
_PAUSE_S = 0.5
_AGAIN = (429, 500, 502, 503, 504)


class RefusedError(BackendError):
    """The server answered that it will not, or cannot."""

    code = "porting/refused"

    def __init__(self, address: str, path: str, status: int, text: str) -> None:
        self.status = status
        super().__init__(f"{address} answered {status} to {path[:200]}: {text[:500]}")


class Connections:
    """Sends requests and tries again where that may help.

    Args:
        address: ``http://HOST:PORT``, perhaps with a path below which the server is.

    Raises:
        InvalidInputError: It is no such address.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        try:
            self._host, self._port = parts.hostname or "", parts.port
        except ValueError as error:
            raise InvalidInputError(f"{address!r} is no address: {error}") from error
        if not self._host:
            raise InvalidInputError(f"{address!r} is no address of a server", hint="Write it as http://HOST:PORT.")
        self.address = address
        self._is_secure = parts.scheme == "https"
        self._prefix = parts.path.rstrip("/")
        self._local = threading.local()
        self._open: list[http.client.HTTPConnection] = []

    def get(self, path: str, /, **query: Any) -> dict[str, Any]:
        """Return the JSON at a path.

        Raises:
            RefusedError: The server refuses.
            BackendUnavailableError: It does not answer.
        """
        return self._json("GET", f"{path}?{urlencode(query, doseq=True)}", None)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send JSON and return what comes. See `get`."""
        return self._json("POST", path, json.dumps(body).encode())

    def open(self, path: str, query: Mapping[str, Any] | None = None) -> http.client.HTTPResponse:
        """Return an answer to be read in pieces, to its end. See `get`."""
        return self._send("GET", f"{path}?{urlencode(query)}" if query else path, None)

    def close(self) -> None:
        """Close all connections."""
        for connection in self._open:
            connection.close()

    def _json(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        try:
            text = self._send(method, path, body).read()
        except (OSError, http.client.HTTPException) as error:
            raise BackendUnavailableError(f"{self.address} broke off its answer to {path[:200]}: {error}") from error
        try:
            found = json.loads(text)  # numbers that are none come as NaN, which stricter readers refuse
        except ValueError as error:
            raise BackendError(f"{self.address} answered no JSON to {path[:200]}: {text[:200]!r}") from error
        if not isinstance(found, dict):
            raise BackendError(f"{self.address} answered no object to {path[:200]}")
        return found

    def _send(self, method: str, path: str, body: bytes | None) -> http.client.HTTPResponse:
        headers = {"content-type": "application/json"} if body is not None else {}
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE_S * 2**attempt)
            connection = self._connection()
            try:
                connection.request(method, f"{self._prefix}{path}", body, headers)
                _acknowledge_quickly(connection)
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                failure: Exception = error
                continue
            if response.status < 400:
                return response
            text = response.read().decode("utf-8", "replace")
            if response.status not in _AGAIN:
                raise RefusedError(self.address, path, response.status, text)
            failure = RefusedError(self.address, path, response.status, text)
        if isinstance(failure, RefusedError):
            raise failure
        raise BackendUnavailableError(f"{self.address} does not answer: {failure}") from failure

    def _connection(self) -> http.client.HTTPConnection:
        found: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if found is None:
            kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
            found = self._local.connection = kind(self._host, self._port, timeout=_TIMEOUT_S)
            self._open.append(found)
        return found


def _acknowledge_quickly(connection: http.client.HTTPConnection) -> None:
    # A server that answers in two small writes waits 40 ms for an acknowledgement that the kernel holds back.
    quick = getattr(socket, "TCP_QUICKACK", None)
    if quick is not None and connection.sock is not None:
        connection.sock.setsockopt(socket.IPPROTO_TCP, quick, 1)
