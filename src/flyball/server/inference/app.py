"""Our own inference protocol over bare ASGI: ``POST /predict/ENDPOINT`` with named fields.

No framework stands between the server and the data plane: that is most of a request's time elsewhere.
"""

import asyncio
import gc
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import msgspec

from flyball.core.clock import monotonic_s
from flyball.core.errors import FlyballError, InvalidInputError
from flyball.domain.predictions.log import PredictionLog
from flyball.domain.serving.answers import Answer, Problem, RequestRefusedError
from flyball.domain.serving.data_plane import DataPlane
from flyball.domain.serving.fleet import NothingLiveError
from flyball.domain.serving.loads import ObservedLoader
from flyball.domain.serving.on_demand import VersionsOnDemand
from flyball.domain.serving.scoring import ModelFailedError
from flyball.server.inference import metrics as metrics_format
from flyball.server.inference.asking import Asker
from flyball.server.inference.exchange import Exchange
from flyball.server.inference.explaining import asks_to_explain
from flyball.server.inference.messages import (
    JSON,
    DisconnectedError,
    Receive,
    Reply,
    Scope,
    Send,
    allow_header,
    read_body,
)
from flyball.server.inference.metrics import GatewayMetrics
from flyball.server.inference.protocols import Protocols
from flyball.server.inference.telemetry import Telemetry
from flyball.server.problems import (
    MEDIA_TYPE,
    BodyTooLargeError,
    BodyUnreadableError,
    MediaTypeError,
    MethodNotAllowedError,
    PathUnknownError,
    make_problem,
    make_unexpected_problem,
)

