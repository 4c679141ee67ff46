"""Connections over HTTP: uvicorn's, where what is short enough is answered without a task of its own."""

import asyncio
from collections import deque
from collections.abc import Collection
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from flyball.core.clock import monotonic_s
from flyball.server.inference.exchange import Exchange
from flyball.server.inference.messages import Reply, Request, compress
from flyball.server.inference.short_way import Route, ShortWay, Waiting

_LONGEST_BYTES = 256_000
_LONGEST_PLAIN_BYTES = 16_384
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
# What these say is read on the long way only.
_NOT_SHORT = frozenset(
    (b"content-encoding", b"transfer-encoding", b"expect", b"upgrade", b"inference-header-content-length")
)
_JSON_TYPES = frozenset((b"application/json", b"application/json; charset=utf-8"))


_PATIENCE_S = 20.0
_SLOWEST_BYTES_PER_S = 1_000
_LONGEST_HEAD_BYTES = 65_536
_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class _UnderWay:
    """Stands where uvicorn keeps its request while one of the short way is under way."""

    __slots__ = ("disconnected", "keep_alive", "message_event", "response_complete")

    def __init__(self) -> None:
        self.disconnected = False
        self.keep_alive = True
        self.response_complete = False
        self.message_event = self

    def set(self) -> None:
        """Stand for the event that wakes a task, of which there is none."""


class _Flow(FlowControl):
    """Reads on only when nothing that was read waits, and the client takes its answers.

    uvicorn reads on at each answer: who sends without ever reading would fill the memory.
    """

    def __init__(self, transport: asyncio.Transport, pipeline: Collection[Any]) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        if not self._pipeline and not self.write_paused:
            super().resume_reading()


