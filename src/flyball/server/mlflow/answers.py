"""What a handler may answer besides values that become JSON."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

JSON = "application/json"
encode = msgspec.json.Encoder().encode


class Answer(msgspec.Struct, frozen=True):
    """A whole response."""

    body: bytes
    media_type: str = JSON
    status: int = 200
    headers: Sequence[tuple[bytes, bytes]] = ()


class StreamedAnswer(msgspec.Struct, frozen=True):
    """A response in pieces.

    Attributes:
        size_bytes: Its length; None where it is not known before its end.
    """

    chunks: AsyncIterator[bytes]
    media_type: str
    size_bytes: int | None = None
    status: int = 200
    headers: Sequence[tuple[bytes, bytes]] = ()


def as_answer(found: Any) -> "Answer | StreamedAnswer":
    """Return what a handler returned as a response: structs, dicts and lists become JSON, None an empty object."""
    if isinstance(found, Answer | StreamedAnswer):
        return found
    return Answer(b"{}" if found is None else encode(found))
