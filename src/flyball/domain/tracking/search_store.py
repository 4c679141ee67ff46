"""The SQL that finds a page of runs: by the fewest rows that can tell, whatever the number of runs.

One experiment is searched at a time, since every index begins with it. Three ways lead to its page:

- a condition that few runs meet (counted up to a bound) leads: those runs are looked at, and sorted;
- else, where a metric orders the page, the index of its values is walked in order until the page is full: first the
  runs with a number, then those with NaN, then those without the metric;
- else the runs are walked by their start, or all sorted where something else orders them.

All other conditions are looked up run by run on the way.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from flyball.domain.tracking.client_runs import NAME_TAG
from flyball.domain.tracking.experiments import Experiment, View
from flyball.domain.tracking.filters import Condition, Order, compare_number, compare_text
from flyball.storage.db import Transaction
from flyball.storage.paging import keyset, sort_sql

_FEW = 2_000
_VIEWS = {View.ACTIVE: "r.deleted_at_us IS NULL", View.DELETED: "r.deleted_at_us IS NOT NULL", View.ALL: "1 = 1"}
_HEAD = 60  # signs of a value that its index holds
_STATUS = (
    "CASE r.status WHEN 'succeeded' THEN 'FINISHED' WHEN 'cancelled' THEN 'KILLED' WHEN 'failed' THEN 'FAILED'"
    " WHEN 'scheduled' THEN 'SCHEDULED' ELSE 'RUNNING' END"
)
_TABLES = {"metric": "tracking_latest", "param": "tracking_param", "tag": "tracking_tag"}
_NUMBERS = 0
_MISSING = 2
_ZERO = "CAST(0 AS DOUBLE PRECISION)"


class Key(NamedTuple):
    """One expression that a page is sorted by."""

    sql: str
    is_ascending: bool
    kind: type


class _Sort(NamedTuple):
    """How a page is sorted: the tables to join, their parameters, and the keys."""

    joins: list[str]
    params: list[Any]
    keys: list[Key]


class Hit(NamedTuple):
    """A run that was found: its sort keys and its number."""

    keys: tuple[Any, ...]
    number: int


def find_page(
    tx: Transaction,
    experiment: Experiment,
    conditions: Sequence[Condition],
    orders: Sequence[Order],
    view: View,
    *,
    after: Sequence[Any] | None,
    limit: int,
) -> list[Hit]:
    """Return the first runs of an experiment, after a position, that meet all conditions.

    Args:
        tx: A transaction.
        experiment: Where to look.
        conditions: All must hold.
        orders: The page's order; then the newest run comes first, then the smallest id.
        view: Deleted runs or active ones.
        after: The sort keys of the last run of the page before.
        limit: How many at most.
    """
    names_runs = any(
        condition.entity == "attribute" and condition.key == "run_id" and condition.operator in ("=", "IN")
        for condition in conditions
    )
    # The plus keeps SQLite from walking the whole experiment where the ids lead to the runs at once.
    where, params = [_VIEWS[view], f"{'+' if names_runs else ''}r.experiment_id = ?"], [experiment.id]
    for condition in conditions:
        sql, values = _condition(condition, experiment)
        where.append(sql)
        params.extend(values)
    sort = _sort(orders)
    search = _Search(tx, experiment.id, where, params, sort, after, limit)
    if names_runs:
        return search.plain()
    leader = _find_leader(tx, experiment.id, conditions)
    if leader is not None:
        return search.led_by(*leader)
    if orders and orders[0].entity == "metric":
        return search.walk(orders[0].key)
    return search.plain()


def sort_kinds(orders: Sequence[Order]) -> list[type]:
    """Return the types of the sort keys of an order."""
    return [key.kind for key in _sort(orders).keys]


def sort_hits(hits: list[Hit], orders: Sequence[Order]) -> None:
    """Sort what was found in several experiments as one page."""
    keys = _sort(orders).keys
    for place in reversed(range(len(keys))):
        hits.sort(key=lambda hit, place=place: hit.keys[place], reverse=not keys[place].is_ascending)  # type: ignore[misc]


class _Search:
    """One search of one experiment, which is then carried out in one of three ways."""

    def __init__(
        self,
        tx: Transaction,
        experiment_id: int,
        where: list[str],
        params: list[Any],
        sort: _Sort,
        after: Sequence[Any] | None,
        limit: int,
    ) -> None:
        self._tx = tx
        self._experiment_id = experiment_id
        self._where = where
        self._params = params
        self._sort = sort
        self._after = after
        self._limit = limit

    def plain(self) -> list[Hit]:
        """Search from the runs; the planner walks their index where their start orders the page."""
        sort = self._sort
        return self._select("tracking_run AS r", sort.joins, sort.params, [], [], sort.keys, self._limit)

    def led_by(self, table: str, where: str, params: Sequence[Any]) -> list[Hit]:
        """Search from the few rows of a table that meet a condition."""
        sort = self._sort
        tables, where = f"{table} AS d CROSS JOIN tracking_run AS r", f"r.number = d.run AND {where}"
        return self._select(tables, sort.joins, sort.params, [where], params, sort.keys, self._limit)

    def walk(self, metric: str) -> list[Hit]:
        """Search in the order of a metric's values."""
        hits: list[Hit] = []
        sort = self._sort
        first = _NUMBERS if self._after is None else self._after[0]
        for rank in range(first, _MISSING):
            # The metric leads, so that its index gives the order; it need not be joined again.
            where = ["r.number = o0.run AND o0.experiment_id = ? AND o0.name = ? AND o0.is_nan = ?"]
            params = [self._experiment_id, metric, rank]
            is_up = sort.keys[1].is_ascending
            if self._after is not None and rank == first == _NUMBERS:
                where.append(f"o0.value {'>=' if is_up else '<='} ?")
                params.append(self._after[1])
            keys = [Key(str(rank), True, int), Key("o0.value", is_up, float), *sort.keys[2:]]
            tables = "tracking_latest AS o0 CROSS JOIN tracking_run AS r"
            hits += self._select(tables, sort.joins[1:], sort.params[1:], where, params, keys, self._limit - len(hits))
            if len(hits) == self._limit:
                return hits
        keys = [Key(str(_MISSING), True, int), Key(_ZERO, True, float), *sort.keys[2:]]
        rest = self._limit - len(hits)
        return hits + self._select("tracking_run AS r", sort.joins, sort.params, ["o0.run IS NULL"], [], keys, rest)

    def _select(
        self,
        tables: str,
        joins: Sequence[str],
        join_params: Sequence[Any],
        where: Sequence[str],
        params: Sequence[Any],
        keys: Sequence[Key],
        limit: int,
    ) -> list[Hit]:
        """Run the query; keys that are the same for all rows are left out of its order."""
        conditions, values = [*where, *self._where], [*params, *self._params]
        if self._after is not None:
            sql, more = keyset([(key.sql, key.is_ascending) for key in keys], self._after)
            conditions.append(sql)
            values.extend(more)
        columns = "".join(f", {key.sql} AS k{place}" for place, key in enumerate(keys))
        order = sort_sql([key[:2] for key in keys if not key.sql.isdigit() and key.sql != _ZERO])
        rows = self._tx.rows(
            f"SELECT r.number{columns} FROM {tables} {' '.join(joins)} WHERE {' AND '.join(conditions)}"
            f" ORDER BY {order} LIMIT ?",
            [*join_params, *values, limit],
        )
        return [Hit(tuple(row)[1:], row[0]) for row in rows]


