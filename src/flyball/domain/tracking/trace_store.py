"""The SQL of traces."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from flyball.domain.tracking import artifact_store
from flyball.domain.tracking.filters import Condition, Order, compare_number, compare_text
from flyball.domain.tracking.traces import (
    NAME_TAG,
    PROMPTS_TAG,
    RUN_METADATA,
    TRACE_PREFIX,
    Assessment,
    Span,
    Trace,
    TraceState,
)
from flyball.storage.db import Row, Transaction
from flyball.storage.paging import SortKey, read_page

_COLUMNS = (
    "t.number, t.id, t.experiment_id, t.started_at_us, t.duration_us, t.state, t.client_request_id, t.request_preview,"
    " t.response_preview, t.is_told"
)
_ITEM = "(SELECT i.value FROM tracking_trace_item AS i WHERE i.trace = t.number AND i.kind = '{}' AND i.name = '{}')"
_END = "(t.started_at_us + t.duration_us) / 1000"
# Nothing is NULL in an order, where databases differ: what is not there comes as -1 or as an empty text.
_KEYS: dict[str, tuple[str, type]] = {
    "experiment_id": ("t.experiment_id", int),
    "timestamp": ("t.started_at_us", int),
    "execution_time": ("coalesce(t.duration_us, -1)", int),
    "end_time": (f"coalesce({_END}, -1)", int),
    "status": ("t.state", str),
    "request_id": ("t.id", str),
    "name": (f"coalesce({_ITEM.format('tag', NAME_TAG)}, '')", str),
    "run_id": (f"coalesce({_ITEM.format('metadata', RUN_METADATA)}, '')", str),
}
_MOST_PARAMS = 500
_encode = msgspec.json.Encoder().encode


def find_number(tx: Transaction, trace_id: str) -> int | None:
    """Return a trace's number."""
    number: int | None = tx.value("SELECT number FROM tracking_trace WHERE id = ?", (trace_id,))
    return number


def put_trace(tx: Transaction, trace: Trace) -> int:
    """Keep a trace, with its metadata, tags and runs; one that is there is replaced, but keeps what it had by name."""
    number = find_number(tx, trace.id) or int(tx.value("SELECT coalesce(max(number), 0) + 1 FROM tracking_trace"))
    tx.send(
        "INSERT INTO tracking_trace (number, id, experiment_id, started_at_us, duration_us, state, client_request_id,"
        " request_preview, response_preview, is_told) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (number) DO UPDATE SET experiment_id = excluded.experiment_id,"
        " started_at_us = excluded.started_at_us, duration_us = excluded.duration_us, state = excluded.state,"
        " client_request_id = excluded.client_request_id, request_preview = excluded.request_preview,"
        " response_preview = excluded.response_preview, is_told = excluded.is_told",
        (
            number,
            trace.id,
            trace.experiment_id,
            trace.started_at_us,
            trace.duration_us,
            trace.state.value,
            trace.client_request_id,
            trace.request_preview,
            trace.response_preview,
            int(trace.is_told),
        ),
    )
    put_items(tx, number, "metadata", trace.metadata)
    put_items(tx, number, "tag", trace.tags)
    put_items(tx, number, "run", dict.fromkeys(trace.runs, ""))
    return number


def put_items(tx: Transaction, number: int, kind: str, items: Mapping[str, str]) -> None:
    """Keep tags, metadata or runs; a name that is there is replaced."""
    if items:
        tx.execute_many(
            "INSERT INTO tracking_trace_item (trace, kind, name, value) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (trace, kind, name) DO UPDATE SET value = excluded.value",
            [(number, kind, name, value) for name, value in items.items()],
        )


def delete_tag(tx: Transaction, number: int, name: str) -> bool:
    """Remove a tag and tell whether it was there."""
    sql = "DELETE FROM tracking_trace_item WHERE trace = ? AND kind = 'tag' AND name = ?"
    return tx.execute(sql, (number, name)) > 0


def put_spans(tx: Transaction, number: int, spans: Sequence[Span]) -> None:
    """Keep spans; one that is there is replaced."""
    tx.execute_many(
        "INSERT INTO tracking_span (trace, id, parent, name, kind, status, started_at_ns, content)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (trace, id) DO UPDATE SET parent = excluded.parent,"
        " name = excluded.name, kind = excluded.kind, status = excluded.status,"
        " started_at_ns = excluded.started_at_ns, content = excluded.content",
        [
            (
                number,
                span.id,
                span.parent,
                span.name,
                span.kind,
                span.status,
                span.started_at_ns,
                _encode(span.content).decode(),
            )
            for span in spans
        ],
    )


def put_assessment(tx: Transaction, number: int, found: Assessment) -> None:
    """Keep an assessment; one of the same id is replaced."""
    tx.send(
        "INSERT INTO tracking_assessment (id, trace, name, kind, value, is_valid, created_at_us, content)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET name = excluded.name, kind = excluded.kind,"
        " value = excluded.value, is_valid = excluded.is_valid, content = excluded.content",
        (
            found.id,
            number,
            found.name,
            found.kind,
            found.value,
            int(found.is_valid),
            found.created_at_us,
            _encode(found.content).decode(),
        ),
    )


