"""Page tokens: where a search goes on, bound to the search that gave them."""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from flyball.core.errors import InvalidInputError

_DIGEST_BYTES = 8


class PageTokenError(InvalidInputError):
    """A page token was not given by the search that it is sent with."""

    code = "tracking/page-token"

    def __init__(self) -> None:
        super().__init__(
            "Invalid page_token: it was not given by this search",
            hint="Send the token of the answer before, with the same filter, order and other fields.",
        )


def write_token(query: Any, position: Sequence[Any]) -> str:
    """Return a token.

    Args:
        query: Everything that decides about the results and their order; JSON values.
        position: The last result's sort keys: numbers and texts.
    """
    body = msgspec.msgpack.encode(list(position))
    return base64.urlsafe_b64encode(_digest(query, body) + body).decode()


def read_token(query: Any, token: str, kinds: Sequence[type] | None = None) -> list[Any]:
    """Return the position in a token.

    Args:
        query: As it was given to `write_token`.
        token: What a client sent.
        kinds: The sort keys' types.

    Raises:
        PageTokenError: Another search gave it, or nobody.
    """
    try:
        content = base64.urlsafe_b64decode(token.encode("ascii"))
        position = msgspec.msgpack.decode(content[_DIGEST_BYTES:], type=list[Any])
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise PageTokenError from error
    # The decoder passes over what is not of its alphabet, and what follows the end.
    is_whole = base64.urlsafe_b64encode(content).decode() == token
    if not is_whole or content[:_DIGEST_BYTES] != _digest(query, content[_DIGEST_BYTES:]):
        raise PageTokenError
    if kinds is not None and [type(key) for key in position] != list(kinds):
        raise PageTokenError
    return position


def _digest(query: Any, body: bytes) -> bytes:
    return hashlib.blake2b(msgspec.json.encode(query) + b"\0" + body, digest_size=_DIGEST_BYTES).digest()
