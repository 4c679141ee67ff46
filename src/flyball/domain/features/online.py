"""Reads features on the request path: one entity in microseconds, without the project's code."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from flyball.core.durations import from_us, to_us
from flyball.core.errors import BackendUnavailableError, ConflictError
from flyball.domain.data.schemas import Schema
from flyball.domain.features import store
from flyball.domain.features.training_sets import ViewRef
from flyball.storage.db import Database
from flyball.storage.online.port import OnlineRow, OnlineStore

if TYPE_CHECKING:
    import polars as pl

Outcome = Literal["found", "unknown", "outdated", "unavailable"]
"""What became of looking up one entity; ``outdated`` is older than the view's ttl, or not known yet."""
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[str, Any])
_MICROSECOND = timedelta(microseconds=1)


class OnlineFeatures(msgspec.Struct, frozen=True, kw_only=True):
    """What a view says about one entity at one instant.

    Attributes:
        view: The view's name.
        version: Its version.
        event_time: When the values held.
        values: The features.
    """

    view: str
    version: str
    event_time: datetime
    values: dict[str, Any]


class Completed(msgspec.Struct, frozen=True, kw_only=True):
    """Requests' features from the online store.

    Attributes:
        frame: One row a request with the columns of all views; null where there is no value.
        event_times: For each request the time of the row used, by view; views without one are left out.
        missing: How many requests had no row that counts, by view; views without any are left out.
        unavailable: How many requests went without a view because the store did not answer; views without any are
            left out.
    """

    frame: "pl.DataFrame"
    event_times: list[dict[str, datetime]]
    missing: dict[str, int]
    unavailable: dict[str, int] = {}


class NotMaterialisedError(ConflictError):
    """A view's version has never been written to the online store."""

    code = "features/not-materialised"

    def __init__(self, view: str, version: str) -> None:
        super().__init__(
            f"version {version} of feature view {view!r} has no online rows yet",
            hint="Start the loop with: flyball up; it writes them before its first reaction.",
        )


