"""Answers that are sent one after the other, each as soon as it is known: ``POST /predict/ENDPOINT?stream=true``.

They are lines of JSON (``application/x-ndjson``), or events for who takes ``text/event-stream``. Each row has one, in
the order of the request. The model computes in a thread, and only as far ahead as the client reads.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from flyball.core.clock import monotonic_s
from flyball.core.errors import FlyballError
from flyball.domain.serving.answers import Answer
from flyball.domain.serving.data_plane import DataPlane
from flyball.server.inference.apart import Apart
from flyball.server.inference.exchange import Exchange
from flyball.server.inference.messages import DisconnectedError, Receive, Send, wait_until_left
from flyball.server.inference.metrics import GatewayMetrics
from flyball.server.inference.named_fields import read_rows
from flyball.server.problems import make_problem, make_unexpected_problem, status_of

LINES = "application/x-ndjson"
EVENTS = "text/event-stream"
_TOGETHER_S = 0.02
"""What comes within so short a time is sent together."""
_LONG = 10**9
# As nginx logs it: nobody was there to be answered.
_CLIENT_LEFT = "499"
_log = logging.getLogger("flyball.gateway")
_encode = msgspec.json.Encoder().encode
Until = Callable[[], Awaitable[object]]


class Stream:
    """The answer to one request, as it comes.

    Args:
        media_type: `LINES` or `EVENTS`.
        first: The first answers.
        take: Gives the next ones, in a thread, and none after the last.
        close: Ends the model's work.
    """

    def __init__(
        self, media_type: str, first: list[bytes], take: Callable[[], Awaitable[list[bytes]]], close: Callable[[], None]
    ) -> None:
        self._media_type = media_type
        self._first = first
        self._take = take
        self._close = close

    async def send(self, send: Send) -> str:
        """Send everything and return the status by which the request is counted.

        Once the first answers are sent, an error can only be told in the place of the answers that are missing.
        """
        headers = [(b"content-type", self._media_type.encode()), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        code, found = "200", self._first
        try:
            while found:
                await send({"type": "http.response.body", "body": self._join(found), "more_body": True})
                found = await self._take()
        except DisconnectedError:
            return _CLIENT_LEFT
        except FlyballError as error:
            code = str(status_of(error).value)
            await send(self._make_last({"status": "error", "problem": make_problem(error)}))
        except Exception:  # noqa: BLE001 - the request's edge: one bad request must not end the process
            _log.exception("a stream failed")
            code = "500"
            await send(self._make_last({"status": "error", "problem": make_unexpected_problem()}))
        finally:
            self._close()
        await send({"type": "http.response.body", "body": b""})
        return code

    def _make_last(self, problem: dict[str, Any]) -> dict[str, Any]:
        return {"type": "http.response.body", "body": self._join([_encode(problem)]), "more_body": True}

    def _join(self, texts: Sequence[bytes]) -> bytes:
        if self._media_type == EVENTS:
            return b"".join(b"data: %b\n\n" % text for text in texts)
        return b"".join(b"%b\n" % text for text in texts)


class Streams:
    """Begins streams. Used by the event loop's thread.

    Args:
        plane: Answers.
        metrics: Counts what was answered.
        apart: Gives threads.
    """

    def __init__(self, plane: DataPlane, metrics: GatewayMetrics, apart: Apart) -> None:
        self._plane = plane
        self._metrics = metrics
        self._apart = apart

    async def begin(self, endpoint: str, body: bytes, exchange: Exchange, receive: Receive) -> Stream:
        """Return a request's answers from the first one on.

        Raises:
            FlyballError: Nothing can be answered; see `DataPlane.predict`.
            TimedOutError: The first answer took too long.
            DisconnectedError: The client left.
        """
        rows, _ = read_rows(body)
        if endpoint in self._plane.fleet.lines:
            exchange.endpoint = endpoint
        exchange.rows = len(rows)
        exchange.mark("decode")
        answers = self._plane.stream(endpoint, rows, defer=exchange.defer)
        leaving = asyncio.ensure_future(wait_until_left(receive))
        work = partial(self._take, answers, exchange)

        async def take() -> list[bytes]:
            # Never on the event loop, however quick the model was so far: it may stand still at the next row.
            return await self._apart.answer(f"stream:{endpoint}", _LONG, work, None, lambda: asyncio.shield(leaving))

        def close() -> None:
            leaving.cancel()
            self._apart.do_later(partial(_close, answers))

        try:
            first = await take()
        except BaseException:
            close()
            raise
        accepted = exchange.headers.get(b"accept", b"")
        return Stream(EVENTS if EVENTS.encode() in accepted else LINES, first, take, close)

    def _take(self, answers: Iterator[Answer], exchange: Exchange) -> list[bytes]:
        """Return what the model gives next: at least one answer, where there is one more."""
        until_s = monotonic_s() + _TOGETHER_S
        found: list[Answer] = []
        for answer in answers:
            found.append(answer)
            if monotonic_s() >= until_s:
                break
        if found:
            if not exchange.version:
                exchange.version, exchange.prediction_id = found[0].model_version, found[0].prediction_id
            exchange.note(partial(self._metrics.count_rows, found))
        return [_encode(answer) for answer in found]


def _close(answers: Iterator[Answer]) -> None:
    # A model that is at a row just now ends when that row is done: nobody keeps the iterator then.
    with suppress(ValueError):
        answers.close()  # type: ignore[attr-defined]
