"""What Feast's clients send and read, as JSON."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from flyball.core.durations import format_instant, from_us, to_us
from flyball.domain.features.vectors import Status, Vectors

_EPOCH = "1970-01-01T00:00:00Z"
# Feast has no word for a store that did not answer where the caller wants to go on; its INVALID says: do not use it.
_WORDS: dict[Status, str] = {
    "present": "PRESENT",
    "key": "PRESENT",
    "null": "NULL_VALUE",
    "not_found": "NOT_FOUND",
    "outdated": "OUTSIDE_MAX_AGE",
    "unavailable": "INVALID",
}
_encode = msgspec.json.Encoder().encode
_PLAIN = {float, int, str, bool}
_NULL = b"null"


class GetFeatures(msgspec.Struct, frozen=True):
    """The body of ``/get-online-features``: see Feast's documentation of its feature server."""

    entities: dict[str, list[Any]]
    features: list[str] | None = None
    feature_service: str | None = None
    full_feature_names: bool = False
    include_feature_view_version_metadata: bool = False


class WriteRows(msgspec.Struct, frozen=True):
    """The body of ``/write-to-online-store``."""

    feature_view_name: str
    df: dict[str, list[Any]]
    allow_registry_cache: bool = True
    transform_on_write: bool = True


class PushRows(msgspec.Struct, frozen=True):
    """The body of ``/push``."""

    push_source_name: str
    df: dict[str, list[Any]]
    to: str = "online"
    allow_registry_cache: bool = True
    transform_on_write: bool = True


class Materialise(msgspec.Struct, frozen=True):
    """The body of ``/materialize`` and ``/materialize-incremental``."""

    end_ts: str | None = None
    start_ts: str | None = None
    feature_views: list[str] | None = None
    disable_event_timestamp: bool = False
    full_feature_names: bool = False
    version: str | None = None


def encode_vectors(vectors: Vectors, views: Sequence[tuple[str, str]] | None) -> bytes:
    """Return the answer to ``/get-online-features``.

    Args:
        vectors: What was found.
        views: Name and version of each view, where the client asked for them.
    """
    parts: list[bytes] = [b'{"results":[']
    begin, end = b'{"values":', b""
    told: tuple[Any, Any] = (None, None)
    for values, statuses, times_us in zip(vectors.columns, vectors.statuses, vectors.event_times_us, strict=True):
        if statuses is not told[0] or times_us is not told[1]:  # features of one view share both
            told, end = (statuses, times_us), _encode_end(statuses, times_us)
        encoded = _encode(values) if values and type(values[0]) in _PLAIN else _NULL
        # NaN and infinities are written as null, so only columns with nulls need a second look.
        parts += (begin, encoded if _NULL not in encoded else _encode_values(values), end)
        begin = b',{"values":'
    metadata: dict[str, Any] = {"feature_names": vectors.names}
    if views is not None:
        # Feast numbers versions; ours are digests of code, which its clients would not read as a version.
        metadata["feature_view_metadata"] = [{"name": name, "version": 0, "digest": digest} for name, digest in views]
    parts += (b'],"metadata":', _encode(metadata), b"}")
    return b"".join(parts)


def _encode_end(statuses: Sequence[Status], times_us: Sequence[int]) -> bytes:
    return b',"statuses":%b,"event_timestamps":%b}' % (_encode_statuses(statuses), _encode_times(times_us))


def _encode_statuses(statuses: Sequence[Status]) -> bytes:
    for status in ("present", "key"):
        if statuses.count(status) == len(statuses):
            return _encode_alike(_WORDS[status], len(statuses))
    return _encode([_WORDS[status] for status in statuses])


@lru_cache(maxsize=256)
def _encode_alike(value: str, count: int) -> bytes:
    return _encode([value] * count)


def _encode_times(times_us: Sequence[int]) -> bytes:
    if not any(times_us):
        return _encode_alike(_EPOCH, len(times_us))
    return b'["%b"]' % '","'.join(map(_format_time, times_us)).encode()


@lru_cache(maxsize=65_536)
def _format_time(time_us: int) -> str:
    return format_instant(from_us(time_us)) if time_us else _EPOCH


def _encode_values(values: Sequence[Any]) -> bytes:
    sample = next((value for value in values if value is not None), None)
    if isinstance(sample, datetime):
        return _encode([value if value is None else _tell_instant(value) for value in values])
    if isinstance(sample, float):
        return _encode([_tell_float(value) for value in values])
    return _encode(values)


def _tell_float(value: float | None) -> float | str | None:
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _tell_instant(value: datetime) -> float | int:
    """Return seconds since 1970, as Feast writes its type UnixTimestamp."""
    seconds, rest = divmod(to_us(value.astimezone(UTC)), 1_000_000)
    return seconds if not rest else seconds + rest / 1_000_000
