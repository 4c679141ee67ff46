"""Our own inference protocol over bare ASGI: ``POST /predict/ENDPOINT`` with named fields.

No framework stands between the server and the data plane: that is most of a request's time elsewhere.
"""

import asyncio
import gc
import logging
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from flyball.core.clock import monotonic_s
from flyball.core.errors import FlyballError
from flyball.domain.predictions.log import PredictionLog
from flyball.domain.serving.data_plane import DataPlane
from flyball.domain.serving.fleet import NothingLiveError
from flyball.domain.serving.loads import ObservedLoader
from flyball.domain.serving.on_demand import VersionsOnDemand
from flyball.domain.serving.shelf import Shelf
from flyball.server.inference import metrics as metrics_format
from flyball.server.inference.apart import Apart
from flyball.server.inference.asking import Asker
from flyball.server.inference.exchange import Exchange
from flyball.server.inference.explaining import asks_to_explain, asks_to_stream
from flyball.server.inference.messages import (
    JSON,
    DisconnectedError,
    Receive,
    Reply,
    Request,
    Scope,
    Send,
    end_unread,
    read_body,
    wait_until_left,
)
from flyball.server.inference.metrics import GatewayMetrics
from flyball.server.inference.named_fields import NamedFields
from flyball.server.inference.paths import refuse_as_problem
from flyball.server.inference.protocols import Protocols
from flyball.server.inference.short_way import ShortWay
from flyball.server.inference.streaming import Stream, Streams
from flyball.server.inference.telemetry import Telemetry
from flyball.server.inference.together import Asked, answer_together
from flyball.server.inference.watchdog import Watchdog
from flyball.server.problems import (
    MEDIA_TYPE,
    MediaTypeError,
    MethodNotAllowedError,
    PathUnknownError,
    TooBusyError,
    make_unexpected_problem,
)

