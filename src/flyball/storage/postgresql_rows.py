"""Many rows for PostgreSQL as one array for each column: what is parsed and planned is the same for any number."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from flyball.storage.db import Params

_INSERTION = re.compile(
    r"INSERT INTO (?P<table>\w+) \((?P<columns>[^()]*)\) VALUES \(\?(?:, \?)*\)"
    r"(?P<rest> ON CONFLICT(?: \((?P<keys>[^()]*)\))? DO (?P<action>NOTHING|UPDATE).*)?",
    re.DOTALL,
)
_SPECIAL = re.compile(r'["\\]')


class _Insertion(NamedTuple):
    """An insertion of one row.

    Attributes:
        keys: The places of the columns of which no two rows may have the same values; none where that is no matter.
    """

    into: str
    rest: str
    keys: tuple[int, ...]


def as_arrays(sql: str, rows: Sequence[Params]) -> tuple[str, list[str]] | None:
    """Return an insertion of one row as one of many, and its parameters: one array for each column.

    Args:
        sql: ``INSERT INTO table (...) VALUES (?, ...)``, and perhaps what to do on a conflict.
        rows: The values of each row; at least one.

    Returns:
        None where the rows must go one by one: values of a column are of several kinds, or a row would change one of
        those before it, which one statement must not.
    """
    insertion = _read(sql)
    if insertion is None:
        return None
    if insertion.keys and len({tuple(row[place] for place in insertion.keys) for row in rows}) < len(rows):
        return None
    kinds: list[str] = []
    arrays: list[str] = []
    for values in zip(*rows, strict=True):
        found = _KINDS.get(frozenset(map(type, values)))
        if found is None:
            return None
        kind, write = found
        kinds.append(kind)
        if kind:
            arrays.append(write(values))
    return (_write(insertion, tuple(kinds)), arrays) if arrays else None


@lru_cache(256)
def _read(sql: str) -> _Insertion | None:
    found = _INSERTION.fullmatch(sql)
    if found is None:
        return None
    columns = found["columns"].split(", ")
    keys = found["keys"].split(", ") if found["action"] == "UPDATE" else []
    into = f"INSERT INTO {found['table']} ({found['columns']})"
    return _Insertion(into, found["rest"] or "", tuple(columns.index(key) for key in keys))


@lru_cache(256)
def _write(insertion: _Insertion, kinds: tuple[str, ...]) -> str:
    given = [f"c{place}" for place, kind in enumerate(kinds) if kind]
    shown = [f"c{place}" if kind else "NULL" for place, kind in enumerate(kinds)]
    arrays = ", ".join(f"?::{kind}[]" for kind in kinds if kind)
    source = f"unnest({arrays}) AS given ({', '.join(given)})"
    return f"{insertion.into} SELECT {', '.join(shown)} FROM {source}{insertion.rest}"


def _write_numbers(values: Sequence[Any]) -> str:
    # repr is the shortest text of the same number, and PostgreSQL reads Python's inf and nan.
    return f"{{{','.join(map(repr, values))}}}"


def _write_truths(values: Sequence[Any]) -> str:
    return _write_numbers([int(value) for value in values])


def _write_optional_numbers(values: Sequence[Any]) -> str:
    return f"{{{','.join('NULL' if value is None else repr(value) for value in values)}}}"


def _write_texts(values: Sequence[Any]) -> str:
    quoted = values if _SPECIAL.search("".join(values)) is None else [_SPECIAL.sub(r"\\\g<0>", one) for one in values]
    return '{"' + '","'.join(quoted) + '"}'


def _write_optional_texts(values: Sequence[Any]) -> str:
    return f"{{{','.join('NULL' if value is None else _quote(value) for value in values)}}}"


def _quote(value: str) -> str:
    return '"' + _SPECIAL.sub(r"\\\g<0>", value) + '"'


_NONE = type(None)
# By the types of a column's values: which array they become, and how; no array where all are None.
_KINDS: dict[frozenset[type], tuple[str, Callable[[Sequence[Any]], str]]] = {
    frozenset((_NONE,)): ("", _write_numbers),
    frozenset((bool,)): ("bigint", _write_truths),
    frozenset((int,)): ("bigint", _write_numbers),
    frozenset((float,)): ("double precision", _write_numbers),
    frozenset((str,)): ("text", _write_texts),
    frozenset((int, _NONE)): ("bigint", _write_optional_numbers),
    frozenset((float, _NONE)): ("double precision", _write_optional_numbers),
    frozenset((str, _NONE)): ("text", _write_optional_texts),
}
