"""Rules that only a whole table decides, as values."""

from datetime import timedelta
from typing import Literal

import msgspec

from flyball.core.durations import format_duration
from flyball.domain.data.row_rules import ColumnRule, Severity
from flyball.domain.data.wording import format_value

Statistic = Literal["mean", "median", "quantile", "std", "min", "max", "sum", "distinct"]


class Unique(ColumnRule, frozen=True, kw_only=True, tag="unique"):
    """No value occurs twice; only decidable over a table."""

    @property
    def demand(self) -> str:
        """See `NotNull.demand`."""
        return "must be unique"


class UniqueTogether(ColumnRule, frozen=True, kw_only=True, tag="unique_together"):
    """No combination of values occurs twice; a null is a value here."""

    columns: tuple[str, ...]

    @property
    def demand(self) -> str:
        """See `NotNull.demand`."""
        return "must be unique together"


class NullShare(ColumnRule, frozen=True, kw_only=True, tag="nulls_at_most"):
    """At most a share of the values is missing."""

    share: float

    @property
    def demand(self) -> str:
        """See `NotNull.demand`."""
        return f"must be null in at most {format_share(self.share)} of the rows"


class References(ColumnRule, frozen=True, kw_only=True, tag="references"):
    """Every value occurs in a column of another table, a null aside."""

    table: str
    key: str

    @property
    def demand(self) -> str:
        """See `NotNull.demand`."""
        return f"must occur in {self.table}.{self.key}"


class Fresh(ColumnRule, frozen=True, kw_only=True, tag="fresh"):
    """The newest instant is not older than a while."""

    within: timedelta

    @property
    def demand(self) -> str:
        """See `NotNull.demand`."""
        return f"must have a value of the last {format_duration(self.within)}"


class Monotonic(ColumnRule, frozen=True, kw_only=True, tag="monotonic"):
    """Values never go down (or up) from row to row, nulls aside; within each group if one is named."""

    direction: Literal["increasing", "decreasing"]
    is_strict: bool = False
    by: tuple[str, ...] = ()

    @property
    def demand(self) -> str:
        """See `NotNull.demand`."""
        within = f" within each {', '.join(self.by)}" if self.by else ""
        return f"must be {'strictly ' if self.is_strict else ''}{self.direction} from row to row{within}"


class Aggregate(ColumnRule, frozen=True, kw_only=True, tag="aggregate"):
    """A statistic of the values lies between two limits; nulls and NaN do not count."""

    statistic: Statistic
    low: float | None = None
    high: float | None = None
    quantile: float | None = None

    @property
    def what(self) -> str:
        """The statistic in words."""
        names = {"std": "standard deviation", "min": "least value", "max": "greatest value"}
        if self.statistic == "distinct":
            return "number of distinct values"
        return f"{self.quantile:g} quantile" if self.quantile is not None else names.get(self.statistic, self.statistic)

    @property
    def demand(self) -> str:
        """See `NotNull.demand`."""
        low, high = (None if limit is None else format_value(limit) for limit in (self.low, self.high))
        if high is None:
            return f"must have a {self.what} of at least {low}"
        return f"must have a {self.what} " + (f"of at most {high}" if low is None else f"between {low} and {high}")


class Mix(ColumnRule, frozen=True, kw_only=True, tag="mix"):
    """The shares of the categories are about those of a reference.

    Attributes:
        within: The greatest total variation distance: half the sum of the differences of all shares. Of a small
            sample more is let pass, as much as chance explains.
        shares: The reference's shares, by category.
        snapshot: The snapshot whose shares are the reference, where they are not given.
    """

    within: float
    shares: dict[str, float] = {}
    snapshot: str = ""

    @property
    def demand(self) -> str:
        """See `NotNull.demand`."""
        return f"must be mixed like its reference, {format_share(self.within)} aside"


class Language(ColumnRule, frozen=True, kw_only=True, tag="language"):
    """The most frequent words of the texts are those of a language."""

    language: str

    @property
    def demand(self) -> str:
        """See `NotNull.demand`."""
        return f"must be written in the language {self.language!r}"


class RowsAtLeast(msgspec.Struct, frozen=True, kw_only=True, tag_field="rule", tag="rows_at_least"):
    """The table has at least so many rows."""

    rows: int
    severity: Severity = "fail"
    column: str = ""

    @property
    def demand(self) -> str:
        """See `NotNull.demand`."""
        return f"must have at least {self.rows:,} rows"


class RowsAtMost(msgspec.Struct, frozen=True, kw_only=True, tag_field="rule", tag="rows_at_most"):
    """The table has at most so many rows."""

    rows: int
    severity: Severity = "fail"
    column: str = ""

    @property
    def demand(self) -> str:
        """See `NotNull.demand`."""
        return f"must have at most {self.rows:,} rows"


def format_share(share: float) -> str:
    """Write a share in percent."""
    return f"{share * 100:.3g}%"
