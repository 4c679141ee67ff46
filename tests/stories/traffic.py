"""Requests that keep coming, and what each was answered."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec


class Answered(msgspec.Struct, frozen=True):
    """One request's answer; status 0 when the connection broke first."""

    at_s: float
    status: int
    id: str = ""
    version: str = ""
    variant: str = ""
    prediction: float | None = None


class Traffic:
    """Asks one gateway from a thread, over a connection that is made anew when it breaks.

    Args:
        port: The gateway's.
        request: Makes the request of a number.
        pause_s: Between two requests.
        endpoint: Who is asked.
    """

    def __init__(
        self, port: int, request: Callable[[int], dict[str, Any]], pause_s: float = 0.02, endpoint: str = "parcel"
    ) -> None:
        self.answers: list[Answered] = []
        self._port = port
        self._request = request
        self._pause_s = pause_s
        self._path = f"/predict/{endpoint}"
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._flow, daemon=True)

    @contextmanager
    def flowing(self) -> Iterator["Traffic"]:
        """Ask for as long as the block lasts."""
        self._thread.start()
        try:
            yield self
        finally:
            self._is_over.set()
            self._thread.join(30)

    def since(self, at_s: float) -> list[Answered]:
        """Return what was answered after a moment of the monotonic clock."""
        return [answer for answer in list(self.answers) if answer.at_s >= at_s]

    def _flow(self) -> None:
        connection: http.client.HTTPConnection | None = None
        number = 0
        while not self._is_over.wait(self._pause_s):
            number += 1
            connection = connection or http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
            answer = self._ask(connection, number)
            self.answers.append(answer)
            if answer.status == 0:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection, number: int) -> Answered:
        with suppress(OSError, http.client.HTTPException):
            body = json.dumps(self._request(number)).encode()
            connection.request("POST", self._path, body, {"content-type": "application/json"})
            response = connection.getresponse()
            text = response.read()
            said = json.loads(text)
            return Answered(
                time.monotonic(),
                response.status,
                said.get("prediction_id") or "",
                said.get("model_version") or "",
                said.get("variant") or "",
                said.get("prediction"),
            )
        return Answered(time.monotonic(), 0)
