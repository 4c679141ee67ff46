"""Expectations over one live request: plain Python closures, compiled once per endpoint."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from flyball.core.errors import InvalidInputError
from flyball.domain.data.comparisons import compare_values
from flyball.domain.data.polars_expressions import compile_expression, describe_row
from flyball.domain.data.reports import Violation
from flyball.domain.data.row_rules import (
    AtLeast,
    AtMost,
    Between,
    Compare,
    Expression,
    IsIn,
    Limit,
    Matches,
    NotNull,
    OfType,
)
from flyball.domain.data.rules import (
    VALUE_RULES,
    Rule,
    ValueRule,
    columns_of,
    describe_violation,
    is_of_rows,
    rule_name,
)
from flyball.domain.data.schemas import DType, Schema, read_instant
from flyball.domain.data.wording import plain_value

Test = Callable[[Any], bool]
RowTest = Callable[[Mapping[str, Any]], bool]
RowCheck = Callable[[Mapping[str, Any]], list[Violation]]


def compile_row(
    rules: Sequence[Rule], fields: Iterable[str] | None = None, *, schema: Schema | None = None
) -> RowCheck:
    """Make the check of one row.

    Args:
        rules: Expectations. Those that only a table can decide (unique, numbers of rows) are left out.
        fields: The fields that a request carries; rules about other columns, such as the label, are left out.
        schema: The types of the fields, for Polars expressions; told by each row's values without it.

    Returns:
        A function from a row to its violations, in declared order; an absent field is null. Safe in several threads.
    """
    carried = None if fields is None else set(fields)
    judged = [rule for rule in rules if is_of_rows(rule) and (carried is None or carried.issuperset(columns_of(rule)))]
    tests: list[tuple[str, Test, Rule]] = [
        (rule.column, compile_rule(rule), rule) for rule in judged if isinstance(rule, VALUE_RULES)
    ]
    wide = [_compile_wide(rule, schema) for rule in judged if isinstance(rule, Compare | Expression)]
    place = {id(rule): number for number, rule in enumerate(judged)}

    def check(row: Mapping[str, Any]) -> list[Violation]:
        get = row.get
        return [make_violation(rule, get(column)) for column, holds, rule in tests if not holds(get(column))]

    def check_all(row: Mapping[str, Any]) -> list[Violation]:
        get = row.get
        found = [(rule, make_violation(rule, get(column))) for column, holds, rule in tests if not holds(get(column))]
        found.extend((rule, describe(row)) for rule, holds, describe in wide if not holds(row))
        return [violation for _, violation in sorted(found, key=lambda pair: place[id(pair[0])])]

    return check_all if wide else check


def _compile_wide(
    rule: Compare | Expression, schema: Schema | None
) -> tuple[Rule, RowTest, Callable[[Mapping[str, Any]], Violation]]:
    """Return a rule about several columns, its test of a row, and what says how a row breaks it."""
    if isinstance(rule, Compare):
        column, other, compare = rule.column, rule.other, compare_values(rule.comparison)
        return (
            rule,
            lambda row: compare(row.get(column), row.get(other)),
            lambda row: make_violation(rule, row.get(column), row.get(other)),
        )
    return (
        rule,
        compile_expression(rule, schema),
        lambda row: make_violation(rule, describe_row({name: row.get(name) for name in rule.columns})),
    )


def make_violation(rule: Rule, value: Any, other: Any = None) -> Violation:
    """Return what breaking a rule with a value, and that of another column, amounts to."""
    return Violation(
        column=rule.column,
        rule=rule_name(rule),
        severity=rule.severity,
        message=describe_violation(rule, value, other),
        value=plain_value(value),
    )


def compile_rule(rule: ValueRule) -> Test:
    """Return the function that tells whether a value keeps a rule."""
    match rule:
        case NotNull():
            return _is_given
        case Between(low=low, high=high):
            return _bounded(low, high)
        case AtLeast(limit=limit):
            return _bounded(limit, None)
        case AtMost(limit=limit):
            return _bounded(None, limit)
        case IsIn(values=values):
            return _listed(values)
        case Matches(pattern=pattern):
            return _matching(pattern)
        case OfType(dtype=dtype):
            return _typed(dtype)


def _is_given(value: Any) -> bool:
    return value is not None


def _bounded(low: Limit | None, high: Limit | None) -> Test:
    if isinstance(low, datetime) or isinstance(high, datetime):
        return is_within(low, high)
    least = -math.inf if low is None else low
    most = math.inf if high is None else high

    def holds(value: Any) -> bool:
        # A type() look-up first: it is the usual case and the quickest test, and it tells bool from int.
        kind = type(value)
        if kind is float or kind is int:
            return bool(least <= value <= most)
        return value is None

    return holds


def is_within(low: Any, high: Any) -> Test:
    """Return the function that tells whether a value is null, or an instant between two others or one of them."""
    least: datetime = low or datetime.min.replace(tzinfo=UTC)
    most: datetime = high or datetime.max.replace(tzinfo=UTC)

    def holds(value: Any) -> bool:
        try:
            instant = read_instant(value, "datetime", "")
        except InvalidInputError:
            return False
        return instant is None or (isinstance(instant, datetime) and least <= instant <= most)

    return holds


def _listed(values: Sequence[Any]) -> Test:
    # In Python True equals 1; here a bool is only ever equal to a bool.
    texts = frozenset(value for value in values if isinstance(value, str))
    bools = frozenset(value for value in values if isinstance(value, bool))
    numbers = frozenset(value for value in values if isinstance(value, int | float) and not isinstance(value, bool))
    listed: dict[type, frozenset[Any]] = {str: texts, bool: bools, int: numbers, float: numbers}

    def holds(value: Any) -> bool:
        found = listed.get(type(value))
        return value is None if found is None else value in found

    return holds


def _matching(pattern: str) -> Test:
    match = re.compile(pattern, re.ASCII).fullmatch

    def holds(value: Any) -> bool:
        if type(value) is str:
            return match(value) is not None
        return value is None

    return holds


def _typed(dtype: DType) -> Test:
    if dtype in ("datetime", "date"):
        return lambda value: is_instant(value, dtype)
    kinds: dict[str, tuple[type, ...]] = {
        "int": (int,),
        "float": (float, int),
        "string": (str,),
        "bool": (bool,),
    }
    allowed = (*kinds[dtype], type(None))
    return lambda value: type(value) in allowed


def is_instant(value: Any, dtype: DType) -> bool:
    """Tell whether a value is null, or an instant (a date), or ISO 8601 text of one; a date has no time of day."""
    if dtype == "date" and isinstance(value, datetime):
        return False
    try:
        instant = read_instant(value, "datetime", "")
    except InvalidInputError:
        return False
    if dtype == "datetime" or isinstance(value, date) or instant is None:
        return True
    return bool(re.fullmatch(r"\d{4}-?\d{2}-?\d{2}", value, re.ASCII))
