"""How a project says what must hold of its data: ``fb.column("income").not_null().between(0, 1e7)``."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from flyball.core.durations import parse_instant
from flyball.core.errors import InvalidInputError
from flyball.domain.data.chains import StatisticRules, is_finite, require_rows_to_quarantine
from flyball.domain.data.polars_expressions import write_expression
from flyball.domain.data.row_rules import (
    AtLeast,
    AtMost,
    Between,
    Compare,
    Comparison,
    Expression,
    IsIn,
    Limit,
    Matches,
    NotNull,
    OfType,
    Severity,
)
from flyball.domain.data.rules import Rule
from flyball.domain.data.schemas import DTYPES, DType
from flyball.domain.data.table_rules import RowsAtLeast, RowsAtMost, Unique, UniqueTogether
from flyball.domain.data.wording import format_value

if TYPE_CHECKING:
    import polars as pl


class KeyColumn(Protocol):
    """A column of another table, as in ``customers["customer_id"]``."""

    @property
    def table(self) -> Any:
        """The declared table, whose ``required_name`` is known once the project is gathered."""
        ...

    @property
    def column(self) -> str:
        """Its name."""
        ...


class ColumnRules(StatisticRules):
    """Rules about one column, added one after the other; each call returns a longer chain.

    The severity said with `or_quarantine` or `or_warn` applies to the whole chain; without it a violation fails.
    """

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

    def at_least(self, limit: "Limit | str | ColumnRules") -> "ColumnRules":
        """Demand values that are not below a limit, or not below another column: ``at_least(fb.column("ordered"))``.

        Raises:
            InvalidInputError: The limit is neither a number, nor an instant, nor a column.
        """
        if isinstance(limit, ColumnRules):
            return self._compare("at least", limit)
        return self._and(AtLeast(column=self.column, limit=_limit(limit, self.column)))

    def at_most(self, limit: "Limit | str | ColumnRules") -> "ColumnRules":
        """Demand values that are not above a limit or another column.

        Raises:
            InvalidInputError: The limit is neither a number, nor an instant, nor a column.
        """
        if isinstance(limit, ColumnRules):
            return self._compare("at most", limit)
        return self._and(AtMost(column=self.column, limit=_limit(limit, self.column)))

    def above(self, other: "ColumnRules") -> "ColumnRules":
        """Demand values above those of another column in the same row; a null in either passes."""
        return self._compare("above", other)

    def below(self, other: "ColumnRules") -> "ColumnRules":
        """Demand values below those of another column in the same row; a null in either passes."""
        return self._compare("below", other)

    def equals(self, other: "ColumnRules") -> "ColumnRules":
        """Demand the values of another column; a null in either passes."""
        return self._compare("equal to", other)

    def is_in(self, values: Sequence[str | bool | int | float]) -> "ColumnRules":
        """Demand values of a list.

        Raises:
            InvalidInputError: The list is empty, or holds something else than text, numbers and bools.
        """
        allowed = tuple(values) if not isinstance(values, str) else ()
        if not allowed:
            raise InvalidInputError(f"is_in of {self.column!r} needs a list of at least one value")
        for value in allowed:
            if not isinstance(value, str) and not is_finite(value):
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

    def references(self, key: KeyColumn) -> "ColumnRules":
        """Demand values that occur in a column of another table, as of the same moment: a foreign key.

        Args:
            key: Such as ``customers["customer_id"]``.

        Raises:
            InvalidInputError: It is not a column of a table.
        """
        if not hasattr(key, "table") or not hasattr(key, "column"):
            raise InvalidInputError(
                f"{key!r}, which {self.column!r} references, is not a column of a table",
                hint='Write it as fb.column("customer_id").references(customers["customer_id"]).',
            )
        return self._and(key)

    def _compare(self, comparison: Comparison, other: "ColumnRules") -> "ColumnRules":
        if not isinstance(other, ColumnRules) or other.is_told:
            raise InvalidInputError(
                f"{self.column!r} can be compared with a column, not with {other!r}",
                hint=f'Write it as fb.column("{self.column}").above(fb.column("other")).',
            )
        return self._and(Compare(column=self.column, comparison=comparison, other=other.column))


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


def unique_together(*columns: str) -> Rule:
    """Demand that no combination of values of some columns occurs twice; a null counts as a value.

    Raises:
        InvalidInputError: Fewer than two columns are named.
    """
    if len(columns) < 2 or not all(isinstance(name, str) and name for name in columns):
        raise InvalidInputError(
            "unique_together needs the names of at least two columns",
            hint='Write it as fb.unique_together("shop", "day"); for one column use fb.column("id").unique().',
        )
    return UniqueTogether(column=", ".join(columns), columns=columns)


def expression(
    what: str, polars: "pl.Expr", *, of: Literal["rows", "table"] = "rows", severity: Severity = "fail"
) -> Rule:
    """Demand that a Polars expression is true.

    Args:
        what: What to call it, such as ``"paid in full"``.
        polars: The expression, such as ``pl.col("paid") >= pl.col("due")``; where it is null, nothing is demanded.
        of: ``rows``: it says something about each row, and live requests are judged by it, too (which costs some
            tens of microseconds); ``table``: it says one thing about the table, such as ``pl.col("x").sum() == 0``.
        severity: ``fail``, ``quarantine`` or ``warn``.

    Raises:
        InvalidInputError: It is no Polars expression, or one that cannot be kept with a model.
    """
    body, columns = write_expression(polars, what)
    rule = Expression(column=what, severity=severity, body=body, columns=columns, is_of_rows=of == "rows")
    if of not in ("rows", "table"):
        raise InvalidInputError(f"of={of!r} of the expectation {what!r} is neither 'rows' nor 'table'")
    if severity not in ("fail", "quarantine", "warn"):
        raise InvalidInputError(f"severity={severity!r} of the expectation {what!r} is none of fail, quarantine, warn")
    if severity == "quarantine":
        require_rows_to_quarantine([rule])
    return rule


def require_expectations(expectations: Sequence[Rule | ColumnRules], *, of: str) -> None:
    """Check a declaration.

    Raises:
        InvalidInputError: One is not an expectation, or names a column without any rule.
    """
    for expectation in expectations:
        if isinstance(expectation, ColumnRules):
            if not expectation.is_told:
                raise InvalidInputError(
                    f"the expectation of {of} about {expectation.column!r} demands nothing",
                    hint=f'Add a rule, such as fb.column("{expectation.column}").not_null().',
                )
        elif not isinstance(expectation, Rule):
            raise InvalidInputError(
                f"{expectation!r} is not an expectation of {of}",
                hint='Write it as fb.column("income").not_null().',
            )


def flatten(expectations: Sequence[Rule | ColumnRules], *, of: str) -> tuple[Rule, ...]:
    """Return the single rules of a declaration, in order.

    Raises:
        InvalidInputError: One is not an expectation, or names a column without any rule.
    """
    require_expectations(expectations, of=of)
    rules: list[Rule] = []
    for expectation in expectations:
        rules.extend(expectation.rules if isinstance(expectation, ColumnRules) else [expectation])
    return tuple(rules)


def _limit(value: Limit | str, column: str) -> Limit:
    if isinstance(value, str):
        return parse_instant(value, what=f"limit of {column!r}")
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, bool) or not is_finite(value):
        raise InvalidInputError(
            f"{value!r}, a limit of {column!r}, is neither a finite number nor an instant",
            hint="Where there is only one limit, use at_least or at_most.",
        )
    return value


def _row_count(rows: int) -> int:
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 0:
        raise InvalidInputError(f"{rows!r} is not a number of rows")
    return rows