class OnlineReader:
    """Completes live requests. Safe to call from several threads.

    Args:
        db: Where the columns of each view are kept.
        online: Where the rows are.
        is_fallback_null: Whether `complete` goes on without features while the store does not answer.
    """

    def __init__(self, db: Database, online: OnlineStore, *, is_fallback_null: bool = False) -> None:
        self._db = db
        self._online = online
        self._is_fallback_null = is_fallback_null
        self._columns: dict[str, Schema] = {}
        self._counts: Counter[tuple[str, Outcome]] = Counter()

    def read(
        self,
        view: str,
        version: str,
        ttl: timedelta | None,
        keys: Sequence[Sequence[Any]],
        at: datetime | Sequence[datetime],
    ) -> list[OnlineFeatures | None]:
        """Return the newest row of each entity that counts at an instant.

        Args:
            view: The view's name.
            version: Its version.
            ttl: A row counts until this long after its time, inclusive; None for ever.
            keys: One tuple an entity, in the order of the view's keys.
            at: A row counts only if it was known by then; one instant for all, or one for each entity.

        Returns:
            One entry per entity, in the order of ``keys``; None for an unknown one and where the row is too old, or
            newer than ``at`` (the store keeps only the newest; ask `FeatureService.history` about the past).

        Raises:
            BackendUnavailableError: The store did not answer.
        """
        at_us = [to_us(at)] * len(keys) if isinstance(at, datetime) else [to_us(instant) for instant in at]
        ttl_us = None if ttl is None else ttl // _MICROSECOND
        try:
            rows = self._online.read(view_key(view, version), [encode_key(key) for key in keys])
        except BackendUnavailableError:
            self._counts[view, "unavailable"] += len(keys)
            raise
        found: list[OnlineFeatures | None] = []
        for row, instant_us in zip(rows, at_us, strict=True):
            if row is None:
                self._counts[view, "unknown"] += 1
                found.append(None)
            elif not _holds(row, instant_us, ttl_us):
                self._counts[view, "outdated"] += 1
                found.append(None)
            else:
                self._counts[view, "found"] += 1
                values = _decoder.decode(row.payload)
                event_time = from_us(row.event_time_us)
                found.append(OnlineFeatures(view=view, version=version, event_time=event_time, values=values))
        return found

    def complete(
        self,
        requests: Sequence[Mapping[str, Any]],
        views: Sequence[ViewRef | tuple[str, str, timedelta | None, Sequence[str]]],
        at: datetime | Sequence[datetime],
    ) -> Completed:
        """Look up the features of requests.

        Args:
            requests: Each carries the keys of every view; a null key has no features.
            views: Name, version, ttl and keys of each view, such as `TrainingLineage.view_refs`.
            at: The instant for which the features count; one for all, or one for each request.

        Raises:
            NotMaterialisedError: A view's version was never written to the online store.
            BackendUnavailableError: The store did not answer, and nothing says to go on without it.
        """
        import polars as pl

        series: list[pl.Series] = []
        event_times: list[dict[str, datetime]] = [{} for _ in requests]
        missing: dict[str, int] = {}
        unavailable: dict[str, int] = {}
        for name, version, ttl, keys in views:
            columns = self.columns(name, version)
            asked = [[request.get(key) for key in keys] for request in requests]
            try:
                found = self.read(name, version, ttl, asked, at)
            except BackendUnavailableError:
                if not self._is_fallback_null:
                    raise
                found = [None] * len(asked)
                unavailable[name] = len(asked)
            for request_number, features in enumerate(found):
                if features is None:
                    missing[name] = missing.get(name, 0) + 1
                else:
                    event_times[request_number][name] = features.event_time
            values = [features.values if features else {} for features in found]
            series.extend(columns.frame(values).get_columns())
        frame = pl.DataFrame(series) if series else pl.DataFrame(height=len(requests))
        return Completed(frame=frame, event_times=event_times, missing=missing, unavailable=unavailable)

    def take_counts(self) -> dict[tuple[str, Outcome], int]:
        """Return how many entities were looked up since the last call, by view and outcome."""
        taken, self._counts = self._counts, Counter()
        return dict(taken)

    def columns(self, view: str, version: str) -> Schema:
        """Return the feature columns of a view's version.

        Raises:
            NotMaterialisedError: It was never written to the online store.
        """
        key = view_key(view, version)
        if key not in self._columns:
            with self._db.read() as tx:
                found = store.find_columns(tx, key)
            if found is None:
                raise NotMaterialisedError(view, version)
            self._columns[key] = found
        return self._columns[key]


def view_key(view: str, version: str) -> str:
    """Return the name of a view's version in the online store."""
    return f"{view}@{version}"


def encode_key(key: Sequence[Any]) -> bytes:
    """Return an entity's keys as bytes; equal values give equal bytes: 1 is 1.0, but not ``"1"``."""
    return _encoder.encode([int(part) if isinstance(part, float) and part.is_integer() else part for part in key])


def encode_rows(frame: "pl.DataFrame", keys: Sequence[str], time: str, usable: str, columns: Schema) -> list[OnlineRow]:
    """Return the rows of a frame as the online store keeps them."""
    import polars as pl

    names = columns.names
    times = frame.select(pl.col(time).to_physical().alias("time"), pl.col(usable).to_physical().alias("usable"))
    return [
        OnlineRow(encode_key(key), event_time_us, known_us, _encoder.encode(dict(zip(names, values, strict=True))))
        for key, (event_time_us, known_us), values in zip(
            frame.select(keys).iter_rows(), times.iter_rows(), frame.select(names).iter_rows(), strict=True
        )
    ]


def _holds(row: OnlineRow, at_us: int, ttl_us: int | None) -> bool:
    if row.known_us > at_us or row.event_time_us > at_us:
        return False
    return ttl_us is None or at_us - row.event_time_us <= ttl_us