def delete_assessment(tx: Transaction, number: int, assessment_id: str) -> bool:
    """Remove an assessment and tell whether it was there."""
    return tx.execute("DELETE FROM tracking_assessment WHERE id = ? AND trace = ?", (assessment_id, number)) > 0


def read_traces(tx: Transaction, trace_ids: Sequence[str]) -> list[Trace]:
    """Return those of some traces that are there, in the order of the ids."""
    found: dict[str, Trace] = {}
    for part in _parts(trace_ids):
        rows = tx.rows(f"SELECT {_COLUMNS} FROM tracking_trace AS t WHERE t.id IN ({_marks(part)})", part)
        found.update((trace.id, trace) for trace in _fill(tx, rows))
    return [found[trace_id] for trace_id in trace_ids if trace_id in found]


def read_spans(tx: Transaction, trace_ids: Sequence[str]) -> dict[str, list[msgspec.Raw]]:
    """Return the spans of some traces by the trace's id, each as JSON, the earliest first."""
    found: dict[str, list[msgspec.Raw]] = {trace_id: [] for trace_id in trace_ids}
    for part in _parts(trace_ids):
        for trace_id, content in tx.tuples(
            "SELECT t.id, s.content FROM tracking_span AS s JOIN tracking_trace AS t ON t.number = s.trace"
            f" WHERE t.id IN ({_marks(part)}) ORDER BY s.trace, s.started_at_ns, s.id",
            part,
        ):
            found[trace_id].append(msgspec.Raw(content.encode()))
    return found


def find_assessment(tx: Transaction, number: int, assessment_id: str) -> Assessment | None:
    """Return one assessment of a trace."""
    rows = tx.rows(f"{_ASSESSMENTS} WHERE a.trace = ? AND a.id = ?", (number, assessment_id))
    return next((_assessment(row) for row in rows), None)


def search(
    tx: Transaction,
    experiment_ids: Sequence[int],
    conditions: Sequence[Condition],
    orders: Sequence[Order],
    *,
    after: Sequence[Any] | None,
    limit: int,
) -> list[tuple[Trace, list[Any]]]:
    """Return traces and their sort keys."""
    rows, keys = read_page(
        tx,
        f"SELECT {_COLUMNS}{{keys}} FROM tracking_trace AS t WHERE 1 = 1",
        [
            (f"t.experiment_id IN ({_marks(experiment_ids)})", experiment_ids),
            *(_compare(condition) for condition in conditions),
        ],
        sort_keys(orders),
        after=after,
        limit=limit,
    )
    return list(zip(_fill(tx, rows), keys, strict=True))


def sort_keys(orders: Sequence[Order]) -> list[SortKey]:
    """Return expressions to sort by, whether upwards, and their types; by default the newest comes first."""
    if not orders:
        return [("t.started_at_us", False, int), ("t.id", True, str)]
    keys = [(_KEYS[order.key][0], order.is_ascending, _KEYS[order.key][1]) for order in orders]
    return keys if any(order.key == "request_id" for order in orders) else [*keys, ("t.id", True, str)]


def find_to_delete(
    tx: Transaction,
    experiment_id: int,
    *,
    trace_ids: Sequence[str] | None,
    until_us: int | None,
    limit: int | None,
) -> list[int]:
    """Return numbers of traces of an experiment: some by id, or those started until an instant, the oldest first."""
    if trace_ids is not None:
        found: list[int] = []
        for part in _parts(trace_ids):
            sql = f"SELECT number FROM tracking_trace WHERE experiment_id = ? AND id IN ({_marks(part)})"
            found += [row[0] for row in tx.rows(sql, [experiment_id, *part])]
        return found
    rows = tx.rows(
        "SELECT number FROM tracking_trace WHERE experiment_id = ? AND started_at_us <= ?"
        " ORDER BY started_at_us, id LIMIT ?",
        (experiment_id, until_us, limit if limit is not None else 2**62),
    )
    return [row[0] for row in rows]


def delete_traces(tx: Transaction, numbers: Sequence[int]) -> None:
    """Remove traces with all that belongs to them, also the names of their files."""
    for part in _parts(numbers):
        ids = [found for (found,) in tx.tuples(f"SELECT id FROM tracking_trace WHERE number IN ({_marks(part)})", part)]
        # Other ids are the client's own choice, and files that lie below such a one may be another's.
        artifact_store.remove_owners(tx, [found for found in ids if found.startswith(TRACE_PREFIX)])
        for table in ("tracking_assessment", "tracking_span", "tracking_trace_item"):
            tx.send(f"DELETE FROM {table} WHERE trace IN ({_marks(part)})", part)
        tx.send(f"DELETE FROM tracking_trace WHERE number IN ({_marks(part)})", part)


