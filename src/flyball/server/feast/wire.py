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
    # Features of one view share statuses and times; each is written once.
    written: dict[int, bytes] = {}
    results = []
    columns = zip(vectors.columns, vectors.statuses, vectors.event_times_us, strict=True)
    for values, statuses, times_us in columns:
        told = written.get(id(statuses)) or written.setdefault(id(statuses), _encode_statuses(statuses))
        times = written.get(id(times_us)) or written.setdefault(id(times_us), _encode_times(times_us))
        results.append(b'{"values":%b,"statuses":%b,"event_timestamps":%b}' % (_encode_values(values), told, times))
    metadata: dict[str, Any] = {"feature_names": vectors.names}
    if views is not None:
        # Feast numbers versions; ours are digests of code, which its clients would not read as a version.
        metadata["feature_view_metadata"] = [{"name": name, "version": 0, "digest": digest} for name, digest in views]
    return b'{"results":[%b],"metadata":%b}' % (b",".join(results), _encode(metadata))


def _encode_statuses(statuses: Sequence[Status]) -> bytes:
    if statuses.count("present") == len(statuses):
        return _encode_present(len(statuses))
    return _encode([_WORDS[status] for status in statuses])


@lru_cache(maxsize=256)
def _encode_present(count: int) -> bytes:
    return _encode(["PRESENT"] * count)


def _encode_times(times_us: Sequence[int]) -> bytes:
    return b'["%b"]' % '","'.join(map(_format_time, times_us)).encode() if times_us else b"[]"


@lru_cache(maxsize=65_536)
def _format_time(time_us: int) -> str:
    return format_instant(from_us(time_us)) if time_us else _EPOCH


def _encode_values(values: Sequence[Any]) -> bytes:
    sample = next((value for value in values if value is not None), None)
    if isinstance(sample, float):
        encoded = _encode(values)
        # NaN and infinities are written as null, so only columns with nulls need a second look.
        return _encode([_tell_float(value) for value in values]) if b"null" in encoded else encoded
    if isinstance(sample, datetime):
        return _encode([value if value is None else _tell_instant(value) for value in values])
    return _encode(values)


def _tell_float(value: float | None) -> float | str | None:
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _tell_instant(value: datetime) -> float | int:
    """Return seconds since 1970, as Feast writes its type UnixTimestamp."""
    seconds, rest = divmod(to_us(value.astimezone(UTC)), 1_000_000)
    return seconds if not rest else seconds + rest / 1_000_000
