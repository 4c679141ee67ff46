"""How a project says what must hold of its data: ``fb.column("income").not_null().between(0, 1e7)``."""

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from flyball.core.durations import parse_instant
from flyball.core.errors import InvalidInputError
from flyball.domain.data.rules import (
    AtLeast,
    AtMost,
    Between,
    IsIn,
    Limit,
    Matches,
    NotNull,
    OfType,
    RowsAtLeast,
    RowsAtMost,
    Rule,
    Severity,
    Unique,
    format_value,
)
from flyball.domain.data.schemas import DTYPES, DType


class ColumnRules:
    """Rules about one column, added one after the other; each call returns a longer chain.

    The severity said with `or_quarantine` or `or_warn` applies to the whole chain; without it a violation fails.
    """

    def __init__(self, column: str, rules: tuple[Rule, ...] = (), severity: Severity = "fail") -> None:
        self.column = column
        self.severity = severity
        self._rules = rules

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules, each with the chain's severity."""
        return tuple(_with_severity(rule, self.severity) for rule in self._rules)

    def not_null(self) -> "ColumnRules":
        """Demand a value in every row."""
        return self._and(NotNull(column=self.column))

    def between(self, low: Limit | str, high: Limit | str) -> "ColumnRules":
        """Demand values between two limits, both included; nulls are `not_null`'s business, NaN violates.

        Raises:
            InvalidInputError: A limit is neither a number nor an instant, or the lower one is higher.
        """
        lower, upper = _limit(low, self.column), _limit(high, self.column)
        if isinstance(lower, datetime) != isinstance(upper, datetime):
            raise InvalidInputError(f"the limits of {self.column!r} are a number and an instant")
        if lower > upper:  # type: ignore[operator]
            raise InvalidInputError(
                f"{self.column!r} can not be between {format_value(lower)} and {format_value(upper)}",
                hint="Write the lower limit first.",
            )
        return self._and(Between(column=self.column, low=lower, high=upper))

    def at_least(self, limit: Limit | str) -> "ColumnRules":
        """Demand values that are not below a limit.

        Raises:
            InvalidInputError: The limit is neither a number nor an instant.
        """
        return self._and(AtLeast(column=self.column, limit=_limit(limit, self.column)))

    def at_most(self, limit: Limit | str) -> "ColumnRules":
        """Demand values that are not above a limit.

        Raises:
            InvalidInputError: The limit is neither a number nor an instant.
        """
        return self._and(AtMost(column=self.column, limit=_limit(limit, self.column)))

    def is_in(self, values: Sequence[str | bool | int | float]) -> "ColumnRules":
        """Demand values of a list.

        Raises:
            InvalidInputError: The list is empty, or holds something else than text, numbers and bools.
        """
        allowed = tuple(values) if not isinstance(values, str) else ()
        if not allowed:
            raise InvalidInputError(f"is_in of {self.column!r} needs a list of at least one value")
        for value in allowed:
            if not isinstance(value, str) and not _is_finite(value):
                raise InvalidInputError(
                    f"is_in of {self.column!r} holds {value!r}; only text, finite numbers, True and False can be listed"
                )
        return self._and(IsIn(column=self.column, values=allowed))

    def matches(self, pattern: str) -> "ColumnRules":
        """Demand text that matches a regular expression as a whole.

        Raises:
            InvalidInputError: It is not a regular expression.
        """
        try:
            re.compile(pattern, re.ASCII)
        except (re.error, TypeError) as error:
            raise InvalidInputError(
                f"{pattern!r}, which {self.column!r} must match, is not a regular expression: {error}"
            ) from error
        return self._and(Matches(column=self.column, pattern=pattern))

    def unique(self) -> "ColumnRules":
        """Demand that no value occurs twice. Not checked in live requests, which are one row each."""
        return self._and(Unique(column=self.column))

    def of_type(self, dtype: DType) -> "ColumnRules":
        """Demand a type: int, float, string, bool, datetime or date.

        Raises:
            InvalidInputError: There is no such type.
        """
        if dtype not in DTYPES:
            raise InvalidInputError(
                f"{dtype!r}, the type of {self.column!r}, is none of {', '.join(DTYPES)}",
            )
        return self._and(OfType(column=self.column, dtype=dtype))

    def or_quarantine(self) -> "ColumnRules":
        """Leave violating rows out of training, and answer live ones as the endpoint says, instead of failing."""
        return ColumnRules(self.column, self._rules, "quarantine")

    def or_warn(self) -> "ColumnRules":
        """Only count violations."""
        return ColumnRules(self.column, self._rules, "warn")

    def _and(self, rule: Rule) -> "ColumnRules":
        return ColumnRules(self.column, (*self._rules, rule), self.severity)

    def __repr__(self) -> str:
        return f"column({self.column!r}): {', '.join(rule.demand for rule in self._rules) or 'no rule'}"


def column(name: str) -> ColumnRules:
    """Start a chain of rules about a column.

    Raises:
        InvalidInputError: The name is not text.
    """
    if not isinstance(name, str) or not name:
        raise InvalidInputError(f"{name!r} is not a column's name", hint='Write it as fb.column("income").')
    return ColumnRules(name)


def rows_at_least(rows: int) -> Rule:
    """Demand a least number of rows of a table.

    Raises:
        InvalidInputError: It is not a number of rows.
    """
    return RowsAtLeast(rows=_row_count(rows))


def rows_at_most(rows: int) -> Rule:
    """Demand a greatest number of rows of a table.

    Raises:
        InvalidInputError: It is not a number of rows.
    """
    return RowsAtMost(rows=_row_count(rows))


def flatten(expectations: Sequence[Rule | ColumnRules], *, of: str) -> tuple[Rule, ...]:
    """Return the single rules of a declaration, in order.

    Raises:
        InvalidInputError: One is not an expectation, or names a column without any rule.
    """
    rules: list[Rule] = []
    for expectation in expectations:
        if isinstance(expectation, ColumnRules):
            if not expectation.rules:
                raise InvalidInputError(
                    f"the expectation of {of} about {expectation.column!r} demands nothing",
                    hint=f'Add a rule, such as fb.column("{expectation.column}").not_null().',
                )
            rules.extend(expectation.rules)
        elif isinstance(expectation, Rule):
            rules.append(expectation)
        else:
            raise InvalidInputError(
                f"{expectation!r} is not an expectation of {of}",
                hint='Write it as fb.column("income").not_null().',
            )
    return tuple(rules)


def _with_severity(rule: Rule, severity: Severity) -> Rule:
    values = {name: getattr(rule, name) for name in rule.__struct_fields__}
    return type(rule)(**{**values, "severity": severity})


def _limit(value: Limit | str, column: str) -> Limit:
    if isinstance(value, str):
        return parse_instant(value, what=f"limit of {column!r}")
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, bool) or not _is_finite(value):
        raise InvalidInputError(
            f"{value!r}, a limit of {column!r}, is neither a finite number nor an instant",
            hint="Where there is only one limit, use at_least or at_most.",
        )
    return value


def _is_finite(value: object) -> bool:
    """Tell whether JSON can carry a number exactly."""
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, float) and math.isfinite(value)


def _row_count(rows: int) -> int:
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 0:
        raise InvalidInputError(f"{rows!r} is not a number of rows")
    return rows
