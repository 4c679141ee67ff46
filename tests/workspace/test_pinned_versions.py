"""The version of a Delta table that a model learnt from can be read when the table has been vacuumed."""

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from flyball.domain.data.tables import Table
from flyball.storage.tables.delta import VersionVacuumedError
from flyball.workspace.collecting import Collector
from flyball.workspace.workspace import Workspace
from tests.stories.tiny import write_tiny
from tests.workspace.test_collecting import make_old


def test_what_a_registered_version_learnt_from_survives_a_vacuum_and_the_collection_of_garbage(
    tmp_path: Path,
) -> None:
    project = write_tiny(tmp_path / "tiny")
    text = (project / "project.py").read_text().replace('"data/parcels.csv"', '"data/parcels"')
    (project / "project.py").write_text(text)
    rows = pl.read_csv(project / "data" / "parcels.csv", try_parse_dates=True)
    folder = project / "data" / "parcels"
    write_deltalake(folder, rows)
    workspace = Workspace(project, tmp_path / "home")
    workspace.run("training")
    pinned = workspace.data.list("parcels")[-1]
    learnt_from = workspace.data.read(pinned.id).collect()
    assert learnt_from.height == rows.height
    # The table is written anew twice, so that the present state is neither what was read nor what came next.
    for share in (0.9, 0.8):
        write_deltalake(folder, rows.head(int(rows.height * share)), mode="overwrite")
        workspace.data.snapshot(workspace.project.tables["parcels"])
    states = workspace.data.list("parcels")
    table = DeltaTable(folder)
    assert table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    make_old(workspace)
    collected = Collector(workspace, older_than=timedelta(microseconds=1)).collect()
    assert collected.snapshots >= 1
    kept = {snapshot.id for snapshot in workspace.data.list("parcels")}
    assert kept == {pinned.id, states[-1].id}
    assert workspace.data.read(pinned.id).collect().equals(learnt_from)
    # Delta's own way back is gone, and says so.
    with pytest.raises(VersionVacuumedError, match="version 0 of the table 'past' can no longer be read"):
        workspace.data.snapshot(Table(str(folder), version=0, time="sent_at", name="past"))
    workspace.db.close()
