"""Aggregations over windows, declared once. Cheap to import: no dataframe library is loaded here."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, get_args

import msgspec

from flyball.core.durations import parse_duration
from flyball.core.errors import InvalidInputError, UnknownNameError
from flyball.domain.data.tables import Table
from flyball.domain.features.views import FeatureView

if TYPE_CHECKING:
    import polars as pl

Function = Literal["sum", "mean", "count", "min", "max", "std", "last", "count_distinct"]
FUNCTIONS: tuple[str, ...] = get_args(Function)
_MICROSECOND = timedelta(microseconds=1)


class Aggregation(msgspec.Struct, frozen=True, kw_only=True):
    """One feature of an aggregated view.

    Attributes:
        column: The table's column.
        function: What is made of its values in the window; nulls do not count.
        window: The window as it was written, such as ``7d``.
        window_us: Its length.
    """

    column: str
    function: str
    window: str
    window_us: int

    @property
    def name(self) -> str:
        """The feature's name."""
        return f"{self.column}_{self.function}_{self.window}"


class AggregatedView(FeatureView):
    """A feature view that is declared instead of written: aggregates of a table's rows over windows of time.

    Attributes:
        aggregations: The features.
        every_us: Windows end at multiples of this.
    """

    def __init__(
        self,
        name: str,
        table: Table,
        aggregations: tuple[Aggregation, ...],
        *,
        every: timedelta,
        ttl: timedelta | None,
    ) -> None:
        def aggregated(rows: "pl.LazyFrame") -> "pl.LazyFrame":
            from flyball.domain.features.tiles import aggregate_rows  # it loads Polars

            return aggregate_rows(self, rows)

        super().__init__(name, table, aggregated, ttl)
        self.aggregations = aggregations
        self.every_us = every // _MICROSECOND

    @property
    def declared(self) -> list[object]:
        """What the features depend on, beside the table."""
        return [self.every_us, [[part.column, part.function, part.window_us] for part in self.aggregations]]


def aggregate(
    table: Table,
    columns: Mapping[str, str | Sequence[str]],
    *,
    over: str | Sequence[str],
    name: str,
    every: str = "1h",
    ttl: str | timedelta | None = None,
) -> AggregatedView:
    """Declare features that aggregate an entity's rows over windows of time.

    At any time they hold for the windows that end at the last multiple of ``every`` (counted in UTC), over the rows
    that were known at that time; they change when rows come in and also when rows leave a window. Where a window holds
    no value, sums and counts are 0 and the others null.

    Args:
        table: Has an entity and a time.
        columns: What to make of which column: ``{"amount": ["sum", "mean"], "shop": "count_distinct"}``. The functions
            are sum, mean, count, min, max, std, last and count_distinct; nulls do not count.
        over: The windows, such as ``["7d", "30d"]``; multiples of ``every``.
        name: Unique in a project. Features are called ``amount_sum_7d``.
        every: How fine time is cut: rows of one such span go in and out together.
        ttl: For how long after the last change the features count; by default for ever.

    Raises:
        InvalidInputError: The table has no entity or no time, or a window is no multiple of ``every``.
        UnknownNameError: There is no such function.
    """
    step = parse_duration(every, what=f"every of {name!r}")
    windows = {
        window: parse_duration(window, what=f"over of {name!r}")
        for window in ([over] if isinstance(over, str) else over)
    }
    for window, length in windows.items():
        if length % step:
            raise InvalidInputError(
                f"the window {window!r} of {name!r} is no multiple of every={every!r}",
                hint="Choose a shorter every=, or another window.",
            )
    parts = [
        Aggregation(column=column, function=_known(function), window=window, window_us=length // _MICROSECOND)
        for column, functions in columns.items()
        for function in ([functions] if isinstance(functions, str) else functions)
        for window, length in windows.items()
    ]
    if not parts:
        raise InvalidInputError(f"{name!r} aggregates nothing", hint='Write {"amount": ["sum"]}, over=["7d"].')
    period = None if ttl is None else parse_duration(ttl, what=f"ttl of {name!r}")
    return AggregatedView(name, table, tuple(parts), every=step, ttl=period)


def _known(function: str) -> str:
    if function not in FUNCTIONS:
        raise UnknownNameError("function of fb.aggregate", function, FUNCTIONS)
    return function
