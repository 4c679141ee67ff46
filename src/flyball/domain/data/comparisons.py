"""Comparing two values of a row."""

import operator
from collections.abc import Callable
from datetime import date
from typing import Any

from flyball.core.errors import InvalidInputError
from flyball.domain.data.row_rules import Comparison
from flyball.domain.data.schemas import read_instant

OPERATORS: dict[Comparison, Callable[[Any, Any], Any]] = {
    "at least": operator.ge,
    "at most": operator.le,
    "above": operator.gt,
    "below": operator.lt,
    "equal to": operator.eq,
}


def compare_values(comparison: Comparison) -> Callable[[Any, Any], bool]:
    """Return the function that compares two values of a row.

    A null passes. Numbers compare exactly, instants (also as ISO 8601 text) in time, other texts by their letters;
    values of different kinds never compare.
    """
    holds = OPERATORS[comparison]

    def compare(one: Any, other: Any) -> bool:
        kind, others = type(one), type(other)
        if (kind is int or kind is float) and (others is int or others is float):
            return bool(holds(one, other))
        if one is None or other is None:
            return True
        if kind is bool or others is bool:
            return kind is others and bool(holds(one, other))
        if not isinstance(one, str | date) or not isinstance(other, str | date):
            return False
        instants = _instant(one), _instant(other)
        if None not in instants:
            return bool(holds(*instants))
        return kind is str and others is str and bool(holds(one, other))

    return compare


def _instant(value: Any) -> Any:
    try:
        return read_instant(value, "datetime", "")
    except InvalidInputError:
        return None
