"""Rules that a single row decides, as values.

What counts as a violation, over a table and over a live row alike:

* A null violates `NotNull` and nothing else.
* NaN is a value: it violates every range, every list and every comparison.
* A value of another kind than the rule speaks of (text where a number is bounded) violates the rule.
"""

from datetime import datetime
from typing import Literal

import msgspec

from flyball.domain.data.schemas import DType, article
from flyball.domain.data.wording import format_value

Severity = Literal["fail", "quarantine", "warn"]
Limit = int | float | datetime
Comparison = Literal["at least", "at most", "above", "below", "equal to"]


class ColumnRule(msgspec.Struct, frozen=True, kw_only=True, tag_field="rule"):
    """What every rule about one column has.

    Attributes:
        column: The column's name.
        severity: ``fail`` stops a pipeline and refuses a request, ``quarantine`` leaves the row out, ``warn`` counts.
    """

    column: str
    severity: Severity = "fail"


class NotNull(ColumnRule, frozen=True, kw_only=True, tag="not_null"):
    """Every row has a value."""

    @property
    def demand(self) -> str:
        """The rule in words, after the column's name."""
        return "must not be null"


class Between(ColumnRule, frozen=True, kw_only=True, tag="between"):
    """Values lie between two limits, both included."""

    low: Limit
    high: Limit

    @property
    def demand(self) -> str:
        """See `NotNull.demand`."""
        return f"must be between {format_value(self.low)} and {format_value(self.high)}"


class AtLeast(ColumnRule, frozen=True, kw_only=True, tag="at_least"):
    """Values are not below a limit."""

    limit: Limit

    @property
    def demand(self) -> str:
        """See `NotNull.demand`."""
        return f"must be at least {format_value(self.limit)}"


class AtMost(ColumnRule, frozen=True, kw_only=True, tag="at_most"):
    """Values are not above a limit."""

    limit: Limit

    @property
    def demand(self) -> str:
        """See `NotNull.demand`."""
        return f"must be at most {format_value(self.limit)}"


class IsIn(ColumnRule, frozen=True, kw_only=True, tag="is_in"):
    """Values are among a list; numbers compare by value, and a bool is no number."""

    values: tuple[str | bool | int | float, ...]

    @property
    def demand(self) -> str:
        """See `NotNull.demand`."""
        return f"must be one of {', '.join(format_value(value) for value in self.values)}"


class Matches(ColumnRule, frozen=True, kw_only=True, tag="matches"):
    """The whole of each text matches a regular expression (Python's syntax, ASCII classes)."""

    pattern: str

    @property
    def demand(self) -> str:
        """See `NotNull.demand`."""
        return f"must match {self.pattern}"


class OfType(ColumnRule, frozen=True, kw_only=True, tag="of_type"):
    """Values have a type; an int is also a float, a bool is no int, and a date may be ISO 8601 text."""

    dtype: DType

    @property
    def demand(self) -> str:
        """See `NotNull.demand`."""
        return f"must be {article(self.dtype)}"


class Compare(ColumnRule, frozen=True, kw_only=True, tag="compare"):
    """Values compare with those of another column in the same row; a null in either passes."""

    comparison: Comparison
    other: str

    @property
    def demand(self) -> str:
        """See `NotNull.demand`."""
        return f"must be {self.comparison} {self.other}"


class Expression(ColumnRule, frozen=True, kw_only=True, tag="expression"):
    """A Polars expression is true; where it is null, nothing is said.

    Attributes:
        column: What to call the rule.
        body: The expression, as Polars writes it, base 64.
        columns: The columns that it reads.
        is_of_rows: Whether each row decides it; otherwise it says one thing about the table.
    """

    body: str
    columns: tuple[str, ...]
    is_of_rows: bool = True

    @property
    def demand(self) -> str:
        """See `NotNull.demand`."""
        return "must hold"
