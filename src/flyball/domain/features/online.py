"""Reads features on the request path: one entity in microseconds, without the project's code."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from flyball.core.durations import from_us, to_us
from flyball.core.errors import BackendUnavailableError, ConflictError
from flyball.domain.data.schemas import Schema, polars_dtype
from flyball.domain.features import store
from flyball.domain.features.rows import Layout, Values
from flyball.domain.features.rows import encode_rows as encode_rows
from flyball.domain.features.training_sets import ViewRef
from flyball.storage.db import Database
from flyball.storage.online.port import OnlineRow, OnlineStore

if TYPE_CHECKING:
    import polars as pl

Outcome = Literal["found", "unknown", "outdated", "unavailable"]
"""What became of looking up one entity; ``outdated`` is older than the view's ttl, or not known yet."""
_NULL = b"\xc0"  # MessagePack's; it may also be part of a number
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


class Looked(NamedTuple):
    """What became of looking up entities, in their order.

    Attributes:
        outcomes: Whether each has values that count.
        event_times_us: When they held; 0 where there is no row.
        values: In the order of the view's columns; None unless they count.
        has_null: Whether one of the values is null.
    """

    outcomes: list[Outcome]
    event_times_us: list[int]
    values: Sequence[Values | None]
    has_null: bool = False


def _nothing(outcome: Outcome, count: int) -> Looked:
    return Looked([outcome] * count, [0] * count, [None] * count)


class OnlineReader:
    """Completes live requests. Safe to call from several threads.

    Args:
        db: Where the columns of each view are kept.
        online: Where the rows are.
        is_fallback_null: Whether requests go on without features while the store does not answer.
    """

    def __init__(self, db: Database, online: OnlineStore, *, is_fallback_null: bool = False) -> None:
        self._db = db
        self._online = online
        self._is_fallback_null = is_fallback_null
        self._layouts: dict[str, Layout] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def look_up(
        self,
        view: str,
        version: str,
        ttl: timedelta | None,
        keys: Sequence[Sequence[Any]],
        at: datetime | Sequence[datetime],
    ) -> Looked:
        """Return what the online store says about entities.

        Args:
            view: The view's name.
            version: Its version.
            ttl: A row counts until this long after its time, inclusive; None for ever.
            keys: One tuple an entity, in the order of the view's keys; a number may be given as text.
            at: A row counts only if it was known by then; one instant for all, or one for each entity.

        Raises:
            BackendUnavailableError: The store did not answer, and nothing says to go on without it.
        """
        name = view_key(view, version)
        layout = self._layouts.get(name) or self._find_layout(name)
        if layout is None:
            self._counts[view, "unknown"] += len(keys)
            return _nothing("unknown", len(keys))
        return self._look_up(view, name, layout, ttl, keys, at)[0]

    def look_up_with_layout(
        self, view: str, version: str, ttl: timedelta | None, keys: Sequence[Sequence[Any]], at: datetime
    ) -> tuple[Looked, Layout]:
        """Look up as `look_up` does; return also what the values' columns are.

        Raises:
            NotMaterialisedError: The version was never written to the online store.
            BackendUnavailableError: The store did not answer, and nothing says to go on without it.
        """
        name, layout = view_key(view, version), self.layout(view, version)
        return self._look_up(view, name, layout, ttl, keys, at)

    def _look_up(
        self,
        view: str,
        name: str,
        layout: Layout,
        ttl: timedelta | None,
        keys: Sequence[Sequence[Any]],
        at: datetime | Sequence[datetime],
    ) -> tuple[Looked, Layout]:
        asked = layout.encode_keys(keys)
        try:
            rows = self._online.read(name, [key for key in asked if key is not None])
        except BackendUnavailableError:
            self._counts[view, "unavailable"] += len(keys)
            if not self._is_fallback_null:
                raise
            return _nothing("unavailable", len(keys)), layout
        if len(rows) < len(asked):
            found = iter(rows)
            rows = [None if key is None else next(found) for key in asked]
        ttl_us = None if ttl is None else ttl // _MICROSECOND
        looked = _look_at_all(layout, rows, to_us(at), ttl_us) if isinstance(at, datetime) else None
        if looked is None:
            at_us = [to_us(at)] * len(rows) if isinstance(at, datetime) else [to_us(instant) for instant in at]
            looked = _look(layout, rows, at_us, ttl_us)
            if looked is None:  # the columns have changed since they were read
                layout = self._find_layout(name) or layout
                looked = _look(layout, rows, at_us, ttl_us) or _nothing("unknown", len(keys))
        for outcome in set(looked.outcomes):
            self._counts[view, outcome] += looked.outcomes.count(outcome)
        return looked, layout

    def read(
        self,
        view: str,
        version: str,
        ttl: timedelta | None,
        keys: Sequence[Sequence[Any]],
        at: datetime | Sequence[datetime],
    ) -> list[OnlineFeatures | None]:
        """Return the newest row of each entity that counts at an instant; arguments as in `look_up`.

        Returns:
            One entry per entity, in the order of ``keys``; None for an unknown one and where the row is too old, or
            newer than ``at`` (the store keeps only the newest; ask `FeatureService.history` about the past).

        Raises:
            BackendUnavailableError: The store did not answer, and nothing says to go on without it.
        """
        looked = self.look_up(view, version, ttl, keys, at)
        layout = self._layouts.get(view_key(view, version))
        names = layout.columns.names if layout else []
        return [
            None
            if values is None
            else OnlineFeatures(
                view=view, version=version, event_time=from_us(time_us), values=dict(zip(names, values, strict=True))
            )
            for time_us, values in zip(looked.event_times_us, looked.values, strict=True)
        ]

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
            looked = self.look_up(name, version, ttl, [[request.get(key) for key in keys] for request in requests], at)
            columns = self.columns(name, version)
            nothing = (None,) * len(columns.fields)
            rows: list[Values] = []
            for request_number, values in enumerate(looked.values):
                if values is not None:
                    event_times[request_number][name] = from_us(looked.event_times_us[request_number])
                    rows.append(values)
                else:
                    counted = unavailable if looked.outcomes[request_number] == "unavailable" else missing
                    counted[name] = counted.get(name, 0) + 1
                    rows.append(nothing)
            series.extend(
                pl.Series(field.name, [row[place] for row in rows], dtype=polars_dtype(field.dtype))
                for place, field in enumerate(columns.fields)
            )
        frame = pl.DataFrame(series) if series else pl.DataFrame(height=len(requests))
        return Completed(frame=frame, event_times=event_times, missing=missing, unavailable=unavailable)

    def take_counts(self) -> dict[tuple[str, str], int]:
        """Return how many entities were looked up since the last call, by view and outcome."""
        taken, self._counts = self._counts, Counter()
        return dict(taken)

    def read_rows(
        self, view: ViewRef, keys: Sequence[Sequence[Any]], at: datetime | Sequence[datetime]
    ) -> list[OnlineFeatures | None]:
        """Return what `complete` puts into a frame, as plain values: one row an entity, None where there is none.

        Raises:
            NotMaterialisedError: The view's version was never written to the online store.
            BackendUnavailableError: The store did not answer.
        """
        self.columns(view.name, view.version)
        return self.read(view.name, view.version, view.ttl, keys, at)

    def columns(self, view: str, version: str) -> Schema:
        """Return the feature columns of a view's version.

        Raises:
            NotMaterialisedError: It was never written to the online store.
        """
        return self.layout(view, version).columns

    def layout(self, view: str, version: str) -> Layout:
        """Return the columns and keys of a view's version.

        Raises:
            NotMaterialisedError: It was never written to the online store.
        """
        key = view_key(view, version)
        found = self._layouts.get(key) or self._find_layout(key)
        if found is None:
            raise NotMaterialisedError(view, version)
        return found

    def _find_layout(self, key: str) -> Layout | None:
        with self._db.read() as tx:
            found = store.find_layout(tx, key)
        if found is not None:
            self._layouts[key] = found
        return found


