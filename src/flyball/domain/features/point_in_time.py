"""Joins that never look ahead: each row gets what was known at its time."""

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

USABLE = "__usable_from"
"""The column of an arranged frame that says from when on a row counts: the later of its time and when it was known."""
_ORDER = "__order"
_EVENT_TIME = "__event_time"


def arrange(rows: pl.LazyFrame, *, by: Sequence[str], time: str, known: str | None = None) -> pl.LazyFrame:
    """Bring feature rows into the form that `join_arranged` takes; worth keeping when it is joined often.

    Only rows that are ever the newest usable one of their entity stay. Of rows of an entity with one time the last
    known wins, of those the last in the frame. Rows without a time, or with ``known`` but no value in it, are never
    usable.

    Returns:
        The rows' columns and `USABLE`, sorted by `USABLE`; of an entity's rows with the same one the last counts. In
        that order an entity's times never fall, so the newest usable row is also the one that became usable last.
    """
    if known is None:
        return (
            rows.filter(pl.col(time).is_not_null())
            .sort(time, maintain_order=True)
            .with_columns(pl.col(time).alias(USABLE))
        )
    return (
        rows.filter(pl.all_horizontal(pl.col(time, known).is_not_null()))
        .with_columns(pl.max_horizontal(time, known).alias(USABLE))
        .sort(USABLE, time, known, maintain_order=True)
        .filter(pl.col(time) == pl.col(time).cum_max().over(list(by)))
    )


def join_arranged(
    spine: pl.LazyFrame,
    arranged: pl.LazyFrame,
    *,
    by: Sequence[str],
    time: str,
    feature_time: str,
    columns: Sequence[str],
    ttl: timedelta | None = None,
    event_time: str | None = None,
) -> pl.LazyFrame:
    """Give each spine row the newest feature row of its entity that was usable at its time.

    Args:
        spine: The rows to complete; every one is kept, in its order.
        arranged: Feature rows as `arrange` returns them.
        by: The entity's keys, named alike in both frames.
        time: The spine's time column; a row without a time or a key gets nulls.
        feature_time: The feature rows' time column.
        columns: Which feature columns to add; the spine has none of these names.
        ttl: A feature row counts until this long after its time, inclusive; for ever by default.
        event_time: Also add the time of the feature row used, under this name.
    """
    keys = list(by)
    # A backward asof join takes the last of the rows that are equal in the time and not later than asked for.
    features = arranged.select(
        *keys, USABLE, pl.col(feature_time).alias(_EVENT_TIME), *(pl.col(name) for name in columns)
    )
    joined = (
        spine.with_row_index(_ORDER)
        .sort(time, maintain_order=True)
        .join_asof(features, left_on=time, right_on=USABLE, by=keys, strategy="backward", check_sortedness=False)
        .sort(_ORDER)
    )
    if ttl is not None:
        is_fresh = pl.col(time) - pl.col(_EVENT_TIME) <= ttl
        joined = joined.with_columns(pl.when(is_fresh).then(pl.col(_EVENT_TIME, *columns)))
    kept = pl.all().exclude(_ORDER, USABLE, _EVENT_TIME, *columns)
    added = [] if event_time is None else [pl.col(_EVENT_TIME).alias(event_time)]
    return joined.select(kept, *(pl.col(name) for name in columns), *added)


def join_point_in_time(
    spine: pl.LazyFrame,
    features: pl.LazyFrame,
    *,
    by: Sequence[str],
    time: str,
    feature_time: str,
    columns: Sequence[str],
    known: str | None = None,
    ttl: timedelta | None = None,
    event_time: str | None = None,
) -> pl.LazyFrame:
    """Give each spine row at time t the newest feature row with time <= t, known <= t and t - time <= ttl.

    See `arrange` for ties and nulls, and `join_arranged` for the arguments.
    """
    return join_arranged(
        spine,
        arrange(features, by=by, time=feature_time, known=known),
        by=by,
        time=time,
        feature_time=feature_time,
        columns=columns,
        ttl=ttl,
        event_time=event_time,
    )