def _sort(orders: Sequence[Order]) -> _Sort:
    joins: list[str] = []
    params: list[Any] = []
    keys: list[Key] = []
    for place, order in enumerate(orders):
        alias = f"o{place}"
        if order.entity == "attribute" and order.key != "run_name":
            keys += _attribute_keys(order)
            continue
        entity, name = ("tag", NAME_TAG) if order.entity == "attribute" else (order.entity, order.key)
        joins.append(f"LEFT JOIN {_TABLES[entity]} AS {alias} ON {alias}.run = r.number AND {alias}.name = ?")
        params.append(name)
        if entity == "metric":
            rank = f"CASE WHEN {alias}.run IS NULL THEN {_MISSING} ELSE {alias}.is_nan END"
            keys += [Key(rank, True, int), Key(f"coalesce({alias}.value, 0.0)", order.is_ascending, float)]
        else:
            rank = f"CASE WHEN {alias}.run IS NULL THEN 1 ELSE 0 END"
            keys += [Key(rank, True, int), Key(f"coalesce({alias}.value, '')", order.is_ascending, str)]
    if not any(order.entity == "attribute" and order.key == "start_time" for order in orders):
        keys.append(Key("r.started_at_us", False, int))
    if not any(order.entity == "attribute" and order.key == "run_id" for order in orders):
        keys.append(Key("r.id", True, str))
    return _Sort(joins, params, keys)


