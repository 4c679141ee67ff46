"""Calls the MLflow application in process, as a client would over HTTP."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from flyball.server.mlflow.app import MlflowApp

A = "/api/2.0/mlflow/"
_LONGEST_S = 120


class Reply:
    """What came back."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str]:
        """Status and error code."""
        return self.status, self.json()["error_code"]


class Calls:
    """Sends requests to one application."""

    def __init__(self, app: MlflowApp) -> None:
        self._app = app

    def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        media_type: str = "application/json",
        *,
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> Reply:
        """Send a request; ``path`` is percent-encoded already, and may have a query."""
        path, _, asked = path.partition("?")
        found = {"host": "test", "content-type": media_type, "content-length": str(len(body)), **(headers or {})}
        sending = self._send(method, path, body, found, asked or urlencode(query, doseq=True))
        return asyncio.run(asyncio.wait_for(sending, _LONGEST_S))

    def get(self, path: str, /, **query: Any) -> Any:
        """GET below ``A`` and return the JSON, which must be a success."""
        return self._succeed(self.send("GET", f"{A}{path}?{urlencode(query, doseq=True)}"))

    def post(self, path: str, **fields: Any) -> Any:
        """POST below ``A`` and return the JSON, which must be a success."""
        return self._succeed(self.refused(path, **fields))

    def refused(self, path: str, **fields: Any) -> Reply:
        """POST below ``A`` and return whatever comes."""
        return self.send("POST", A + path, json.dumps(fields).encode())

    def _succeed(self, reply: Reply) -> Any:
        assert reply.status == 200, reply.body
        return reply.json()

    async def _send(self, method: str, path: str, body: bytes, headers: Mapping[str, str], query: str) -> Reply:
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        sent: list[Any] = []
        received = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if received:
                return received.pop()
            await asyncio.Event().wait()  # a client that stays
            raise AssertionError

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        answered = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
        return Reply(sent[0]["status"], answered, b"".join(message.get("body", b"") for message in sent[1:]))
