"""Expectations as values: what each rule demands, in words and in JSON. How they are executed lies elsewhere.

``table_checks.py`` runs rules over a table, ``row_checks.py`` over one live request. Both take their words from here.
"""

from collections.abc import Sequence
from typing import Any

from flyball.core.encoding import from_json, to_json
from flyball.domain.data.row_rules import (
    AtLeast,
    AtMost,
    Between,
    Compare,
    Expression,
    IsIn,
    Matches,
    NotNull,
    OfType,
)
from flyball.domain.data.table_rules import (
    Aggregate,
    Fresh,
    Language,
    Mix,
    Monotonic,
    NullShare,
    References,
    RowsAtLeast,
    RowsAtMost,
    Unique,
    UniqueTogether,
)
from flyball.domain.data.wording import format_value

ValueRule = NotNull | Between | AtLeast | AtMost | IsIn | Matches | OfType
RowRule = ValueRule | Compare | Expression
Measured = NullShare | Fresh | Aggregate | Mix | Language | RowsAtLeast | RowsAtMost
TableRule = Unique | UniqueTogether | References | Monotonic | Measured
Rule = RowRule | TableRule
VALUE_RULES = (NotNull, Between, AtLeast, AtMost, IsIn, Matches, OfType)
MEASURED = (NullShare, Fresh, Aggregate, Mix, Language, RowsAtLeast, RowsAtMost)


def rule_name(rule: Rule) -> str:
    """Return a rule's short name, such as ``between``."""
    return str(rule.__struct_config__.tag)


def is_of_rows(rule: Rule) -> bool:
    """Tell whether a single row decides a rule, so that live requests are judged by it, too."""
    return isinstance(rule, (*VALUE_RULES, Compare)) or (isinstance(rule, Expression) and rule.is_of_rows)


def is_measured(rule: Rule) -> bool:
    """Tell whether a rule says one thing about a table instead of something about each row."""
    return isinstance(rule, MEASURED) or (isinstance(rule, Expression) and not rule.is_of_rows)


def columns_of(rule: Rule) -> tuple[str, ...]:
    """Return the columns that a rule reads."""
    match rule:
        case Expression(columns=columns) | UniqueTogether(columns=columns):
            return columns
        case Compare(column=column, other=other):
            return (column, other)
        case Monotonic(column=column, by=by):
            return (column, *by)
    return (rule.column,) if rule.column else ()


def describe_violation(rule: Rule, value: Any, other: Any = None) -> str:
    """Say what is wrong, in the same words over a table and over a request.

    Args:
        rule: The broken rule.
        value: What was given; for rules about a table, what was measured.
        other: The value of the other column that a rule compares with.
    """
    match rule:
        case RowsAtLeast() | RowsAtMost():
            return f"the table {rule.demand}, but has {value:,}"
        case Unique():
            return f"{rule.column} {rule.demand}, but {format_value(value)} was given more than once"
        case UniqueTogether():
            return f"{rule.column} {rule.demand}, but {value} was given more than once"
        case Expression():
            return f"{rule.column} {rule.demand}, but it does not" + ("" if value is None else f": {value}")
        case Compare():
            return (
                f"{rule.column} {rule.demand}, but {format_value(value)} was given and {rule.other} is "
                f"{format_value(other)}"
            )
        case NullShare() | Fresh() | Aggregate() | Mix() | Language():
            return f"{rule.column} {rule.demand}, but {value}"
    return f"{rule.column} {rule.demand}, but {format_value(value)} was given"


def decode_rules(data: bytes | str) -> list[Rule]:
    """Read rules from the JSON that `encode_rules` writes.

    Raises:
        InvalidInputError: It is not such JSON.
    """
    return from_json(data, list[Rule], what="expectations")


def encode_rules(rules: Sequence[Rule]) -> bytes:
    """Write rules as a JSON array, each with its name in ``rule``."""
    return to_json(list(rules))