def _compare(condition: Condition) -> tuple[str, list[Any]]:
    if condition.entity in ("tag", "metadata"):
        return _compare_item(condition.entity, condition.key, condition)
    if condition.entity in ("feedback", "expectation"):
        return _exists(
            "tracking_assessment AS x", f"x.kind = '{condition.entity}' AND x.name = ?", "x.value", condition
        )
    if condition.entity == "span":
        column = {"name": "x.name", "type": "x.kind", "status": "x.status", "content": "x.content"}[condition.key]
        sql, values = compare_text(column, condition)
        return f"EXISTS (SELECT 1 FROM tracking_span AS x WHERE x.trace = t.number AND {sql})", values
    match condition.key:
        case "name":
            return _compare_item("tag", NAME_TAG, condition)
        case "prompt":
            return _compare_item("tag", PROMPTS_TAG, condition)
        case "run_id":
            return _compare_runs(condition)
        case "text":
            sql, values = compare_text("x.content", condition)
            return f"EXISTS (SELECT 1 FROM tracking_span AS x WHERE x.trace = t.number AND {sql})", values
        case "timestamp":
            return compare_number("t.started_at_us / 1000", condition)
        case "execution_time":
            return compare_number("t.duration_us / 1000", condition)
        case "end_time":
            return compare_number(_END, condition)
        case "experiment_id":
            return compare_text("CAST(t.experiment_id AS TEXT)", condition)
        case key:
            columns = {"status": "t.state", "client_request_id": "t.client_request_id", "request_id": "t.id"}
            return compare_text(columns[key], condition)


def _compare_item(kind: str, name: str, condition: Condition) -> tuple[str, list[Any]]:
    named = msgspec.structs.replace(condition, key=name)
    return _exists("tracking_trace_item AS x", f"x.kind = '{kind}' AND x.name = ?", "x.value", named)


def _exists(table: str, where: str, column: str, condition: Condition) -> tuple[str, list[Any]]:
    exists = f"EXISTS (SELECT 1 FROM {table} WHERE x.trace = t.number AND {where}"
    if condition.operator in ("IS NULL", "IS NOT NULL"):
        return f"{'NOT ' if condition.operator == 'IS NULL' else ''}{exists})", [condition.key]
    sql, values = compare_text(column, condition)
    return f"{exists} AND {sql})", [condition.key, *values]


def _compare_runs(condition: Condition) -> tuple[str, list[Any]]:
    """A trace belongs to the run that made it, and to those that it was linked to."""
    source, values = compare_text("x.value", condition)
    linked, more = compare_text("x.name", condition)
    sql = (
        "EXISTS (SELECT 1 FROM tracking_trace_item AS x WHERE x.trace = t.number AND"
        f" ((x.kind = 'metadata' AND x.name = '{RUN_METADATA}' AND {source}) OR (x.kind = 'run' AND {linked})))"
    )
    return sql, [*values, *more]


_ASSESSMENTS = (
    "SELECT a.trace, a.id, t.id AS trace_id, a.name, a.kind, a.value, a.is_valid, a.created_at_us, a.content"
    " FROM tracking_assessment AS a JOIN tracking_trace AS t ON t.number = a.trace"
)


def _fill(tx: Transaction, rows: Sequence[Row]) -> list[Trace]:
    """Return traces with what belongs to them, in the order of the rows."""
    numbers = [row["number"] for row in rows]
    items: dict[tuple[int, str], dict[str, str]] = {}
    assessments: dict[int, list[Assessment]] = {}
    for part in _parts(numbers):
        for number, kind, name, value in tx.tuples(
            f"SELECT trace, kind, name, value FROM tracking_trace_item WHERE trace IN ({_marks(part)})"
            " ORDER BY trace, kind, name",
            part,
        ):
            items.setdefault((number, kind), {})[name] = value
        order = "ORDER BY a.trace, a.created_at_us, a.id"
        for row in tx.rows(f"{_ASSESSMENTS} WHERE a.trace IN ({_marks(part)}) {order}", part):
            assessments.setdefault(row["trace"], []).append(_assessment(row))
    return [
        Trace(
            id=row["id"],
            experiment_id=row["experiment_id"],
            started_at_us=row["started_at_us"],
            duration_us=row["duration_us"],
            state=TraceState(row["state"]),
            client_request_id=row["client_request_id"],
            request_preview=row["request_preview"],
            response_preview=row["response_preview"],
            is_told=bool(row["is_told"]),
            metadata=items.get((row["number"], "metadata"), {}),
            tags=items.get((row["number"], "tag"), {}),
            runs=tuple(items.get((row["number"], "run"), {})),
            assessments=assessments.get(row["number"], []),
        )
        for row in rows
    ]


def _assessment(row: Row) -> Assessment:
    return Assessment(
        id=row["id"],
        trace_id=row["trace_id"],
        name=row["name"],
        kind=row["kind"],
        value=row["value"],
        is_valid=bool(row["is_valid"]),
        created_at_us=row["created_at_us"],
        content=msgspec.json.decode(row["content"]),
    )


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _MOST_PARAMS):
        yield values[start : start + _MOST_PARAMS]


def _marks(values: Iterable[Any]) -> str:
    return ", ".join("?" for _ in values)