MAX_BODY_BYTES = 8_000_000
MAX_ROWS = 10_000
_PREDICT = "/predict/"
_ADDRESSES = "POST /predict/ENDPOINT, GET /health and GET /metrics; GET / lists all"
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
        grpc_address: Where to listen for gRPC; nowhere when it is empty.
        telemetry: Watches requests; counts alone by default.
        loads: Notes which versions are brought into memory.
    """

    def __init__(
        self,
        plane: DataPlane,
        log: PredictionLog,
        versions: VersionsOnDemand,
        *,
        max_body_bytes: int = MAX_BODY_BYTES,
        grpc_address: str = "",
        telemetry: Telemetry | None = None,
        loads: ObservedLoader | None = None,
    ) -> None:
        self._plane = plane
        self._prediction_log = log
        self._max_body_bytes = max_body_bytes
        self._telemetry = telemetry or Telemetry(GatewayMetrics())
        self._metrics = self._telemetry.metrics
        self._loads = loads
        self._is_ready = False
        # One thread of its own: loading a version must not wait behind anything, nor hold up a request.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fleet")
        asker = Asker(plane, self._metrics, versions)
        self._protocols = Protocols(
            asker, self._thread, self._telemetry, max_body_bytes=max_body_bytes, grpc_address=grpc_address
        )

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
        # What is loaded stays: the collector need not look at it again while requests wait.
        gc.collect()
        gc.freeze()
        tasks = [asyncio.create_task(self._follow(loop)), asyncio.create_task(self._rotate())]
        self._is_ready = True
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._protocols.stop()
        if self._telemetry.tracer is not None:
            await loop.run_in_executor(None, self._telemetry.tracer.close)
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._thread.shutdown()
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
            self._prediction_log.rotate_if_due()
            self._note_fleet()
            self._metrics.publish()

    def _note_fleet(self) -> None:
        self._metrics.describe_lines(self._plane.fleet.lines)
        if self._loads is not None:
            self._metrics.count_loads(self._loads.take_records())

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = self._telemetry.begin(Exchange())
        try:
            reply = await self._answer(scope, receive, exchange)
        except DisconnectedError:
            self._telemetry.finish(exchange, scope["method"], scope["path"], _CLIENT_LEFT)
            return
        except FlyballError as error:
            reply = _refuse(error)
        except Exception:  # noqa: BLE001 - the request's edge: one bad request must not end the process
            _log.exception("%s %s failed", scope["method"], scope["path"])
            reply = Reply(500, _encode(make_unexpected_problem()), MEDIA_TYPE)
        self._metrics.count_response(reply.status)
        await _send(send, reply)
        exchange.mark("encode")
        self._telemetry.finish(exchange, scope["method"], scope["path"], str(reply.status))
        exchange.run_deferred()

    async def _answer(self, scope: Scope, receive: Receive, exchange: Exchange) -> Reply:
        path, method = scope["path"], scope["method"]
        if path.startswith(_PREDICT) and len(path) > len(_PREDICT):
            _require_method(method, path, "POST")
            exchange.protocol = "flyball"
            body = await self._read_body(scope, receive, exchange)
            if not asks_to_explain(scope["query_string"]):
                return self._predict(path[len(_PREDICT) :], body, exchange)
            # Explaining takes as long as many predictions: nobody shall wait behind it.
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(None, self._predict, path[len(_PREDICT) :], body, exchange, True)
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
            raise MediaTypeError("Content-Type", media_type[:100], JSON)
        body = await read_body(headers, receive, self._max_body_bytes)
        exchange.mark("read")
        return body

    def _predict(self, endpoint: str, body: bytes, exchange: Exchange, explain: bool = False) -> Reply:
        request, is_batch = _read_rows(body)
        if endpoint in self._plane.fleet.lines:
            exchange.endpoint = endpoint
        exchange.mark("decode")
        try:
            answers = self._plane.predict(endpoint, request, defer=exchange.defer, mark=exchange.mark, explain=explain)
        except RecursionError as error:
            raise BodyUnreadableError("it is nested too deeply") from error
        exchange.rows = len(answers)
        exchange.version, exchange.prediction_id = answers[0].model_version, answers[0].prediction_id
        if explain:
            # Explained in another thread than the counters'.
            exchange.defer(lambda: self._metrics.count_rows(answers))
        else:
            self._metrics.count_rows(answers)
        return _reply_batch(endpoint, answers) if is_batch else _reply_one(answers[0])

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
        return Reply(200 if is_ready else 503, _encode({"status": status, "endpoints": endpoints}))


def _read_rows(body: bytes) -> tuple[Sequence[Any], bool]:
    """Return the rows of a body, and whether it holds many: ``{"rows": [...]}``."""
    try:
        content = _decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        reason = (
            "it is empty" if not body else "it is nested too deeply" if isinstance(error, RecursionError) else error
        )
        raise BodyUnreadableError(str(reason)) from error
    if not isinstance(content, dict):
        kind = "a list" if isinstance(content, list) else "a single value"
        raise InvalidInputError(
            f"the body must be a JSON object of named fields, but it is {kind}",
            hint='Send one row as {"field": value, ...}, or many as {"rows": [{...}, {...}]}.',
        )
    rows = content.get("rows")
    if len(content) != 1 or not isinstance(rows, list):
        return [content], False
    if not 0 < len(rows) <= MAX_ROWS:
        raise InvalidInputError(f"rows must hold 1 to {MAX_ROWS:,} rows, but it holds {len(rows):,}")
    return rows, True


def _reply_one(answer: Answer) -> Reply:
    if answer.status == "ok":
        return Reply(200, _encode(answer))
    if answer.status == "quarantined":
        return Reply(202, _encode(answer))
    error: FlyballError
    if answer.status == "refused":
        error = RequestRefusedError(answer.endpoint, answer.errors)
    else:
        error = ModelFailedError(answer.model_version, "; ".join(problem.message for problem in answer.errors))
    return _refuse(error, prediction_id=answer.prediction_id)


def _reply_batch(endpoint: str, answers: Sequence[Answer]) -> Reply:
    """Answer many rows: each has its own status; the response's is the best of them."""
    statuses = {answer.status for answer in answers}
    if statuses == {"refused"}:
        problems = [
            Problem(field=f"rows[{number}].{found.field}".removesuffix("."), rule=found.rule, message=found.message)
            for number, answer in enumerate(answers)
            for found in answer.errors
        ]
        return _refuse(RequestRefusedError(endpoint, problems))
    status = 200 if "ok" in statuses else 202 if "quarantined" in statuses else 502
    return Reply(status, _encode({"endpoint": endpoint, "predictions": answers}))


def _require_method(method: str, path: str, allowed: str) -> None:
    if method != allowed:
        raise MethodNotAllowedError(method, path, allowed)


def _refuse(error: FlyballError, **more: Any) -> Reply:
    problem = make_problem(error, **more)
    is_last = isinstance(error, BodyTooLargeError | MediaTypeError | MethodNotAllowedError | PathUnknownError)
    return Reply(problem["status"], _encode(problem), MEDIA_TYPE, is_last, allow_header(error))


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
    await send({"type": "http.response.body", "body": reply.body})
