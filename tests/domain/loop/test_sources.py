"""Rows by the time at which they became known."""

from datetime import timedelta
from pathlib import Path

from tests.stories.tiny import write_tiny

from flyball.domain.loop.sources import TableReader
from flyball.workspace.workspace import Workspace


def test_nothing_became_known_where_the_clock_was_set_back(tmp_path: Path) -> None:
    project = write_tiny(tmp_path / "tiny")
    workspace = Workspace(project, project / ".flyball", is_durable=False)
    reader, table = TableReader(workspace.data), workspace.project.tables["arrivals"]
    last = reader.last_known(table)
    assert last is not None
    assert reader.rows_known(table, None, last).height > 0
    assert reader.rows_known(table, last, last - timedelta(days=30)).is_empty()
