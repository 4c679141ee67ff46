"""The MLflow protocol's ASGI application: no framework stands between the server and the rooms."""

import asyncio
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from flyball.core.errors import FlyballError
from flyball.core.files import find_refusal
from flyball.server.asgi import Receive, Scope, Send
from flyball.server.mlflow.answers import Answer, StreamedAnswer, as_answer, encode
from flyball.server.mlflow.areas import ROUTES
from flyball.server.mlflow.committing import AsyncCommitter
from flyball.server.mlflow.errors import UNEXPECTED, refuse
from flyball.server.mlflow.requests import DisconnectedError, Request
from flyball.server.mlflow.routing import Kind, Route, Router
from flyball.server.problems import BodyTooLargeError
from flyball.workspace.home import Home

_PREFIXES = ("/api/", "/ajax-api/", "/get-artifact", "/v1/traces", "/model-versions/get-artifact")
_READERS = 4
_log = logging.getLogger("flyball.mlflow")


def serves(path: str) -> bool:
    """Tell whether a path belongs to the MLflow protocol."""
    # Not as a prefix: /versions/... is an address of our own.
    return path == "/version" or path.startswith(_PREFIXES)


class MlflowApp:
    """Serves the protocol for one process.

    Args:
        home: The rooms.
        routes: By default those of every area.
    """

    def __init__(self, home: Home, routes: Iterable[Route] = ROUTES) -> None:
        self._home = home
        self._router = Router(routes)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="mlflow-read")
        self._committer = AsyncCommitter(home.db)
        self._reads_here = {Kind.LOOKUP} if home.db.is_file else set()
        self._under_way = 0
        self._last_client: tuple[str, int] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        self._under_way += 1
        try:
            answer = await self._answer(scope, receive)
        except DisconnectedError:
            return
        except FlyballError as error:
            status, refusal = refuse(error)
            # What is left of a body that was not read would be taken for the next request.
            headers = [(b"connection", b"close")] if isinstance(error, BodyTooLargeError) else []
            answer = Answer(encode(refusal), status=status.value, headers=headers)
        except OSError as error:
            _log.exception("%s %s failed", scope["method"], scope["path"])
            told = find_refusal(error)
            answer = Answer(encode(UNEXPECTED if told is None else refuse(told)[1]), status=500)
        except Exception:  # noqa: BLE001 - the request's edge: one bad request must not end the process
            _log.exception("%s %s failed", scope["method"], scope["path"])
            answer = Answer(encode(UNEXPECTED), status=500)
        finally:
            self._under_way -= 1
        if isinstance(answer, StreamedAnswer):
            await _send_stream(send, answer)
        else:
            await _send(send, answer)

    def close(self) -> None:
        """End the threads, once what they do is done."""
        self._readers.shutdown()
        self._committer.close()

    async def _answer(self, scope: Scope, receive: Receive) -> Answer | StreamedAnswer:
        raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        request = Request(
            scope["method"],
            raw_path.partition(b"?")[0].decode("latin-1"),
            scope["query_string"],
            scope["headers"],
            receive,
            self._committer.commit,
            scope.get("scheme", "http"),
        )
        route, request.values = self._router.find(request.method, request.path)
        if route.kind is Kind.STREAM:
            return as_answer(await route.handler(self._home, request))
        await request.read_body(route.max_body_bytes, route.media_types)
        if route.kind in self._reads_here:
            return self._read(route, request)
        if route.kind in (Kind.READ, Kind.LOOKUP):
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, route, request)
        # Whoever asks twice in a row is most probably a single program that logs.
        client = scope.get("client")
        is_alone = self._under_way == 1 and client == self._last_client
        self._last_client = client
        return as_answer(await self._committer.commit(route.handler(self._home, request), is_alone=is_alone))

    def _read(self, route: Route, request: Request) -> Answer | StreamedAnswer:
        return as_answer(route.handler(self._home, request))


async def _send(send: Send, answer: Answer) -> None:
    headers = [
        (b"content-type", answer.media_type.encode()),
        (b"content-length", str(len(answer.body)).encode()),
        *answer.headers,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _send_stream(send: Send, answer: StreamedAnswer) -> None:
    headers = [(b"content-type", answer.media_type.encode()), *answer.headers]
    if answer.size_bytes is not None:
        headers.append((b"content-length", str(answer.size_bytes).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    async for chunk in answer.chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
