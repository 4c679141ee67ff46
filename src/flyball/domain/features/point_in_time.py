"""Joins that never look ahead: each row gets what was known at its time."""

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

UInts = npt.NDArray[np.uint64]

USABLE = "__usable_from"
"""The column that says from when on a row counts: the later of its time and when it was known."""
ROW = "__row"
"""The column that says which row of a frame is meant, by its number."""
STEP = "__step"
"""The column that says how a row's time stands to the newest of its entity's rows usable before: 1, 0 or -1."""
_ORDER, _RANK = "__order", "__rank"
_MOST_CODES = 1 << 32
_EVENT_TIME = "__event_time"


def mark_order(rows: pl.DataFrame, *, by: Sequence[str], time: str, known: str | None = None) -> pl.DataFrame:
    """Return rows in the order in which they become usable, and say of each whether it is newer than those before.

    Of rows with one time the last known comes last, of those the last in the frame. Rows without a key or a time, or
    with ``known`` but no value in it, are never usable and left out.

    Returns:
        ``by``, ``time``, `USABLE`, `ROW` and, with ``known``, `STEP`: 1 for a row newer than all usable before it and
        for an entity's first, 0 for one of the same time as the newest, -1 for an older one.
    """
    numbered = rows.select(*by, time, *([known] if known and known != time else [])).with_row_index(ROW)
    numbered = numbered.filter(pl.all_horizontal(pl.all().is_not_null()))
    usable = numbered.with_columns((pl.max_horizontal(time, known) if known else pl.col(time)).alias(USABLE))
    # Stable sorts by one column are much faster than one by three, and most tables need but the last of them.
    if known is not None and usable.select((pl.col(known) < pl.col(time)).any()).item():
        usable = usable.sort(known, maintain_order=True)
    if not usable.get_column(time).is_sorted():
        usable = usable.sort(time, maintain_order=True)
    if known is None:
        return usable.select(*by, time, USABLE, ROW)
    usable = usable.with_columns(pl.col(time).rle_id().alias(_RANK)).sort(USABLE, maintain_order=True)
    step = _steps(_codes(usable, by), usable.get_column(_RANK).to_numpy().astype(np.uint64))
    return usable.select(*by, time, USABLE, ROW).with_columns(pl.Series(STEP, step))


def _codes(rows: pl.DataFrame, by: Sequence[str]) -> UInts:
    """Return a number below 2**32 for each row's entity."""
    if len(by) == 1 and rows.height and rows.schema[by[0]].is_integer():
        key = rows.get_column(by[0])
        first, last = int(key.min()), int(key.max())  # type: ignore[arg-type]
        if last - first < _MOST_CODES:
            return (key.cast(pl.Int64) - first).to_numpy().astype(np.uint64)
    entities = rows.select(by).unique().with_row_index(_RANK)
    coded = rows.select(by).join(entities, on=list(by), how="left", maintain_order="left")
    return coded.get_column(_RANK).to_numpy().astype(np.uint64)


def _steps(codes: UInts, ranks: UInts) -> npt.NDArray[np.int8]:
    """Compare each row with the highest rank of the same code before it: 1 above or first, 0 equal, -1 below.

    Sorting numbers that hold code and place, and one running maximum over all codes, take a quarter of the time of a
    window expression over the keys.
    """
    half = np.uint64(32)
    placed = np.sort((codes << half) | np.arange(len(codes), dtype=np.uint64))
    place = (placed & np.uint64(_MOST_CODES - 1)).astype(np.int64)
    ranked = (placed & ~np.uint64(_MOST_CODES - 1)) | ranks[place]
    before = np.maximum.accumulate(ranked)[:-1]
    found = np.ones(len(codes), dtype=np.int8)
    found[place[1:]] = (ranked[1:] > before).astype(np.int8) - (ranked[1:] < before).astype(np.int8)
    return found


def leave_newest(marked: pl.DataFrame) -> pl.DataFrame:
    """Leave those rows of `mark_order` that are ever the newest usable one of their entity, without `STEP`.

    In their order an entity's times never fall, so its newest usable row is also the one that became usable last.
    """
    return marked.filter(pl.col(STEP) >= 0).drop(STEP) if STEP in marked.columns else marked


def find_rows(
    spine: pl.DataFrame,
    order: pl.DataFrame,
    *,
    by: Sequence[str],
    time: str,
    feature_time: str,
    ttl: timedelta | None = None,
) -> pl.DataFrame:
    """Find for each spine row the newest feature row of its entity that was usable at its time.

    Args:
        spine: Keys and times; a row without a time or a key finds nothing.
        order: What `leave_newest` returns.
        by: The entity's keys, named alike in both frames.
        time: The spine's time column.
        feature_time: The feature rows' time column.
        ttl: A feature row counts until this long after its time, inclusive; for ever by default.

    Returns:
        One row per spine row, in its order: `ROW`, and the feature row's time; null where there is none.
    """
    asked = spine.select(*dict.fromkeys((*by, time)))
    is_sorted = asked.get_column(time).is_sorted()
    if not is_sorted:
        asked = asked.with_row_index(_ORDER).sort(time, maintain_order=True)
    # A backward asof join takes the last of the rows that are equal in the time and not later than asked for.
    joined = asked.lazy().join_asof(
        order.lazy().select(*by, USABLE, ROW, pl.col(feature_time).alias(_EVENT_TIME)),
        left_on=time,
        right_on=USABLE,
        by=list(by),
        strategy="backward",
        check_sortedness=False,
    )
    if not is_sorted:
        joined = joined.sort(_ORDER)
    if ttl is not None:
        is_fresh = pl.col(time) - pl.col(_EVENT_TIME) <= ttl
        joined = joined.with_columns(pl.when(is_fresh).then(pl.col(ROW, _EVENT_TIME)))
    return joined.select(ROW, pl.col(_EVENT_TIME).alias(feature_time)).collect()


def join_point_in_time(
    spine: pl.DataFrame,
    features: pl.DataFrame,
    *,
    by: Sequence[str],
    time: str,
    feature_time: str,
    columns: Sequence[str],
    known: str | None = None,
    ttl: timedelta | None = None,
    event_time: str | None = None,
) -> pl.DataFrame:
    """Give each spine row at time t the newest feature row with time <= t, known <= t and t - time <= ttl.

    Ties and nulls are as in `mark_order`; see `find_rows` for the other arguments.

    Args:
        columns: Which feature columns to add; the spine has none of these names.
        event_time: Also add the time of the feature row used, under this name.

    Returns:
        The spine's rows, every one in its order, with the columns added.
    """
    marked = mark_order(features, by=by, time=feature_time, known=known)
    order = leave_newest(marked)
    found = find_rows(spine, order, by=by, time=time, feature_time=feature_time, ttl=ttl)
    added = features.select(pl.col(name).gather(found.get_column(ROW)) for name in columns)
    if event_time is not None:
        added = added.with_columns(found.get_column(feature_time).alias(event_time))
    return spine.hstack(added)
