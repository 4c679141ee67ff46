"""Pages of a search by what sorts them: the next page begins after the last row's keys, however many came before."""

from collections.abc import Iterable, Sequence
from typing import Any

from flyball.storage.db import Row, Transaction

SortKey = tuple[str, bool, type]
"""An SQL expression that a page is sorted by, whether upwards, and the type of its values."""


def keyset(keys: Sequence[tuple[str, bool]], after: Sequence[Any]) -> tuple[str, list[Any]]:
    """Return the SQL condition that a row comes after a position in an order, and its parameters."""
    alternatives: list[str] = []
    params: list[Any] = []
    for place, (expression, is_ascending) in enumerate(keys):
        equal = [f"{before} = ?" for before, _ in keys[:place]]
        alternatives.append(" AND ".join([*equal, f"{expression} {'>' if is_ascending else '<'} ?"]))
        params.extend(after[: place + 1])
    return f"({' OR '.join(f'({alternative})' for alternative in alternatives)})", params


def sort_sql(keys: Sequence[tuple[str, bool]]) -> str:
    """Return what follows ``ORDER BY``."""
    return ", ".join(f"{expression} {'ASC' if is_ascending else 'DESC'}" for expression, is_ascending in keys)


def read_page(
    tx: Transaction,
    select: str,
    conditions: Iterable[tuple[str, Sequence[Any]]],
    keys: Sequence[SortKey],
    *,
    after: Sequence[Any] | None,
    limit: int,
) -> tuple[list[Row], list[list[Any]]]:
    """Return the rows of one page, and the sort keys of each.

    Args:
        tx: A transaction.
        select: A query with ``{keys}`` where the keys' columns go, up to its first condition.
        conditions: What else must hold: SQL and its parameters.
        keys: What sorts the page; no two rows share all of them.
        after: The keys of the last row of the page before.
        limit: How many rows at most.
    """
    sql = select.replace("{keys}", "".join(f", {key[0]} AS k{place}" for place, key in enumerate(keys)))
    order = [(expression, is_ascending) for expression, is_ascending, _ in keys]
    params: list[Any] = []
    for condition, values in conditions:
        sql += f" AND {condition}"
        params += values
    if after is not None:
        condition, values = keyset(order, after)
        # The first key alone again, which an index can start from.
        sql += f" AND {keys[0][0]} {'>=' if keys[0][1] else '<='} ? AND {condition}"
        params += [after[0], *values]
    rows = tx.rows(f"{sql} ORDER BY {sort_sql(order)} LIMIT ?", [*params, limit])
    return rows, [[row[f"k{place}"] for place in range(len(keys))] for row in rows]