def _attribute_keys(order: Order) -> Iterator[Key]:
    up = order.is_ascending
    match order.key:
        case "end_time":
            yield Key("CASE WHEN r.finished_at_us IS NULL THEN 1 ELSE 0 END", True, int)
            yield Key("coalesce(r.finished_at_us, 0)", up, int)
        case "start_time":
            yield Key("r.started_at_us", up, int)
        case "status":
            yield Key(_STATUS, up, str)
        case "user_id":
            yield Key("r.actor", up, str)
        case _:  # files' addresses sort as the ids do
            yield Key("r.id", up, str)


def _condition(condition: Condition, experiment: Experiment) -> tuple[str, list[Any]]:
    """Return SQL over ``r``, and its parameters."""
    if condition.entity == "dataset":
        column = "i.context" if condition.key == "context" else f"s.{condition.key}"
        sql, values = compare_text(column, condition)
        return (
            "EXISTS (SELECT 1 FROM tracking_input AS i JOIN tracking_dataset AS s ON s.number = i.dataset"
            f" WHERE i.run = r.number AND {sql})",
            values,
        )
    if condition.entity == "attribute" and condition.key != "run_name":
        return _attribute_condition(condition, experiment)
    if condition.entity == "attribute":
        condition = Condition("tag", NAME_TAG, condition.operator, condition.value)
    exists = f"EXISTS (SELECT 1 FROM {_TABLES[condition.entity]} AS c WHERE c.run = r.number AND c.name = ?"
    if condition.operator in ("IS NULL", "IS NOT NULL"):
        return f"{'NOT ' if condition.operator == 'IS NULL' else ''}{exists})", [condition.key]
    if condition.entity == "metric":
        sql, values = compare_number("c.value", condition)
        # A comparison with NaN never holds, but that it differs.
        sql = f"({sql} OR c.is_nan = 1)" if condition.operator == "!=" else f"({sql} AND c.is_nan = 0)"
    else:
        sql, values = compare_text("c.value", condition)
    return f"{exists} AND {sql})", [condition.key, *values]


def _attribute_condition(condition: Condition, experiment: Experiment) -> tuple[str, list[Any]]:
    match condition.key:
        case "start_time":
            return compare_number("r.started_at_us / 1000", condition)
        case "end_time":
            return compare_number("r.finished_at_us / 1000", condition)
        case "status":
            return compare_text(_STATUS, condition)
        case "user_id":
            return compare_text("r.actor", condition)
        case "artifact_uri":
            before, _, after = experiment.run_root("\0").partition("\0")
            sql, values = compare_text("(CAST(? AS TEXT) || r.id || CAST(? AS TEXT))", condition)
            return sql, [before, after, *values]
        case _:
            return compare_text("r.id", condition)


def _find_leader(
    tx: Transaction, experiment_id: int, conditions: Sequence[Condition]
) -> tuple[str, str, list[Any]] | None:
    """Return the table, the SQL and the parameters of the condition that the fewest runs meet, if they are few."""
    best, fewest = None, _FEW + 1
    for condition in conditions:
        leader = _leader(experiment_id, condition)
        if leader is None:
            continue
        table, where, params = leader
        sql = f"SELECT count(*) FROM (SELECT 1 FROM {table} AS d WHERE {where} LIMIT ?) AS counted"
        count = tx.value(sql, [*params, fewest])
        if count < fewest:
            best, fewest = leader, count
    return best


def _leader(experiment_id: int, condition: Condition) -> tuple[str, str, list[Any]] | None:
    entity, key = condition.entity, condition.key
    if entity == "attribute" and key == "run_name":
        entity, key = "tag", NAME_TAG
    if entity == "metric" and condition.operator != "!=":
        sql, values = compare_number("d.value", condition)
        where = f"d.experiment_id = ? AND d.name = ? AND d.is_nan = 0 AND {sql}"
        return _TABLES[entity], where, [experiment_id, key, *values]
    if entity in ("param", "tag") and condition.operator == "=":
        where = f"d.experiment_id = ? AND d.name = ? AND substr(d.value, 1, {_HEAD}) = ?"
        return _TABLES[entity], where, [experiment_id, key, condition.value[:_HEAD]]
    return None
