"""Reads sealed predictions some files at a time: memory holds what is asked for and those, however many there are."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

import polars as pl

from flyball.core.durations import to_us
from flyball.domain.predictions import store
from flyball.domain.predictions.figures import EMPTY, FigureCache
from flyball.domain.predictions.store import Segment
from flyball.storage.db import Database, Transaction

_SHADOW = "shadow"
_PAGE = 8
_AT_ONCE = 100_000
"""So many rows of files are gone through together: small files one by one would cost more than what is in them."""


class Span(NamedTuple):
    """When predictions were answered: in [since, until), either of which may be open."""

    since: datetime | None = None
    until: datetime | None = None

    def segments(self, tx: Transaction, endpoint: str) -> Sequence[Segment]:
        """Return the files that may hold some, the oldest first."""
        since_us = None if self.since is None else to_us(self.since)
        until_us = None if self.until is None else to_us(self.until)
        return store.list_segments(tx, endpoint, since_us=since_us, until_us=until_us)

    def filters(self) -> list[pl.Expr]:
        """Return what keeps the rows."""
        bounds = []
        if self.since is not None:
            bounds.append(pl.col("at") >= self.since)
        if self.until is not None:
            bounds.append(pl.col("at") < self.until)
        return bounds


class FigureReader:
    """Answers with `figures.COLUMNS` of predictions. Safe to share between threads.

    Shadows are left out unless a version or the variant ``shadow`` is asked for.

    Args:
        db: Where files are named.
        figures: What was read of them before.
    """

    def __init__(self, db: Database, figures: FigureCache) -> None:
        self._db = db
        self._figures = figures

    def read(
        self,
        endpoint: str,
        span: Span,
        *,
        version: str | None = None,
        variant: str | None = None,
        most: int | None = None,
    ) -> pl.DataFrame:
        """Return predictions by id; with ``most`` those of some files, evenly spread, that hold about so many."""
        segments = self._list(endpoint, span)
        if most is not None:
            segments = segments[:: max(1, -(-sum(segment.rows for segment in segments) // most))]
        return pl.concat([EMPTY, *self._each(segments, span, version, variant)]).sort("id")

    def count(self, endpoint: str, span: Span, *, version: str) -> int:
        """Return how many there are."""
        return sum(rows.height for rows in self._each(self._list(endpoint, span), span, version, None))

    def labelled(
        self,
        endpoint: str,
        labels: pl.DataFrame,
        span: Span,
        *,
        version: str | None = None,
        variant: str | None = None,
    ) -> pl.DataFrame:
        """Return ok predictions that have one of the labels, by id, with what ``labels`` says of each.

        Args:
            endpoint: Whose predictions.
            labels: ``prediction_id``, and any other columns; a shadow has the label of the prediction it ran beside.
            span: When they were answered.
            version: Only this model version's.
            variant: Only this variant's.
        """
        segments = _with_labels(self._list(endpoint, span), labels["prediction_id"])
        frames = self._each(segments, span, version, variant)
        return pl.concat([_join(EMPTY, labels), *(_join(rows, labels) for rows in frames)]).sort("id")

    def latest(
        self, endpoint: str, count: int, *, version: str | None = None, variant: str | None = None
    ) -> pl.DataFrame:
        """Return the last ``count`` ok predictions, oldest first."""
        frames, found, offset = [EMPTY], 0, 0
        while found < count:
            with self._db.read() as tx:
                segments = store.list_newest_segments(tx, endpoint, _PAGE, offset)
            if not segments:
                break
            for rows in self._each(segments, Span(), version, variant):
                frames.append(rows.filter(pl.col("status") == "ok"))
                found += frames[-1].height
            offset += _PAGE
        return pl.concat(frames).sort("at", "id").tail(count)

    def _list(self, endpoint: str, span: Span) -> Sequence[Segment]:
        with self._db.read() as tx:
            return span.segments(tx, endpoint)

    def _each(
        self, segments: Sequence[Segment], span: Span, version: str | None, variant: str | None
    ) -> Iterator[pl.DataFrame]:
        wanted = (*span.filters(), *_of(version, variant))
        for group in _together(segments):
            yield self._figures.read(group).filter(*wanted)


def _together(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    group: list[Segment] = []
    rows = 0
    for segment in segments:
        if group and rows + segment.rows > _AT_ONCE:
            yield group
            group, rows = [], 0
        group.append(segment)
        rows += segment.rows
    if group:
        yield group


def _of(version: str | None, variant: str | None) -> list[pl.Expr]:
    if version is None and variant is None:
        return [pl.col("variant") != _SHADOW]
    wanted = []
    if version is not None:
        wanted.append(pl.col("version") == version)
    if variant is not None:
        wanted.append(pl.col("variant") == variant)
    return wanted


def _join(rows: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    asked = rows.filter(pl.col("status") == "ok").with_columns(answered=pl.coalesce("shadow_of", "id"))
    found = asked.join(labels, left_on="answered", right_on="prediction_id", how="inner", maintain_order="left")
    return found.drop("answered")


def _with_labels(segments: Sequence[Segment], labelled: pl.Series) -> list[Segment]:
    """Leave out the files none of whose predictions has a label; a shadow has that of another prediction."""
    ids = labelled.sort()
    first = ids.search_sorted(pl.Series([segment.first_id for segment in segments], dtype=pl.String), side="left")
    last = ids.search_sorted(pl.Series([segment.last_id for segment in segments], dtype=pl.String), side="right")
    has_some = (last > first).to_list()
    return [segment for segment, found in zip(segments, has_some, strict=True) if found or segment.shadows]
