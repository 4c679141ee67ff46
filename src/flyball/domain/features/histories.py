"""Computes the whole history of a feature view, and refuses functions whose result could not be trusted."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cached_property

import polars as pl

from flyball.core.durations import format_instant, to_us
from flyball.core.errors import InvalidInputError
from flyball.domain.data.schemas import Schema
from flyball.domain.features.aggregates import AggregatedView
from flyball.domain.features.comparing import PRESENT, differing
from flyball.domain.features.lateness import OWN_KNOWN, arrival_of, order_by_known, rows_of
from flyball.domain.features.point_in_time import ROW, USABLE, Timelines
from flyball.domain.features.tiles import aggregate_tiles, tiles_of
from flyball.domain.features.views import FeatureView

AT = "__at"
"""A name for the column of instants at which features are asked for, which no key has."""
_TIME = pl.Datetime("us", "UTC")
# A function that looks ahead does so in a part of the entities too, so that of a large table not all is run again.
_CHECKED, _SAMPLED = 100_000, 500  # rows
_VALUES_IN_MEMORY = 60_000_000  # about half a gigabyte


class FeatureFunctionError(InvalidInputError):
    """A feature function raises, or does not return what it must."""

    code = "features/function"

    def __init__(self, name: str, problem: str, *, hint: str = "") -> None:
        super().__init__(f"feature function {name!r} {problem}", hint=hint)


class LooksAheadError(InvalidInputError):
    """A feature's value at some time, or that there is one, depends on rows of a later time."""

    code = "features/looks-ahead"

    def __init__(self, name: str, column: str | None, time: datetime) -> None:
        what = "a row" if column is None else f"its {column!r}"
        how = "is missing" if column is None else "comes out differently"
        super().__init__(
            f"feature view {name!r} looks into the future: {what} at {format_instant(time)} {how} when later rows are "
            "not there yet",
            hint="Use only rows at or before each row's time: rolling or cumulative expressions, and windows "
            'labelled by their end (label="right").',
        )


class ViewHistory:
    """A view's rows over all time, in the form that joins and the online store take.

    Args:
        rows: The features as the function returned them.
        timelines: Which of them was the newest at an instant.
        keys: The entity's keys.
        columns: The features, with the types they have here, online and in requests.

    Attributes:
        keys: The entity's keys.
        columns: The features.
        key_types: The types of the keys.
    """

    def __init__(self, rows: pl.DataFrame, timelines: Timelines, keys: Schema, columns: Schema) -> None:
        self.keys = keys
        self.columns = columns
        self.key_types = keys.to_polars()
        self._rows = rows.select(columns.names).cast(columns.to_polars())
        self._timelines = timelines

    @cached_property
    def order(self) -> pl.DataFrame:
        """Keys, time, `USABLE` and the numbers of rows, as `Timelines.newest_in_turn` returns them."""
        return self._timelines.newest_in_turn().cast(self.key_types)

    def until(self, as_of: datetime | None = None) -> pl.DataFrame:
        """Return the rows that were usable by ``as_of``, or all: keys, time, `USABLE` and features."""
        return self._with_features(self.order if as_of is None else self.order.head(self.count(as_of)))

    def newest(self, as_of: datetime, *, after: datetime | None = None) -> pl.DataFrame:
        """Return the newest row of each entity among those that became usable by ``as_of``, and after ``after``."""
        start = 0 if after is None else self.count(after)
        found = self.order.slice(start, max(0, self.count(as_of) - start))
        return self._with_features(found.unique(self.keys.names, keep="last", maintain_order=True))

    @property
    def last_known_us(self) -> int:
        """When the last row became usable; 0 where there is none."""
        usable_us = self.order.get_column(USABLE).to_physical()
        return int(usable_us[-1]) if len(usable_us) else 0

    def count(self, instant: datetime) -> int:
        """Return how many rows were usable by an instant."""
        usable_us = self.order.get_column(USABLE).to_physical().to_numpy()
        return int(usable_us.searchsorted(to_us(instant), side="right"))

    def join(self, spine: pl.DataFrame, *, time: str, as_of: datetime, ttl: timedelta | None = None) -> pl.DataFrame:
        """Return the features of each spine row as they were known at its time.

        Args:
            spine: Keys and times.
            time: The spine's time column.
            as_of: Rows that became usable later are not used.
            ttl: A row counts until this long after its time, inclusive; for ever by default.

        Returns:
            The features, one row per spine row, in its order; nulls where there is none.
        """
        found = self._timelines.find(spine, time=time, as_of=as_of, ttl=ttl)
        return self._rows.select(pl.all().gather(found))

    def _with_features(self, order: pl.DataFrame) -> pl.DataFrame:
        return order.drop(ROW).hstack(self._rows.select(pl.all().gather(order.get_column(ROW))))


