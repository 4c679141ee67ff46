"""Calls the MLflow application in process, as a client would over HTTP."""

import asyncio
import json
from typing import Any
from urllib.parse import urlencode

from flyball.server.mlflow.app import MlflowApp

A = "/api/2.0/mlflow/"


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
        self, method: str, path: str, body: bytes = b"", media_type: str = "application/json", **query: Any
    ) -> Reply:
        """Send a request; ``path`` is percent-encoded already."""
        return asyncio.run(self._send(method, path, body, media_type, urlencode(query, doseq=True).encode()))

    def get(self, path: str, **query: Any) -> Any:
        """GET below ``A`` and return the JSON, which must be a success."""
        return self._succeed(self.send("GET", A + path, **query))

    def post(self, path: str, **fields: Any) -> Any:
        """POST below ``A`` and return the JSON, which must be a success."""
        return self._succeed(self.refused(path, **fields))

    def refused(self, path: str, **fields: Any) -> Reply:
        """POST below ``A`` and return whatever comes."""
        return self.send("POST", A + path, json.dumps(fields).encode())

    def _succeed(self, reply: Reply) -> Any:
        assert reply.status == 200, reply.body
        return reply.json()

    async def _send(self, method: str, path: str, body: bytes, media_type: str, query: bytes) -> Reply:
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query,
            "headers": [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())],
        }
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        headers = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
        return Reply(sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]))
