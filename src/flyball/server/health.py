"""``GET /health`` of the whole system, answered from the start on."""

import asyncio
import http.client
from pathlib import Path

from flyball.core.clock import SystemClock
from flyball.core.encoding import to_json
from flyball.server.asgi import Receive, Scope, Send
from flyball.server.lifeline import HEARTBEAT
from flyball.version import __version__

_HEARTBEAT_MAX_AGE_S = 120.0


class Health:
    """Answers 200 once everything that was started is ready, else 503 with what is not.

    Args:
        home: The home's folder.
        inference: Host and port of the gateway; None where runs and versions alone are served.
    """

    def __init__(self, home: Path, inference: tuple[str, int] | None) -> None:
        self._home = home
        self._inference = inference

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        parts = {"control": "ready"}
        if self._inference is not None:
            parts["gateway"] = await asyncio.to_thread(_read_gateway_health, *self._inference)
            parts["loop"] = _read_loop_health(self._home)
        is_ready = all(state == "ready" for state in parts.values())
        body = to_json({"status": "ready" if is_ready else "starting", "version": __version__, "parts": parts})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200 if is_ready else 503, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _read_gateway_health(host: str, port: int) -> str:
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/health")
        return "ready" if connection.getresponse().status == 200 else "starting"
    except OSError:
        return "starting"
    finally:
        connection.close()


def _read_loop_health(home: Path) -> str:
    try:
        written_s = (home / HEARTBEAT).stat().st_mtime
    except FileNotFoundError:
        return "starting"
    age_s = SystemClock().now().timestamp() - written_s
    return "ready" if age_s < _HEARTBEAT_MAX_AGE_S else f"silent for {age_s:.0f} s"
