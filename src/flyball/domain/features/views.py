"""Features as a user declares them. Cheap to import: no dataframe library is loaded here."""

import re
from collections.abc import Callable
from datetime import timedelta
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Literal

from flyball.core.durations import parse_duration
from flyball.core.errors import InvalidInputError
from flyball.domain.data.tables import Table

if TYPE_CHECKING:
    import polars as pl

    FeatureFunction = Callable[[pl.LazyFrame], pl.LazyFrame]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class FeatureView:
    """Features of an entity over time, computed from one table by one function.

    Attributes:
        name: Unique in a project.
        table: Where the rows come from; it has an entity and a time.
        function: Takes the table's rows and returns rows with the entity's keys, a time and the features.
        ttl: For how long a row counts after its time; None for ever.
        late: What happens where a row becomes known after newer ones; see `features`.
        written: The function as its author wrote it.
        parent: The view whose rows ``written`` takes; None where it takes those of the table.
    """

    def __init__(
        self,
        name: str,
        table: Table,
        function: "FeatureFunction",
        ttl: timedelta | None,
        *,
        late: Literal["exact", "wait"] = "exact",
        parent: "FeatureView | None" = None,
    ) -> None:
        _require_name("feature view", name)
        if table.entity is None or table.time is None:
            missing = "entity" if table.entity is None else "time"
            raise InvalidInputError(
                f"feature view {name!r} needs a table with an entity and a time, "
                f"but the {table.label} has no {missing}",
                hint=f"Declare it: fb.Table({str(table.source)!r}, entity=..., time=...).",
            )
        self.name = name
        self.table = table
        self.written = function
        self.parent = parent
        self.function = function if parent is None else _composed(parent, function)
        self.ttl = ttl
        self.late = late
        update_wrapper(self, function)

    @property
    def keys(self) -> tuple[str, ...]:
        """The entity's key columns."""
        assert self.table.entity is not None
        return tuple(self.table.entity.keys)

    @property
    def time(self) -> str:
        """The time column."""
        assert self.table.time is not None
        return self.table.time

    def __call__(self, *args: Any, **kwargs: Any) -> "pl.LazyFrame":
        """Call the function as it was written."""
        return self.written(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<feature view {self.name} of {self.table.label}>"


class RequestFeatures:
    """Features computed from the fields of a request alone, in training and live by the same function.

    Attributes:
        name: Unique in a project.
        table: The spine whose columns the function takes.
        function: Takes rows with the request's fields and returns the same rows with added columns.
    """

    def __init__(self, name: str, table: Table, function: "FeatureFunction") -> None:
        _require_name("request features", name)
        self.name = name
        self.table = table
        self.function = function
        update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> "pl.LazyFrame":
        """Call the function as it was written."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<request features {self.name} of {self.table.label}>"


def features(
    table: Table | FeatureView,
    *,
    ttl: str | timedelta | None = None,
    name: str | None = None,
    late: Literal["exact", "wait"] = "exact",
) -> Callable[["FeatureFunction"], FeatureView]:
    """Declare that a function computes features of an entity over time.

    The function takes a LazyFrame with the table's rows, oldest first, and returns a LazyFrame with the entity's key
    columns, the table's time column and one column per feature. A row's features may only use rows at or before its
    time.

    Args:
        table: Has an entity and a time. Or another view: then the function takes that view's rows, oldest first, and
            its features may be computed from the other's.
        ttl: For how long a row counts after its time, such as ``"180d"``; by default for ever.
        name: By default the function's.
        late: What happens where a table's ``known`` says that a row became known after newer rows of its entity.
            ``"exact"``: the features at any time are what the function makes of the rows that were known then.
            ``"wait"``: newer rows count only once the older one is known; much cheaper where most rows come so.

    Raises:
        InvalidInputError: The table has no entity or no time, ``ttl`` is not a duration, or ``late`` is neither.
    """
    parent = table if isinstance(table, FeatureView) else None
    source = table.table if isinstance(table, FeatureView) else table
    _require_table("features", source)
    if late not in ("exact", "wait"):
        raise InvalidInputError(f"late={late!r} of @fb.features is unknown", hint='Write late="exact" or late="wait".')

    def declare(function: "FeatureFunction") -> FeatureView:
        view_name = name or function.__name__
        period = None if ttl is None else parse_duration(ttl, what=f"ttl of feature view {view_name!r}")
        return FeatureView(view_name, source, function, period, late=late, parent=parent)

    return declare


def request_features(table: Table, *, name: str | None = None) -> Callable[["FeatureFunction"], RequestFeatures]:
    """Declare that a function adds features to the fields of a request.

    The function takes a LazyFrame with the columns of a request and returns the same rows, in the same order, with
    added columns. Each row counts for itself: a live request has no other rows beside it.

    Args:
        table: The table that training sets take as their spine; a live request carries its columns.
        name: By default the function's.

    Raises:
        InvalidInputError: No table is given.
    """
    _require_table("request_features", table)

    def declare(function: "FeatureFunction") -> RequestFeatures:
        return RequestFeatures(name or function.__name__, table, function)

    return declare


def _composed(parent: FeatureView, function: "FeatureFunction") -> "FeatureFunction":
    def composed(rows: "pl.LazyFrame") -> "pl.LazyFrame":
        return function(parent.function(rows).sort(parent.time, maintain_order=True))

    return composed


def _require_table(decorator: str, table: object) -> None:
    if not isinstance(table, Table):
        what = f"the function {table.__name__!r}" if callable(table) and hasattr(table, "__name__") else repr(table)
        raise InvalidInputError(
            f"@fb.{decorator} takes a table, but was given {what}",
            hint=f"Write @fb.{decorator}(payments) above the function, where payments = fb.Table(...).",
        )


def _require_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"{name!r} cannot name {what}", hint="Use letters, digits, _ and -, beginning with a letter."
        )