MAX_BODY_BYTES = 8_000_000
MOST_WAITING = 1_000
_PREDICT = "/predict/"
_ADDRESSES = "POST /predict/ENDPOINT, GET /health and GET /metrics; GET / lists all"
# A body that is sent a byte a chunk takes six times as much.
_LONGEST_IN_CHUNKS = 8
_REFRESH_EVERY_S = 0.1
_ROTATE_EVERY_S = 1.0
# As nginx logs it: nobody was there to be answered.
_CLIENT_LEFT = "499"
_log = logging.getLogger("flyball.gateway")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class InferenceApp:
    """The gateway's ASGI application, for one process and one event loop.

    Args:
        plane: Answers.
        log: The process's prediction log; its segments are closed in time, and at the end.
        versions: Finds the versions that callers name.
        max_body_bytes: A longer body is refused unread.
        most_waiting: When so many requests are not answered yet, more are refused with status 429.
        timeout_s: Who waited so long for a slow model is told so with status 504; for ever if it is 0.
        grpc_address: Where to listen for gRPC; nowhere when it is empty.
        telemetry: Watches requests; counts alone by default.
        loads: Notes which versions are brought into memory.
        lookups: Gives how many entities were looked up since the last call, by view and outcome.
        watchdog: Ends the process when the event loop stands still.
        has_batching: Whether requests that wait for a slow model may share a call of it.
        processors: How many this process may keep busy; all by default.
        shelf: Keeps the models, where they may leave the memory.
        when_ready: Called once everything is loaded, before the first request.
    """

    def __init__(
        self,
        plane: DataPlane,
        log: PredictionLog,
        versions: VersionsOnDemand,
        *,
        max_body_bytes: int = MAX_BODY_BYTES,
        most_waiting: int = MOST_WAITING,
        timeout_s: float = 0.0,
        grpc_address: str = "",
        telemetry: Telemetry | None = None,
        loads: ObservedLoader | None = None,
        lookups: Callable[[], Mapping[tuple[str, str], int]] = dict,
        watchdog: Watchdog | None = None,
        has_batching: bool = True,
        processors: int = 0,
        shelf: Shelf | None = None,
        when_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._plane = plane
        self._prediction_log = log
        self._max_body_bytes = max_body_bytes
        self._telemetry = telemetry or Telemetry(GatewayMetrics())
        self._metrics = self._telemetry.metrics
        self._loads = loads
        self._lookups = lookups
        self._watchdog = watchdog or Watchdog(0.0)
        self._shelf = shelf
        self._when_ready = when_ready
        self._is_ready = False
        # One thread of its own: loading a version must not wait behind anything, nor hold up a request.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fleet")
        together = partial(answer_together, plane) if has_batching else None
        self._apart = Apart(timeout_s, together, processors, log.waited_s)
        self._most_waiting = most_waiting
        asker = Asker(plane, self._metrics, versions)
        self._own = NamedFields(plane, self._metrics)
        self._streams = Streams(plane, self._metrics, self._apart)
        self._protocols = Protocols(
            asker,
            self._thread,
            self._telemetry,
            self._apart,
            max_body_bytes=max_body_bytes,
            grpc_address=grpc_address,
        )
        self.short_way = ShortWay(plane, self._telemetry, self.answer_read, self._apart, most_waiting=most_waiting)
        self.short_way.most_message_bytes = _LONGEST_IN_CHUNKS * max_body_bytes
        self.short_way.add(b"/predict/", b"", self._own)
        self.short_way.add(b"/v2/models/", b"/infer", self._protocols.rest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        loop = asyncio.get_running_loop()
        self._plane.fleet.stop_checking()
        try:
            await loop.run_in_executor(self._thread, self._plane.fleet.refresh)
            await self._protocols.start()
        except FlyballError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        if self._shelf is not None:
            self._shelf.when_one_leaves(lambda: loop.call_soon_threadsafe(self._apart.forget))
        # What is loaded stays: the collector need not look at it again while requests wait.
        gc.collect()
        gc.freeze()
        tasks = [asyncio.create_task(self._follow(loop)), asyncio.create_task(self._rotate())]
        self._when_ready()
        self._is_ready = True
        self._watchdog.feed()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._watchdog.stop()
        await self._protocols.stop()
        if self._telemetry.tracer is not None:
            await loop.run_in_executor(None, self._telemetry.tracer.close)
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._thread.shutdown()
        self._apart.close()
        self._prediction_log.rotate()
        await send({"type": "lifespan.shutdown.complete"})

    async def _follow(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            await asyncio.sleep(_REFRESH_EVERY_S)
            try:
                await loop.run_in_executor(self._thread, self._plane.fleet.refresh)
            except Exception:  # noqa: BLE001 - the process's edge: what is loaded goes on answering
                _log.warning("looking for changes failed", exc_info=True)

    async def _rotate(self) -> None:
        while True:
            due_s = monotonic_s() + _ROTATE_EVERY_S
            await asyncio.sleep(_ROTATE_EVERY_S)
            self._metrics.set_lag(monotonic_s() - due_s)
            if self._apart.oldest_s() < (self._watchdog.patience_s or math.inf):
                self._watchdog.feed()
            lines = self._plane.fleet.lines
            self._prediction_log.rotate_if_due([name for name, line in lines.items() if line.candidate is not None])
            self.short_way.end_slow()
            self._note_fleet()
            self._metrics.publish()

    def _note_fleet(self) -> None:
        self._metrics.describe_lines(self._plane.fleet.lines)
        if self._loads is not None:
            self._metrics.count_loads(self._loads.take_records())
        self._metrics.count_lookups(self._lookups())
        self._metrics.set_waiting(self._apart.waiting)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = self._telemetry.begin(Exchange())
        try:
            reply = await self._answer(scope, receive, exchange)
            if isinstance(reply, Stream):
                self._metrics.count_response(200)
                code = await reply.send(send)
                self._telemetry.finish(exchange, scope["method"], scope["path"], code)
                self._apart.do_later(exchange.run_deferred)
                return
        except DisconnectedError:
            self._telemetry.finish(exchange, scope["method"], scope["path"], _CLIENT_LEFT)
            return
        except FlyballError as error:
            reply = refuse_as_problem(error)
        except Exception:  # noqa: BLE001 - the request's edge: one bad request must not end the process
            _log.exception("%s %s failed", scope["method"], scope["path"])
            reply = Reply(500, _encode(make_unexpected_problem()), MEDIA_TYPE)
        self._metrics.count_response(reply.status)
        await _send(send, reply)
        exchange.mark("encode")
        self._telemetry.finish(exchange, scope["method"], scope["path"], str(reply.status))
        if exchange.has_deferred and self._apart.is_slow(scope["path"]):
            self._apart.do_later(exchange.run_deferred)
        else:
            exchange.run_deferred()
        if reply.is_last:
            await end_unread(scope, receive, send)

    def answer_read(self, request: Request, exchange: Exchange) -> Reply:
        """Answer a request of the short way's addresses that was read to its end; errors are told in the reply."""
        if not request.path.startswith(_PREDICT):
            return self._protocols.answer_read(request, exchange)
        exchange.protocol = self._own.name
        try:
            return self._own.answer(request.path[len(_PREDICT) :], request.body, exchange)
        except FlyballError as error:
            return refuse_as_problem(error)
        except Exception:  # noqa: BLE001 - the request's edge: one bad request must not end the process
            _log.exception("%s %s failed", request.method, request.path)
            return Reply(500, _encode(make_unexpected_problem()), MEDIA_TYPE)

    async def _answer(self, scope: Scope, receive: Receive, exchange: Exchange) -> Reply | Stream:
        path, method = scope["path"], scope["method"]
        if method == "POST" and self._metrics.in_progress > self._most_waiting:
            raise TooBusyError(int(self._metrics.in_progress))
        if path.startswith(_PREDICT) and len(path) > len(_PREDICT):
            _require_method(method, path, "POST")
            exchange.protocol = "flyball"
            body = await self._read_body(scope, receive, exchange)
            endpoint = path[len(_PREDICT) :]
            if asks_to_stream(scope["query_string"]):
                return await self._streams.begin(endpoint, body, exchange, receive)
            if not asks_to_explain(scope["query_string"]):
                answer = partial(self._own.answer, endpoint, body, exchange)
                asked = Asked(endpoint, self._own, body, exchange) if self._plane.is_plain(endpoint) else None
                return await self._apart.answer(path, len(body), answer, asked, partial(wait_until_left, receive))
            # Explaining takes as long as many predictions: nobody shall wait behind it.
            explain = partial(self._own.answer, endpoint, body, exchange, explain=True)
            left = partial(wait_until_left, receive)
            return await self._apart.answer(f"{path}?explain=true", len(body), explain, None, left, is_alone=True)
        protocol = self._protocols.find(path)
        if protocol is not None:
            return await self._protocols.answer(protocol, scope, receive, exchange)
        if path == "/health":
            _require_method(method, path, "GET")
            return self._tell_health()
        if path == "/metrics":
            _require_method(method, path, "GET")
            self._note_fleet()
            return Reply(200, self._metrics.write(), metrics_format.MEDIA_TYPE)
        raise PathUnknownError(path, _ADDRESSES)

    async def _read_body(self, scope: Scope, receive: Receive, exchange: Exchange) -> bytes:
        headers = exchange.headers = dict(scope["headers"])
        media_type = headers.get(b"content-type", b"").decode("latin-1")
        if media_type.partition(";")[0].strip().lower() not in (JSON, ""):
            wanted = f"{JSON} (curl -H 'Content-Type: {JSON}')"  # curl's own default is a form
            raise MediaTypeError("Content-Type", media_type[:100], wanted)
        body = await read_body(headers, receive, self._max_body_bytes)
        exchange.mark("read")
        return body

    def _tell_health(self) -> Reply:
        endpoints: dict[str, Any] = {}
        is_ready = self._is_ready
        for name, line in self._plane.fleet.lines.items():
            # No version yet is a state of every new project; a live one that cannot answer is not.
            is_ready = is_ready and (line.live is not None or isinstance(line.problem, NothingLiveError))
            endpoints[name] = {
                "live": line.live.ref if line.live is not None else None,
                "candidate": line.candidate.ref if line.candidate is not None else None,
                "stage": line.plan.stage,
                "problem": line.problem.message if line.problem is not None else None,
            }
        status = "ready" if is_ready else "not ready"
        told = {"status": status, "worker": self._metrics.worker, "endpoints": endpoints}
        return Reply(200 if is_ready else 503, _encode(told))


def _require_method(method: str, path: str, allowed: str) -> None:
    if method != allowed:
        raise MethodNotAllowedError(method, path, allowed)


async def _send(send: Send, reply: Reply) -> None:
    headers = [
        (b"content-type", reply.media_type.encode()),
        (b"content-length", str(len(reply.body)).encode()),
    ]
    if reply.is_last:
        # What is left of the body is not read: the connection cannot carry another request.
        headers.append((b"connection", b"close"))
    headers.extend(reply.headers)
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body, "more_body": reply.is_last})
