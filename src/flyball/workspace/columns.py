"""Columns as a program of Python has them: lists, arrays, series, frames, or a dictionary a row."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from types import NoneType
from typing import Any

from flyball.core.errors import InvalidInputError

_PLAIN = {int, str, float, bool, NoneType, datetime, date}


def read_columns(given: Any, *, what: str) -> Mapping[str, Any]:
    """Return columns by name, each as it was given.

    Args:
        given: A mapping of columns, a frame of Polars or pandas, or a list with a mapping for each row.
        what: What they are, for errors.

    Raises:
        InvalidInputError: It is something else, a column is one value, or rows differ in their names.
    """
    columns = given if type(given) is dict or isinstance(given, Mapping) else _of_other(given, what)
    for name, values in columns.items():
        if type(values) is list:
            continue
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise InvalidInputError(
                f"{what} hold one value in {name!r} instead of a column: {values!r}",
                hint=f"Write it as a list: {{{name!r}: [{values!r}]}}.",
            )
    return columns


def read_keys(given: Any, *, what: str) -> Mapping[str, Sequence[Any]]:
    """Return columns as lists of Python's own values: a number of NumPy is none of the keys that are stored.

    Raises:
        InvalidInputError: See `read_columns`.
    """
    if type(given) is dict:  # as nearly always, on a path where microseconds count
        for values in given.values():
            if type(values) is not list or not _PLAIN.issuperset(map(type, values)):
                break
        else:
            return given
    return {name: _plain_list(values) for name, values in read_columns(given, what=what).items()}


def _plain_list(values: Iterable[Any]) -> Sequence[Any]:
    if not isinstance(values, list | tuple):
        for method in ("tolist", "to_list"):
            if hasattr(values, method):
                return list(getattr(values, method)())
        values = list(values)
    if _PLAIN.issuperset(map(type, values)):
        return values
    return [value.item() if hasattr(value, "item") else value for value in values]


def _of_other(given: Any, what: str) -> dict[str, Any]:
    if hasattr(given, "columns"):
        return {str(name): given[name] for name in given.columns}
    if isinstance(given, list | tuple) and given and all(isinstance(row, Mapping) for row in given):
        names = given[0].keys()
        uneven = next((number for number, row in enumerate(given) if row.keys() != names), None)
        if uneven is not None:
            raise InvalidInputError(
                f"row {uneven} of {what} has other names than row 0: {', '.join(map(str, given[uneven]))}",
                hint=f"Give every row these: {', '.join(map(str, names))}.",
            )
        return {name: [row[name] for row in given] for name in names}
    raise InvalidInputError(
        f"{what} cannot be read from {type(given).__name__}", hint='Give columns, such as {"customer_id": [1, 2]}.'
    )
