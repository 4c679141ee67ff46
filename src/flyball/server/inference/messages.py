"""HTTP requests and replies of the gateway, as its protocols see them."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

import msgspec

from flyball.core.errors import FlyballError
from flyball.server.problems import BodyTooLargeError, BodyUnreadableError, MediaTypeError, MethodNotAllowedError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON = "application/json"
_FEWEST_COMPRESSED_BYTES = 16_384
_FASTEST = 1
# So much, and so long, of a body that nobody wants is taken from the line and thrown away.
_MOST_UNREAD_BYTES = 250_000_000
_LONGEST_UNREAD_S = 10.0
_LONGEST_PAUSE_S = 1.0
_COMPRESSED = "compressed as its Content-Encoding says"
# zlib takes its own format and that of gzip, whichever the data begins with.
_EITHER_FORMAT = zlib.MAX_WBITS | 32
_GZIP = zlib.MAX_WBITS | 16


class Reply(msgspec.Struct, frozen=True):
    """A response to be sent.

    Attributes:
        status: The HTTP status.
        body: Its bytes.
        media_type: What they are.
        is_last: Whether the connection ends with it, since the request was not read to its end.
        headers: Further headers.
    """

    status: int
    body: bytes
    media_type: str = JSON
    is_last: bool = False
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Request(msgspec.Struct, frozen=True):
    """A request that was read to its end.

    Attributes:
        method: In capitals.
        path: Decoded, without the query.
        query: As it was sent.
        headers: By their names in small letters; the last of several counts.
        body: Decompressed.
    """

    method: str
    path: str
    query: bytes
    headers: dict[bytes, bytes]
    body: bytes = b""

    @property
    def media_type(self) -> str:
        """The body's media type without its parameters; empty when it was not said."""
        return self.headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")


def allow_header(error: FlyballError) -> tuple[tuple[bytes, bytes], ...]:
    """Return the header that a refused method, or one that comes too soon, must be answered with; none for others."""
    retry_after_s: int | None = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        return ((b"retry-after", b"%d" % retry_after_s),)
    if not isinstance(error, MethodNotAllowedError):
        return ()
    return ((b"allow", b"GET, HEAD" if error.allowed == "GET" else error.allowed.encode()),)


class DisconnectedError(Exception):
    """The client left before its request was complete."""


async def wait_until_left(receive: Receive) -> None:
    """Return when the client has left; call it once a request was read to its end."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def end_unread(scope: Scope, receive: Receive, send: Send) -> None:
    """End a response whose request was not read to its end, once the client has sent what it said it would.

    Most clients read the answer only then. A connection that is closed while more comes is reset, and the answer is
    lost with it.
    """
    length = dict(scope["headers"]).get(b"content-length", b"")
    left = int(length) if length.isdigit() and int(length) <= _MOST_UNREAD_BYTES else 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_LONGEST_UNREAD_S):
            while left > 0 and (message := await asyncio.wait_for(receive(), _LONGEST_PAUSE_S)).get("more_body"):
                left -= len(message["body"])
    await send({"type": "http.response.body", "body": b""})


async def read_request(scope: Scope, receive: Receive, max_body_bytes: int) -> Request:
    """Read a request, whose body may be compressed by gzip or deflate.

    Raises:
        BodyTooLargeError: The body is longer than is read, before or after it is decompressed.
        BodyUnreadableError: It is not compressed as its header says.
        MediaTypeError: It is compressed otherwise.
        DisconnectedError: The client left.
    """
    headers = dict(scope["headers"])
    body = b""
    if scope["method"] not in ("GET", "HEAD"):
        body = await read_body(headers, receive, max_body_bytes)
    return Request(scope["method"], scope["path"], scope["query_string"], headers, body)


async def read_body(headers: dict[bytes, bytes], receive: Receive, max_body_bytes: int) -> bytes:
    """Read a body, at most ``max_body_bytes`` of it; see `read_request`."""
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > max_body_bytes:
        raise BodyTooLargeError(max_body_bytes)
    encoding = headers.get(b"content-encoding", b"identity").strip().lower().decode("latin-1")
    if encoding not in ("identity", "gzip", "deflate", ""):
        raise MediaTypeError("Content-Encoding", encoding[:100], "it as gzip, as deflate, or uncompressed")
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > max_body_bytes:
            raise BodyTooLargeError(max_body_bytes)
        chunks.append(chunk)
        if not message.get("more_body", False):
            break
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    return decompress(body, max_body_bytes) if encoding in ("gzip", "deflate") else body


def decompress(body: bytes, max_bytes: int) -> bytes:
    """Return what gzip or deflate made of a body; never more than ``max_bytes`` are in memory.

    Raises:
        BodyTooLargeError: It is longer.
        BodyUnreadableError: It is damaged, or cut off.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        machine = zlib.decompressobj(_EITHER_FORMAT)
        try:
            part = machine.decompress(body, max_bytes - size + 1)
        except zlib.error as error:
            raise BodyUnreadableError(str(error), wanted=_COMPRESSED) from error
        size += len(part)
        parts.append(part)
        if size > max_bytes:
            raise BodyTooLargeError(max_bytes)
        if not machine.eof:
            raise BodyUnreadableError("it is cut off", wanted=_COMPRESSED)
        # Several members may follow each other in one gzip file.
        body = machine.unused_data
        if not body:
            return b"".join(parts)


def compress(reply: Reply, request: Request) -> Reply:
    """Compress a long reply for a client that takes gzip; a short one would take longer to arrive."""
    accepted = request.headers.get(b"accept-encoding", b"")
    if len(reply.body) < _FEWEST_COMPRESSED_BYTES or b"gzip" not in accepted or b"gzip;q=0" in accepted:
        return reply
    machine = zlib.compressobj(_FASTEST, wbits=_GZIP)
    body = machine.compress(reply.body) + machine.flush()
    headers = (*reply.headers, (b"content-encoding", b"gzip"), (b"vary", b"accept-encoding"))
    return msgspec.structs.replace(reply, body=body, headers=headers)
