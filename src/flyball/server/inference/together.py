"""Requests to one endpoint that wait at the same time are answered by one call of the model."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from flyball.core.errors import FlyballError
from flyball.domain.serving.answers import Answer
from flyball.domain.serving.data_plane import DataPlane
from flyball.domain.serving.loaded import LoadedVersion
from flyball.server.inference.asking import Answered, Asker
from flyball.server.inference.exchange import Exchange
from flyball.server.inference.messages import Reply

_MOST_ROWS = 32
"""A request of more rows gains nothing from company."""


class RowProtocol(Protocol):
    """A protocol whose requests can be read before, and answered after, the model is asked."""

    def read(self, endpoint: str, body: bytes) -> tuple[Sequence[Any], Any] | None:
        """Return a request's rows for the long way, and what its answer needs; None where it must be asked alone."""
        ...

    def reply(self, endpoint: str, answers: Sequence[Answer], state: Any, exchange: Exchange) -> Any:
        """Return the answer to such a request, or the `FlyballError` with which it is refused."""
        ...


class RowCalls:
    """Requests that are rows and nothing else, alone and as a `RowProtocol`.

    Args:
        asker: Asks the data plane.
        read: Returns the rows of a body, and what its answer needs.
        write: Returns the answer.
    """

    def __init__(
        self,
        asker: Asker,
        read: Callable[[LoadedVersion, bytes], tuple[Sequence[Any], Any]],
        write: Callable[[Answered, Any], Reply],
    ) -> None:
        self._asker = asker
        self._read = read
        self._write = write

    def answer(self, endpoint: str, body: bytes, exchange: Exchange) -> Reply:
        """Answer a request alone; raises `FlyballError` for what is refused."""
        rows, state = self._read(self._asker.open(endpoint, exchange), body)
        return self._write(self._asker.ask(endpoint, rows, exchange), state)

    def read(self, endpoint: str, body: bytes) -> tuple[Sequence[Any], Any]:
        """See `RowProtocol.read`."""
        return self._read(self._asker.versions.load(endpoint), body)

    def reply(self, endpoint: str, answers: Sequence[Answer], state: Any, exchange: Exchange) -> Reply | FlyballError:
        """See `RowProtocol.reply`."""
        try:
            return self._write(self._asker.conclude(endpoint, answers, exchange), state)
        except FlyballError as error:
            return error


class Asked(msgspec.Struct, frozen=True):
    """A request that may be answered together with others.

    Attributes:
        endpoint: Who is asked; the same for all that are answered together.
        protocol: Reads and answers it.
        body: Its body.
        exchange: What is noted of it.
    """

    endpoint: str
    protocol: RowProtocol
    body: bytes
    exchange: Exchange


def answer_together(
    plane: DataPlane, requests: Sequence[Asked], defer: Callable[[Callable[[], None]], None]
) -> list[Any]:
    """Answer requests to one endpoint by one call, in order; None for each that must be asked alone.

    That is one that cannot be read, holds many rows, or came with one that breaks the model: nothing of it is logged.

    Args:
        plane: Answers.
        requests: What is asked.
        defer: Takes the work of shadows, to be done once the answers are out.
    """
    replies: list[Any] = [None] * len(requests)
    read = [(place, _read(asked)) for place, asked in enumerate(requests)] if len(requests) > 1 else []
    shared = [(place, *found) for place, found in read if found is not None and len(found[0]) <= _MOST_ROWS]
    if len(shared) < 2:
        return replies
    rows = [row for _, own, _ in shared for row in own]
    for place, _, _ in shared:
        requests[place].exchange.mark("decode")
    endpoint = requests[0].endpoint
    try:
        answers = plane.predict_together(endpoint, rows, defer=defer)
    except Exception:  # noqa: BLE001 - each is told on its own what is wrong
        answers = None
    if answers is None:
        return replies
    start = 0
    for number, (place, own, state) in enumerate(shared):
        asked = requests[place]
        asked.exchange.endpoint = endpoint
        asked.exchange.mark("score")
        asked.exchange.together = len(shared) if number == 0 else 0
        replies[place] = asked.protocol.reply(endpoint, answers[start : start + len(own)], state, asked.exchange)
        start += len(own)
    return replies


def _read(asked: Asked) -> tuple[Sequence[Any], Any] | None:
    try:
        found = asked.protocol.read(asked.endpoint, asked.body)
    except Exception:  # noqa: BLE001 - it is told alone what is wrong
        return None
    return found if found is not None and len(found[0]) > 0 else None