def view_key(view: str, version: str) -> str:
    """Return the name of a view's version in the online store."""
    return f"{view}@{version}"


def _look_at_all(layout: Layout, rows: Sequence[OnlineRow | None], now_us: int, ttl_us: int | None) -> Looked | None:
    """Return what rows say at an instant where all of them count and hold no null; None of others. See `_look`."""
    there = [row for row in rows if row is not None]
    if not there or len(there) < len(rows):
        return None
    _, times_us, known_us, payloads = zip(*there, strict=True)
    if max(known_us) > now_us or max(times_us) > now_us or (ttl_us is not None and now_us - min(times_us) > ttl_us):
        return None
    values = layout.read_all(payloads)
    return None if values is None else Looked(["found"] * len(rows), list(times_us), values)


def _look(layout: Layout, rows: Sequence[OnlineRow | None], at_us: Sequence[int], ttl_us: int | None) -> Looked | None:
    """Return what rows say at their instants; None when one has columns that the layout does not know.

    It runs for every entity of every request, so it makes no object for each.
    """
    outcomes: list[Outcome] = []
    times_us: list[int] = []
    found: list[Values | None] = []
    has_null = False
    for row, now_us in zip(rows, at_us, strict=True):
        if row is None or row[2] > now_us:
            outcomes.append("unknown")
            times_us.append(0)
            found.append(None)
            continue
        _, time_us, _, payload = row
        times_us.append(time_us)
        if time_us > now_us or (ttl_us is not None and now_us - time_us > ttl_us):
            outcomes.append("outdated")
            found.append(None)
            continue
        values = layout.read(payload)
        if values is None:
            return None
        has_null = has_null or (_NULL in payload and None in values)
        outcomes.append("found")
        found.append(values)
    return Looked(outcomes, times_us, found, has_null)
