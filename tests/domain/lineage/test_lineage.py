from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyball.core.clock import SimulatedClock
from flyball.core.errors import InvalidInputError, NotFoundError
from flyball.domain.journal.service import Journal
from flyball.domain.lineage.graph import Edge, reach, trace_back
from flyball.domain.lineage.service import LineageService
from flyball.storage.db import Database

nodes = st.integers(0, 7).map(str)


@given(st.lists(st.builds(Edge, nodes, nodes, st.just(0))), nodes, nodes)
def test_what_a_thing_reached_came_from_it(edges: list[Edge], one: str, other: str) -> None:
    assert (other in reach(edges, one)) == (one in trace_back(edges, other))


@given(st.lists(st.builds(Edge, nodes, nodes, st.just(0))), nodes)
def test_reach_is_closed(edges: list[Edge], start: str) -> None:
    found = {start, *reach(edges, start)}
    assert all(edge.target in found for edge in edges if edge.source in found)


def test_a_snapshot_reaches_the_models_and_endpoints_made_from_it(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path}/flyball.db")
    journal = Journal(db, SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC)))
    with db.begin() as tx:
        data = {"run": "r1", "snapshots": {"payments": "abc", "outcomes": "def"}}
        journal.append(tx, "registry.version.created", "version/risk/1", data)
        journal.append(tx, "serving.rollout.started", "endpoint/credit", {"candidate": "risk/1"})
        journal.append(tx, "registry.alias.moved", "model/risk", {"alias": "champion", "to": "risk/1"})
    lineage = LineageService(journal)
    assert lineage.find_impact("snapshot/abc").reached == ["endpoint/credit", "model/risk@champion", "version/risk/1"]
    assert lineage.find_impact("version/risk/1").came_from == ["run/r1", "snapshot/abc", "snapshot/def"]
    with pytest.raises(NotFoundError, match="'snapshot/xyz'"):
        lineage.find_impact("snapshot/xyz")
    with pytest.raises(InvalidInputError, match="'abc'"):
        lineage.find_impact("abc")
