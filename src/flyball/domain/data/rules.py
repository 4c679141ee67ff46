"""Expectations as values: what each rule demands, in words and in JSON. How they are executed lies elsewhere.

``table_checks.py`` runs rules over a table, ``row_checks.py`` over one live request. Both take their words from here.

What counts as a violation, in both executions:

* A null violates `NotNull` and nothing else.
* NaN is a value: it violates every range and every list.
* A value of another kind than the rule speaks of (text where a number is bounded) violates the rule.
"""

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, Literal

import msgspec

from flyball.core.durations import format_instant
from flyball.core.encoding import from_json, to_json
from flyball.domain.data.schemas import DType, article

Severity = Literal["fail", "quarantine", "warn"]
Limit = int | float | datetime
_LONGEST_VALUE = 60


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


class Unique(ColumnRule, frozen=True, kw_only=True, tag="unique"):
    """No value occurs twice; only decidable over a table."""

    @property
    def demand(self) -> str:
        """See `NotNull.demand`."""
        return "must be unique"


class OfType(ColumnRule, frozen=True, kw_only=True, tag="of_type"):
    """Values have a type; an int is also a float, a bool is no int, and a date may be ISO 8601 text."""

    dtype: DType

    @property
    def demand(self) -> str:
        """See `NotNull.demand`."""
        return f"must be {article(self.dtype)}"


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


RowRule = NotNull | Between | AtLeast | AtMost | IsIn | Matches | OfType
TableRule = Unique | RowsAtLeast | RowsAtMost
Rule = RowRule | TableRule
ROW_RULES = (NotNull, Between, AtLeast, AtMost, IsIn, Matches, OfType)


def rule_name(rule: Rule) -> str:
    """Return a rule's short name, such as ``between``."""
    return str(rule.__struct_config__.tag)


def describe_violation(rule: Rule, value: Any) -> str:
    """Say what is wrong, in the same words over a table and over a request."""
    if isinstance(rule, RowsAtLeast | RowsAtMost):
        return f"the table {rule.demand}, but has {value:,}"
    if isinstance(rule, Unique):
        return f"{rule.column} {rule.demand}, but {format_value(value)} was given more than once"
    return f"{rule.column} {rule.demand}, but {format_value(value)} was given"


def format_value(value: Any) -> str:
    """Write a value as people do: 33 for 33.0, text in quotes, instants in ISO 8601, at most 60 signs."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "infinity" if value > 0 else "-infinity"
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, datetime):
        return format_instant(value if value.tzinfo else value.replace(tzinfo=UTC))
    if isinstance(value, date):
        return value.isoformat()
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def plain_value(value: Any) -> Any:
    """Return a value as JSON can carry it: what JSON cannot, such as NaN or an instant, is written out."""
    if isinstance(value, float):
        return value if math.isfinite(value) else format_value(value)
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else format_value(value)
    return value if isinstance(value, str | None) else format_value(value)


def decode_rules(data: bytes | str) -> list[Rule]:
    """Read rules from the JSON that `encode_rules` writes.

    Raises:
        InvalidInputError: It is not such JSON.
    """
    return from_json(data, list[Rule], what="expectations")


def encode_rules(rules: Sequence[Rule]) -> bytes:
    """Write rules as a JSON array, each with its name in ``rule``."""
    return to_json(list(rules))
