"""A request of a client, and the JSON of Protocol Buffers that its body or its query holds."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from flyball.core.errors import InvalidInputError
from flyball.server.asgi import Receive
from flyball.server.mlflow.answers import JSON
from flyball.server.problems import BodyTooLargeError
from flyball.storage.db import Transaction

T = TypeVar("T")
Commit = Callable[[Callable[[Transaction], Any]], Awaitable[Any]]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""A whole number of a request; a larger one fits no database."""
_SEND_LESS = "Send it in several requests; log files as artifacts, which may have any length."
_PATH = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
# Both are looked up with every request and cost more to make than the request.
_decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {}
_fields: dict[type[Any], dict[str, bool]] = {}


class DisconnectedError(Exception):
    """The client left before its request was complete."""


class ParameterInvalidError(InvalidInputError):
    """A field of a request to the MLflow protocol has a value that it cannot have."""

    code = "mlflow/invalid-parameter"

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"Invalid value for parameter '{field}' supplied: {reason}")


class ParameterMissingError(InvalidInputError):
    """A request to the MLflow protocol lacks a field."""

    code = "mlflow/missing-parameter"

    def __init__(self, field: str) -> None:
        super().__init__(f"Missing value for required parameter '{field}'")


class Request(msgspec.Struct):
    """One request.

    Attributes:
        path: As sent, percent-encoded, without the query.
        commit: Does work in a transaction that is shared with other requests; for streams, whose handlers return
            no work.
        scheme: ``http`` or ``https``.
        values: What the route's path names stand for, decoded.
        body: All of it; empty for streams.
        is_read: All of the body has come.
    """

    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    receive: Receive
    commit: Commit
    scheme: str = "http"
    values: dict[str, str] = {}
    body: bytes = b""
    is_read: bool = False

    def header(self, name: bytes) -> str:
        """Return a header's value (``name`` in small letters), or an empty text."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")

    def decode(self, type_: type[T]) -> T:
        """Return the fields of the query (GET) or of the body (all other methods) as a struct.

        Numbers may be texts, as Protocol Buffers write 64-bit integers; a field that is not known is passed over, as
        the protocol's rules for newer clients want.

        Raises:
            InvalidInputError: The body is no JSON object.
            ParameterMissingError: A field that is required is not there.
            ParameterInvalidError: A field's value has the wrong type; the field is named.
        """
        return self._decode_query(type_) if self.method == "GET" else self._decode_body(type_)

    def fields(self) -> dict[str, list[str]]:
        """Return the query's fields, each with all its values.

        Raises:
            InvalidInputError: The query is not UTF-8.
        """
        found: dict[str, list[str]] = {}
        try:
            for name, value in parse_qsl(self.query.decode("latin-1"), keep_blank_values=True, errors="strict"):
                found.setdefault(name, []).append(value)
        except ValueError as error:
            raise InvalidInputError(f"the address's query cannot be read: {error}") from error
        return found

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the body in pieces as they come, or what is left of it; nothing once all of it has come.

        Raises:
            DisconnectedError: The client left.
        """
        while not self.is_read:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise DisconnectedError
            self.is_read = not message.get("more_body", False)
            if chunk := message.get("body", b""):
                yield chunk

    async def wait_until_gone(self) -> None:
        """Wait until the client leaves."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def read_body(self, limit_bytes: int, media_types: Sequence[str] = (JSON,)) -> None:
        """Read all of a body into `body`.

        Raises:
            BodyTooLargeError: It is longer than the limit.
            InvalidInputError: It is of another media type.
            DisconnectedError: The client left.
        """
        if self.method in ("GET", "HEAD"):
            return
        length = self.header(b"content-length")
        if length.isdigit() and int(length) > limit_bytes:
            raise BodyTooLargeError(limit_bytes, hint=_SEND_LESS)
        chunks = []
        size = 0
        async for chunk in self.stream():
            size += len(chunk)
            if size > limit_bytes:
                raise BodyTooLargeError(limit_bytes, hint=_SEND_LESS)
            chunks.append(chunk)
        media_type = self.header(b"content-type").partition(";")[0].strip().lower()
        if chunks and media_type not in media_types:
            # A page of another site can make a browser send forms and plain text, but not JSON, without being asked.
            wanted = " or ".join(media_types)
            raise InvalidInputError(f"the body's Content-Type must be {wanted}, but it is {media_type[:100]!r}")
        self.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _decode_query(self, type_: type[T]) -> T:
        kinds = _fields.get(type_) or _fields.setdefault(type_, _list_fields(type_))
        plain = {
            name: values if kinds.get(name, False) else values[-1]
            for name, values in self.fields().items()
            if name in kinds
        }
        try:
            return msgspec.convert(plain, type_, strict=False)
        except msgspec.ValidationError as error:
            raise _tell(error) from error

    def _decode_body(self, type_: type[T]) -> T:
        body = self.body or b"{}"
        try:
            decoder = _decoders.get(type_) or _decoders.setdefault(type_, msgspec.json.Decoder(type_, strict=False))
            found: T = decoder.decode(body)
            return found
        except msgspec.ValidationError as error:
            raise _tell(error) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"the body is not JSON in UTF-8: {error}") from error
        except RecursionError as error:
            raise InvalidInputError("the body is nested too deeply") from error


def _list_fields(type_: type[Any]) -> dict[str, bool]:
    """Return a struct's fields, and whether each is a list."""
    found = {}
    for field in msgspec.inspect.type_info(type_).fields:  # type: ignore[attr-defined]
        kinds = field.type.types if isinstance(field.type, msgspec.inspect.UnionType) else (field.type,)
        found[field.encode_name] = any(isinstance(kind, msgspec.inspect.ListType) for kind in kinds)
    return found


def _tell(error: msgspec.ValidationError) -> InvalidInputError:
    text = str(error)
    match = _PATH.search(text)
    reason = text[: match.start()] if match else text
    path = match["path"] if match else ""
    if missing := re.match(r"Object missing required field `(\w+)`", reason):
        return ParameterMissingError(f"{path}.{missing[1]}" if path else missing[1])
    if not path:
        return InvalidInputError(f"the body must be a JSON object of named fields: {reason}")
    return ParameterInvalidError(path, reason)
