"""Whether a live request has the fields that a model asks for, each of its type."""

import math
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from typing import Any

from flyball.domain.data.reports import Violation
from flyball.domain.data.row_checks import is_instant
from flyball.domain.data.schemas import DType, Field, Schema, article
from flyball.domain.data.wording import format_value, plain_value

_Problem = tuple[str, str]
_GREATEST_INT = 2**63


class RequestSchema:
    """Checks requests against a schema, all problems at once. Compiled once; safe in several threads.

    A field may be null if its column held nulls in training. An int is taken for a float; a bool is no number; a date
    or an instant is ISO 8601 text.

    Args:
        schema: The fields that a request carries.
        optional: Fields that may be absent, such as the time of the event.
        ignored: Fields that may be present though the schema does not name them.
    """

    def __init__(self, schema: Schema, *, optional: Collection[str] = (), ignored: Collection[str] = ()) -> None:
        self.schema = schema
        self._tests = [(field.name, field, _test_of(field), field.name in set(optional)) for field in schema.fields]
        self._known = {field.name for field in schema.fields} | set(ignored)

    def check(self, request: Mapping[str, Any], *, path: str = "") -> list[Violation]:
        """Return what is wrong with a request: missing, unknown, wrong-typed, null, NaN and infinite fields.

        Args:
            request: Field names and JSON values.
            path: Where the request stands in a batch, such as ``rows[3]``; begins every field's path.
        """
        problems: list[Violation] = []
        prefix = f"{path}." if path else ""
        present = 0
        for name, field, test, is_optional in self._tests:
            if name in request:
                present += 1
                value = request[name]
                problem = test(value)
                if problem is not None and not (value is None and is_optional):
                    problems.append(_violation(prefix + name, problem, value))
            elif not is_optional:
                wanted = f"{prefix}{name} must be given as {article(field.dtype)}, but it is missing"
                problems.append(Violation(column=prefix + name, rule="missing", severity="fail", message=wanted))
        if present < len(request):
            problems.extend(self._unknown(name, prefix) for name in request if name not in self._known)
        return problems

    def _unknown(self, name: str, prefix: str) -> Violation:
        close = get_close_matches(str(name), self.schema.names, n=1)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        message = f"{prefix}{name} was given, but no field is named so{meant}"
        return Violation(column=f"{prefix}{name}", rule="unknown", severity="fail", message=message)


def _violation(path: str, problem: _Problem, value: Any) -> Violation:
    rule, demand = problem
    # Where an int is wanted, 4.0 is not 4.
    shown = repr(value) if rule == "type" and type(value) is float and math.isfinite(value) else format_value(value)
    message = f"{path} {demand}, but {shown} was given"
    return Violation(column=path, rule=rule, severity="fail", message=message, value=plain_value(value))


def _test_of(field: Field) -> Callable[[Any], _Problem | None]:
    wrong_type = ("type", f"must be {article(field.dtype)}")
    null = None if field.nullable else ("null", "must not be null")
    kinds: dict[DType, type] = {"int": int, "float": float, "string": str, "bool": bool}
    kind = kinds.get(field.dtype)
    if field.dtype == "float":
        return _float_test(null, wrong_type)

    def test(value: Any) -> _Problem | None:
        if value is None:
            return null
        if kind is None:
            return None if is_instant(value, field.dtype) else wrong_type
        if type(value) is not kind:
            return wrong_type
        if isinstance(value, int) and not -_GREATEST_INT <= value < _GREATEST_INT:
            return ("type", "must be an int of 64 bits")
        return None

    return test


def _float_test(null: _Problem | None, wrong_type: _Problem) -> Callable[[Any], _Problem | None]:
    def test(value: Any) -> _Problem | None:
        if value is None:
            return null
        if type(value) is int:
            return None if -_GREATEST_INT <= value < _GREATEST_INT else ("infinite", "must be a finite number")
        if type(value) is not float:
            return wrong_type
        if math.isnan(value):
            return ("nan", "must be a number")
        return ("infinite", "must be a finite number") if math.isinf(value) else None

    return test
