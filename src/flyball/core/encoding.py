"""JSON, one way: canonical text for digests, plain text for files and wires."""

from typing import Any, TypeVar

import msgspec

from flyball.core.errors import InvalidInputError

T = TypeVar("T")
_canonical = msgspec.json.Encoder(order="deterministic")
_plain = msgspec.json.Encoder()


def to_canonical_json(value: Any) -> bytes:
    """Encode with sorted keys and no spaces, so that equal values give equal bytes."""
    return _canonical.encode(value)


def to_json(value: Any, *, indent: int = 0) -> bytes:
    """Encode in declared order; ``indent`` > 0 for people. NaN and infinities become null."""
    encoded = _plain.encode(value)
    return msgspec.json.format(encoded, indent=indent) if indent else encoded


def from_json(data: bytes | str, type_: type[T], *, what: str = "document") -> T:
    """Decode and validate.

    Raises:
        InvalidInputError: The text is not JSON, or does not fit ``type_``; the message names the path.
    """
    try:
        return msgspec.json.decode(data, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{what} cannot be read: {error}") from error


def to_plain(value: Any) -> Any:
    """Turn structs, dates and enums into dicts, lists, numbers and text."""
    return msgspec.to_builtins(value)
