"""What came from what, read out of events: pure functions."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

import msgspec

from flyball.domain.journal.events import Event

RUN_READ = "tracking.run.read"
VERSION_CREATED = "registry.version.created"
ALIAS_MOVED = "registry.alias.moved"
ROLLOUT_STARTED = "serving.rollout.started"
KINDS = (RUN_READ, VERSION_CREATED, ALIAS_MOVED, ROLLOUT_STARTED)


class Edge(msgspec.Struct, frozen=True, order=True):
    """``target`` came from ``source``; both as ``thing/name``.

    Attributes:
        source: Such as ``snapshot/ea8f…``.
        target: Such as ``version/credit-risk/3``.
        event: The number of the event that says so.
    """

    source: str
    target: str
    event: int


def derive_edges(events: Iterable[Event]) -> list[Edge]:
    """Return the edges that events tell of: snapshot → run or version, run → version, version → endpoint or model."""
    return [edge for event in events for edge in _edges_of(event)]


def _edges_of(event: Event) -> Iterator[Edge]:
    data = event.data
    if event.kind == VERSION_CREATED:
        for snapshot in (data.get("snapshots") or {}).values():
            yield Edge(f"snapshot/{snapshot}", event.subject, event.seq)
        if data.get("run"):
            yield Edge(f"run/{data['run']}", event.subject, event.seq)
    elif event.kind == RUN_READ:
        yield Edge(f"snapshot/{data['snapshot']}", event.subject, event.seq)
    elif event.kind == ALIAS_MOVED and data.get("to"):
        yield Edge(f"version/{data['to']}", f"{event.subject}@{data['alias']}", event.seq)
    elif event.kind == ROLLOUT_STARTED:
        yield Edge(f"version/{data['candidate']}", event.subject, event.seq)


def reach(edges: Iterable[Edge], start: str) -> list[str]:
    """Return everything that came from ``start``, directly or not, sorted."""
    targets: dict[str, set[str]] = defaultdict(set)
    for edge in edges:
        targets[edge.source].add(edge.target)
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for target in targets[waiting.pop()] - found:
            found.add(target)
            waiting.append(target)
    return sorted(found)


def trace_back(edges: Iterable[Edge], end: str) -> list[str]:
    """Return everything that ``end`` came from, directly or not, sorted."""
    return reach((Edge(edge.target, edge.source, edge.event) for edge in edges), end)