def compute_history(view: FeatureView, rows: pl.LazyFrame) -> ViewHistory:
    """Run a view's function over all rows of its table.

    From when on a value was known, also where older rows came later, says `order_by_known`. Of several results for one
    entity and time the last known wins, of those the last that the function returned.

    Args:
        view: The view.
        rows: All rows of its table; the function gets them oldest first.

    Raises:
        FeatureFunctionError: The function raises, drops a key or the time, or returns no features.
        LooksAheadError: A value depends on rows of a later time.
        UnsupportedColumnError: A feature is a list, a struct, binary or a duration.
        TooManyLateRowsError: Rows became known so late and so mixed that this would be hours of work.
    """
    if isinstance(view, AggregatedView):
        return aggregated_history(view, aggregate_tiles(view, tiles_of(view, rows)))
    known = view.table.known
    rows = _oldest_first(rows, view.time, known)
    result = _run(view, rows)
    columns = Schema.of(result.select(_features(view, result)))
    names = columns.names
    arrival = arrival_of(view, rows) if known else None
    some = rows
    if result.height > _CHECKED:
        entities = [result.select(view.keys).slice(result.height // 2, _SAMPLED)]
        if arrival is not None:
            entities.append(arrival.gaps.cast(entities[0].schema))
        some = rows_of(pl.concat(entities), rows)
    check_looks_ahead(view, some)
    if arrival is not None:

        def run(rows: pl.LazyFrame) -> pl.DataFrame:
            then = _run(view, rows)
            then = then.rename({str(known): OWN_KNOWN}) if known in then.columns else then
            # A column may depend on the data, such as one of a pivot, or be of no type where all of it is null.
            return then.with_columns(
                (pl.col(name) if name in then.columns else pl.lit(None)).cast(result.schema[name]).alias(name)
                for name in names
            )

        own = result.rename({str(known): OWN_KNOWN}) if known in result.columns else result
        result, timelines = order_by_known(view, own, arrival, run, rows=rows, some=some, features=names)
    else:
        timelines = Timelines(result, by=view.keys, time=view.time)
    return ViewHistory(result, timelines, Schema.of(result.select(view.keys)), columns)


def _oldest_first(rows: pl.LazyFrame, time: str, known: str | None) -> pl.LazyFrame:
    """Return the rows that have times, in the order of ``time``.

    They are read into memory where that is cheap, as they are used several times.
    """
    instants = [time, known or time]
    if rows.select(pl.len()).collect().item() * rows.collect_schema().len() >= _VALUES_IN_MEMORY:
        rows = rows.drop_nulls(instants)
        is_sorted = not rows.select((pl.col(time).diff() < pl.duration()).any()).collect().item()
        return rows if is_sorted else rows.sort(time, maintain_order=True)
    frame = rows.collect()
    if any(frame.select(pl.col(name).null_count() for name in set(instants)).row(0)):
        frame = frame.drop_nulls(instants)
    if not frame.get_column(time).is_sorted():
        frame = frame.sort(time, maintain_order=True)
    return frame.lazy()


def aggregated_history(view: AggregatedView, result: pl.DataFrame) -> ViewHistory:
    """Return the history that tiles say: when a row was known is in it already, and no function could look ahead.

    Args:
        view: The view.
        result: What `aggregate_tiles` returns.
    """
    columns = Schema.of(result.select(part.name for part in view.aggregations))
    timelines = Timelines(result, by=view.keys, time=view.time)
    return ViewHistory(result, timelines, Schema.of(result.select(view.keys)), columns)


def check_looks_ahead(view: FeatureView, rows: pl.LazyFrame) -> None:
    """Run the function on the earlier half of rows as well: what it says about that time must be the same.

    Raises:
        LooksAheadError: It is not.
    """
    middle = rows.select(pl.col(view.time).quantile(0.5, "lower")).collect().item()
    if middle is None:
        return
    result, earlier = _run(view, rows), _run(view, rows.filter(pl.col(view.time) <= middle))
    _check_keys(view, rows, result)
    features = _features(view, result)
    if set(_features(view, earlier)) != set(features):
        return  # columns that depend on the data, such as those of a pivot
    at = [*view.keys, view.time]
    result = result.filter(pl.col(view.time) <= middle)
    there = earlier.lazy().select(at).cast(result.select(at).schema)
    added = result.lazy().select(at).drop_nulls().join(there, on=at, how="anti").head(1).collect()
    if added.height:
        raise LooksAheadError(view.name, None, added.item(0, view.time))
    found = differing(earlier, result, at=at, features=features).filter(pl.col(PRESENT)).head(1).collect()
    if found.height:
        row = found.row(0, named=True)
        raise LooksAheadError(view.name, next(name for name in features if row[name]), row[view.time])


def _check_keys(view: FeatureView, rows: pl.LazyFrame, result: pl.DataFrame) -> None:
    known = rows.select(pl.col(name).cast(result.schema[name]) for name in view.keys)
    strange = result.lazy().select(view.keys).drop_nulls().join(known, on=list(view.keys), how="anti").head(1).collect()
    if strange.height:
        raise FeatureFunctionError(
            view.name,
            f"changed the rows' identity: it returned {strange.row(0, named=True)}, which no row of "
            f"{view.table.label} has",
            hint="Keep the key columns as they are; what is computed from them needs another name.",
        )


def call(name: str, function: Callable[[pl.LazyFrame], pl.LazyFrame], rows: pl.LazyFrame) -> pl.DataFrame:
    """Call a user's function and collect what it returns.

    Raises:
        FeatureFunctionError: It raises, or returns something else than a LazyFrame.
    """
    try:
        result = function(rows)
        if isinstance(result, pl.LazyFrame):
            return result.collect()
    except Exception as error:
        raise FeatureFunctionError(
            name,
            # Polars tells its whole plan below the first line.
            f"failed: {type(error).__name__}: {str(error).partition(chr(10))[0]}",
            hint="Correct the function and run it again.",
        ) from error
    if isinstance(result, pl.DataFrame):
        return result
    raise FeatureFunctionError(
        name,
        f"returned {'nothing' if result is None else type(result).__name__} instead of a LazyFrame",
        hint="End it with: return rows.…",
    )


def _run(view: FeatureView, rows: pl.LazyFrame) -> pl.DataFrame:
    result = call(view.name, view.function, rows)
    has_known = view.table.known is not None and view.table.known in result.columns
    for name, what in (*((key, "key") for key in view.keys), (view.time, "time")):
        if name not in result.columns:
            raise FeatureFunctionError(
                view.name,
                f"returned no column {name!r}, the {what} of {view.table.label}; "
                f"it returned {', '.join(result.columns) or 'no column at all'}",
                hint=f"Keep {name!r} among the selected columns, or group by it.",
            )
    if not _features(view, result):
        raise FeatureFunctionError(
            view.name, "returned no feature: only keys and times", hint="Add a column for each feature."
        )
    return result.with_columns(
        _instant(result, name) for name in (view.time, *([view.table.known] if has_known else [])) if name
    )


def _instant(result: pl.DataFrame, name: str) -> pl.Expr:
    dtype = result.schema[name]
    if dtype == pl.Date:
        return pl.col(name).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
        return pl.col(name).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return pl.col(name).cast(_TIME)


def _features(view: FeatureView, result: pl.DataFrame) -> list[str]:
    others = {*view.keys, view.time, view.table.known}
    return [name for name in result.columns if name not in others]
