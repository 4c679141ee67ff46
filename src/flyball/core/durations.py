"""Durations as people write them (``90d``, ``20ms``) and instants as text."""

import re
from datetime import UTC, datetime, timedelta

from flyball.core.errors import InvalidInputError

_UNITS = {
    "us": timedelta(microseconds=1),
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d|w)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def parse_duration(text: str | timedelta, *, what: str = "duration") -> timedelta:
    """Read ``"20ms"``, ``"1h"``, ``"180d"`` or ``"1h 30m"``; a timedelta passes through.

    Args:
        text: One or more numbers with a unit of us, ms, s, m, h, d or w.
        what: The thing named in the error.

    Raises:
        InvalidInputError: The text is not a positive duration.
    """
    if isinstance(text, timedelta):
        return text
    parts = _PART.findall(text)
    if not parts or _PART.sub("", text).strip():
        raise InvalidInputError(
            f"{what} {text!r} is not a duration", hint="Write a number and a unit, such as 20ms, 1h or 180d."
        )
    total = sum((float(number) * _UNITS[unit] for number, unit in parts), timedelta())
    if total <= timedelta():
        raise InvalidInputError(f"{what} {text!r} must be longer than nothing")
    return total


def format_duration(duration: timedelta) -> str:
    """Write a duration in its largest whole unit, such as ``1h`` or ``90s``."""
    us = duration // timedelta(microseconds=1)
    for unit in ("w", "d", "h", "m", "s", "ms", "us"):
        size = _UNITS[unit] // timedelta(microseconds=1)
        if us and us % size == 0:
            return f"{us // size}{unit}"
    return "0s"


def format_elapsed(duration: timedelta) -> str:
    """Write how long something took, for a person: ``120 ms``, ``2.4 s``, ``3 min 20 s``."""
    seconds = duration.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def parse_instant(text: str, *, what: str = "time") -> datetime:
    """Read an ISO 8601 instant; without a zone it is UTC.

    Raises:
        InvalidInputError: The text is not an ISO 8601 date or instant.
    """
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInputError(
            f"{what} {text!r} is not an ISO 8601 instant", hint='Write it as "2026-03-01 14:05".'
        ) from error
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def to_us(instant: datetime) -> int:
    """Return microseconds since 1970-01-01 UTC, the form in which every store keeps instants."""
    return (instant - _EPOCH) // _MICROSECOND


def from_us(us: int) -> datetime:
    """Return the aware UTC instant of `to_us`."""
    return _EPOCH + timedelta(microseconds=us)


def format_instant(instant: datetime) -> str:
    """Write an instant as ``2026-03-01T14:05:00Z`` with only as many decimals as it needs."""
    text = instant.astimezone(UTC).isoformat()
    return text.removesuffix("+00:00") + "Z"