class GatewayConnection(HttpToolsProtocol):
    """One connection. Requests of the short way are collected here and given to `ShortWay`; others go uvicorn's way."""

    _short_way: ShortWay

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._route: Route | None = None
        self._exchange: Exchange | None = None
        self._parts: list[bytes] = []
        self._began_s = monotonic_s()
        self._is_receiving = True
        self._received_bytes = 0
        self._most_bytes = _LONGEST_HEAD_BYTES
        # Those of the long way, oldest first: uvicorn tells only the newest that its client has left.
        self._cycles: deque[RequestResponseCycle] = deque()
        self._unsent_bytes = 0
        self._unsent_since_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `HttpToolsProtocol`."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self._short_way.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """See `HttpToolsProtocol`."""
        self._received_bytes += len(data)
        super().data_received(data)
        # The parser keeps a head, and what follows a chunked body, however long it is.
        is_too_much = self._received_bytes > self._most_bytes and self._is_receiving
        if is_too_much and not self.transport.is_closing() and not self._is_answered_early():
            self.transport.write(_TOO_LONG)
            self.transport.close()

    def _is_answered_early(self) -> bool:
        """Tell whether the answer is out and the rest of the body is only taken from the line; see `end_unread`."""
        return bool(self._cycles) and self._cycles[-1].response_started and not self._cycles[-1].response_complete

    def on_message_begin(self) -> None:
        """See `HttpToolsProtocol`."""
        self._began_s = monotonic_s()
        self._is_receiving = True
        self._received_bytes = 1
        self._most_bytes = _LONGEST_HEAD_BYTES
        super().on_message_begin()

    def pause_writing(self) -> None:
        """See `HttpToolsProtocol`. Who does not take answers gets no more of them."""
        super().pause_writing()
        self.flow.pause_reading()
        self._unsent_bytes, self._unsent_since_s = self.transport.get_write_buffer_size(), monotonic_s()

    def resume_writing(self) -> None:
        """See `HttpToolsProtocol`."""
        super().resume_writing()
        self.flow.resume_reading()

    def on_response_complete(self) -> None:
        """See `HttpToolsProtocol`."""
        while self._cycles and self._cycles[0].response_complete:
            self._cycles.popleft()
        super().on_response_complete()

    def end_if_slow(self, now_s: float) -> None:
        """End a connection whose client sends, or takes, so slowly that it may only mean to hold it."""
        if self.flow.write_paused:
            unsent = self.transport.get_write_buffer_size()
            if unsent < self._unsent_bytes:
                self._unsent_bytes, self._unsent_since_s = unsent, now_s
            elif now_s - self._unsent_since_s > _PATIENCE_S:
                self.transport.abort()
            return
        took_s = now_s - self._began_s
        if self._is_receiving and took_s > _PATIENCE_S and self._received_bytes < _SLOWEST_BYTES_PER_S * took_s:
            if self._received_bytes:
                self.transport.write(_TOO_SLOW)
            self.transport.close()

    def on_headers_complete(self) -> None:
        """See `HttpToolsProtocol`."""
        self._most_bytes = self._short_way.most_message_bytes
        self._route = self._find_route()
        if self._route is None:
            super().on_headers_complete()
            self._cycles.append(self.cycle)
            return
        self._exchange = self._short_way.begin()
        self._parts = []
        self.cycle = _UnderWay()  # type: ignore[assignment]

    def _find_route(self) -> Route | None:
        """Return where a request belongs on the short way; None where it must go the long one."""
        route = self._short_way.find(self.url)
        if route is None or (self.cycle is not None and not self.cycle.response_complete):
            return None
        parser = self.parser
        if parser.get_method() != b"POST" or parser.get_http_version() != "1.1" or not parser.should_keep_alive():
            return None
        length = -1
        for name, value in self.headers:
            if name == b"content-length":
                length = int(value) if value.isdigit() and len(value) < 12 else -1
            elif name in _NOT_SHORT or (name == b"content-type" and value.lower() not in _JSON_TYPES):
                return None
        return route if 0 <= length <= _LONGEST_BYTES else None

    def on_body(self, body: bytes) -> None:
        """See `HttpToolsProtocol`."""
        if self._route is None:
            super().on_body(body)
        else:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        """See `HttpToolsProtocol`."""
        self._is_receiving = False
        route, exchange = self._route, self._exchange
        if route is None or exchange is None:
            super().on_message_complete()
            return
        self._route = self._exchange = None
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        under_way = self.cycle
        headers = self.headers
        self._short_way.submit(
            Waiting(route, headers, body, exchange, lambda reply: self._respond(reply, under_way, headers))
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """See `HttpToolsProtocol`."""
        self._short_way.connections.discard(self)
        for cycle in self._cycles:
            cycle.disconnected = True
        if self._exchange is not None:
            self._short_way.abandon(self._exchange)
            self._exchange = self._route = None
        super().connection_lost(exc)

    def _respond(self, reply: Reply, under_way: Any, headers: list[tuple[bytes, bytes]]) -> None:
        under_way.response_complete = True
        if under_way.disconnected or self.transport.is_closing():
            return
        if len(reply.body) >= _LONGEST_PLAIN_BYTES and reply.status == HTTPStatus.OK:
            reply = compress(reply, Request("POST", "", b"", dict(headers)))
        head = b"%bcontent-type: %b\r\ncontent-length: %d\r\n" % (
            _STATUS_LINES[reply.status],
            reply.media_type.encode(),
            len(reply.body),
        )
        for name, value in reply.headers:
            head += b"%b: %b\r\n" % (name, value)
        is_last = reply.is_last or not under_way.keep_alive
        if is_last:
            head += b"connection: close\r\n"
        self.transport.write(b"%b\r\n%b" % (head, reply.body))
        if is_last:
            self.transport.close()
        self.on_response_complete()


def make_connection_class(short_way: ShortWay) -> type[GatewayConnection]:
    """Return the class of connections whose short requests go to ``short_way``; uvicorn makes its own objects of it."""
    return type("GatewayConnection", (GatewayConnection,), {"_short_way": short_way})
