"""The short way of requests over HTTP: all that wait when the event loop comes round are answered together.

A request whose numbers go straight into an array needs a few microseconds of its own; a call of the model, a write to
the log and a turn of the loop cost more than that. Those that arrive while others are answered share them. Nothing
waits for company: what is there is taken.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from flyball.core.clock import monotonic_s
from flyball.domain.serving.data_plane import DataPlane
from flyball.domain.serving.direct_plane import MOST_SHARED_ROWS, DirectAnswer, DirectAsk
from flyball.server.inference.apart import Apart
from flyball.server.inference.exchange import Exchange
from flyball.server.inference.messages import Reply, Request
from flyball.server.inference.paths import refuse_as_problem
from flyball.server.inference.telemetry import Telemetry
from flyball.server.inference.together import Asked, RowProtocol, answer_together
from flyball.server.problems import TooBusyError

MOST_TOGETHER = 64
"""So many requests are answered together at most, so that none waits for many others."""
WORTH_NOTING_S = 0.01
"""What takes less is not slow, whatever is learnt of it."""
# As nginx logs it: nobody was there to be answered.
_CLIENT_LEFT = "499"


class TwoPhases(RowProtocol, Protocol):
    """A protocol whose requests can be read before, and answered after, the model is asked."""

    name: str

    def begin(self, endpoint: str, body: bytes, exchange: Exchange) -> tuple[DirectAsk, Any] | None:
        """Return a request and what its answer needs; None where it is wrong or must go the long way."""
        ...

    def finish(self, endpoint: str, answer: DirectAnswer, state: Any, exchange: Exchange) -> bytes:
        """Return the body of the answer."""
        ...


class Connection(Protocol):
    """A connection to a client."""

    def end_if_slow(self, now_s: float) -> None:
        """End it where the client sends too slowly."""
        ...


class Route:
    """An address of the short way."""

    __slots__ = ("endpoint", "path", "protocol")

    def __init__(self, path: str, endpoint: str, protocol: TwoPhases) -> None:
        self.path = path
        self.endpoint = endpoint
        self.protocol = protocol


class Waiting:
    """A request that was read to its end."""

    __slots__ = ("ask", "body", "exchange", "headers", "respond", "route", "state")

    def __init__(
        self,
        route: Route,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        exchange: Exchange,
        respond: Callable[[Reply], None],
    ) -> None:
        self.route = route
        self.headers = headers
        self.body = body
        self.exchange = exchange
        self.respond = respond
        self.ask: DirectAsk | None = None
        self.state: Any = None


class ShortWay:
    """Takes requests and answers them when the event loop comes round. Used by one thread.

    Args:
        plane: Answers.
        telemetry: Watches requests.
        answer_long: Answers one request that cannot go the short way; errors are in the reply.
        apart: Answers the requests to slow addresses.
        most_waiting: When so many wait, more are refused with status 429.

    Attributes:
        connections: All that are open.
        most_message_bytes: A client that sends so much as one request loses its connection.
    """

    def __init__(
        self,
        plane: DataPlane,
        telemetry: Telemetry,
        answer_long: Callable[[Request, Exchange], Reply],
        apart: Apart,
        *,
        most_waiting: int,
    ) -> None:
        self._apart = apart
        self._most_waiting = most_waiting
        self._plane = plane
        self._telemetry = telemetry
        self._answer_long = answer_long
        self._addresses: list[tuple[bytes, bytes, TwoPhases]] = []
        self._routes: dict[bytes, Route] = {}
        self._waiting: list[Waiting] = []
        self.connections: set[Connection] = set()
        self.most_message_bytes = sys.maxsize

    def end_slow(self) -> None:
        """End the connections of clients that send too slowly; call it once a second."""
        now_s = monotonic_s()
        for connection in list(self.connections):
            connection.end_if_slow(now_s)

    def add(self, before: bytes, after: bytes, protocol: TwoPhases) -> None:
        """Take the addresses that have an endpoint's name between two texts."""
        self._addresses.append((before, after, protocol))

    def find(self, url: bytes) -> Route | None:
        """Return the route of an address; None where it is none of the short way's."""
        found = self._routes.get(url) or self._learn(url)
        if found is None or self._apart.is_slow(found.path):
            return None
        if self._plane.has_direct(found.endpoint):
            return found
        # Others are collected, too, where they are known to be quick: rows of several share a table then.
        return found if self._apart.is_quick(found.path) and self._plane.is_plain(found.endpoint) else None

    def _learn(self, url: bytes) -> Route | None:
        if b"?" in url or b"%" in url:
            return None
        for before, after, protocol in self._addresses:
            if url.startswith(before) and url.endswith(after) and len(url) > len(before) + len(after):
                name = url[len(before) : len(url) - len(after)].decode("latin-1")
                # Only endpoints that exist are kept: addresses that clients make up do not fill the memory.
                if name in self._plane.fleet.lines:
                    return self._routes.setdefault(url, Route(url.decode("latin-1"), name, protocol))
        return None

    def begin(self) -> Exchange:
        """Note that a request came."""
        return self._telemetry.begin(Exchange())

    def abandon(self, exchange: Exchange) -> None:
        """Note that a client left before its request was complete."""
        self._telemetry.finish(exchange, "POST", "", _CLIENT_LEFT)

    def submit(self, waiting: Waiting) -> None:
        """Take a request, to be answered when the event loop comes round."""
        if len(self._waiting) >= self._most_waiting:
            self._finish(waiting, refuse_as_problem(TooBusyError(len(self._waiting))))
            return
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting[:MOST_TOGETHER], self._waiting[MOST_TOGETHER:]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self.answer(waiting)

    def answer(self, requests: Sequence[Waiting]) -> None:
        """Answer requests; those of one version share one call of it, and all share one write to the log."""
        begun: list[Waiting] = []
        long: dict[str, list[Waiting]] = {}
        asks: list[DirectAsk] = []
        for request in requests:
            exchange = request.exchange
            exchange.protocol = request.route.protocol.name
            exchange.mark("read")
            found = _begin(request)
            if found is None:
                long.setdefault(request.route.endpoint, []).append(request)
                continue
            exchange.endpoint = request.route.endpoint
            exchange.mark("decode")
            request.ask, request.state = found
            begun.append(request)
            asks.append(request.ask)
        if begun:
            self._answer_direct(begun, asks)
        for endpoint, waiting in long.items():
            self._answer_long_together(endpoint, waiting)

    def _answer_direct(self, begun: Sequence[Waiting], asks: Sequence[DirectAsk]) -> None:
        # The shadows of all are computed after the last of them is answered.
        later: list[Callable[[], None]] = []
        count_together([request.exchange for request in begun], asks)
        watch = self._apart.watch()
        answers = self._plane.answer_direct(asks, defer=later.append)
        # Many rows take long without holding up anybody for long each.
        watch.end()
        took_s = watch.took_s / (1 + sum(ask.block.height for ask in asks) // MOST_TOGETHER)
        for request, answer in zip(begun, answers, strict=True):
            if answer is None:
                self._finish_long(request)
                continue
            request.exchange.mark("log")
            route = request.route
            if took_s > WORTH_NOTING_S or self._apart.is_slow(route.path):
                self._apart.note(route.path, took_s)
            body = route.protocol.finish(route.endpoint, answer, request.state, request.exchange)
            self._finish(request, Reply(200, body))
        for work in later:
            work()

    def _answer_long_together(self, endpoint: str, requests: Sequence[Waiting]) -> None:
        """Answer requests of one endpoint, by few calls of the model where they gain by it."""
        while requests:
            costs = self._apart.costs(requests[0].route.path)
            together, requests = requests[: costs.most], requests[costs.most :]
            later: list[Callable[[], None]] = []
            asked = [Asked(endpoint, found.route.protocol, found.body, found.exchange) for found in together]
            watch = self._apart.watch()
            replies = answer_together(self._plane, asked, later.append)
            watch.end()
            shared = sum(reply is not None for reply in replies)
            if shared:
                costs.note(shared, watch, is_undisturbed=True)
            for request, reply in zip(together, replies, strict=True):
                if reply is None:
                    self._finish_long(request)
                else:
                    self._apart.note(request.route.path, watch.took_s)
                    self._finish(request, reply)
            for work in later:
                work()

    def _finish_long(self, request: Waiting) -> None:
        exchange = request.exchange
        exchange.headers = dict(request.headers)
        exchange.together = 1
        whole = Request("POST", request.route.path, b"", dict(request.headers), request.body)
        watch = self._apart.watch()
        reply = self._answer_long(whole, exchange)
        watch.end()
        self._apart.costs(request.route.path).note(1, watch, is_undisturbed=True)
        self._apart.note(request.route.path, watch.took_s)
        self._finish(request, reply)
        exchange.run_deferred()

    def _finish(self, request: Waiting, reply: Reply) -> None:
        exchange = request.exchange
        if self._telemetry.tracer is not None:
            exchange.headers = dict(request.headers)
        self._telemetry.metrics.count_response(reply.status)
        request.respond(reply)
        exchange.mark("encode")
        self._telemetry.finish(exchange, "POST", request.route.path, str(reply.status))


def count_together(exchanges: Sequence[Exchange], asks: Sequence[DirectAsk]) -> None:
    """Note how many requests to each endpoint are computed together; the first of them tells it."""
    first: dict[str, Exchange] = {}
    for exchange, ask in zip(exchanges, asks, strict=True):
        if ask.block.height <= MOST_SHARED_ROWS:
            exchange.together = 0
            first.setdefault(exchange.endpoint, exchange).together += 1


def _begin(request: Waiting) -> tuple[DirectAsk, Any] | None:
    try:
        return request.route.protocol.begin(request.route.endpoint, request.body, request.exchange)
    except Exception:  # noqa: BLE001 - the long way meets it again, and tells it
        return None
