"""The loop keeps every view of a project online, tells of what fails once, and retires what nobody uses."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from flyball.core.clock import SimulatedClock
from flyball.domain.features.online import NotMaterialisedError
from flyball.workspace.upkeep import Upkeep
from flyball.workspace.workspace import Workspace

_PROJECT = """
import flyball as fb
import polars as pl

payments = fb.Table("payments.parquet", entity=fb.Entity("customer_id"), time="paid_at")


@fb.features(payments)
def broken(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.select("nothing")


@fb.features(payments)
def total(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(pl.col("days") * FACTOR)
"""
_START = datetime(2026, 1, 1, tzinfo=UTC)


def _open(root: Path, factor: int, clock: SimulatedClock) -> Workspace:
    (root / "project.py").write_text(_PROJECT.replace("FACTOR", str(factor)))
    pl.DataFrame({"customer_id": [1], "paid_at": [_START], "days": [10]}).write_parquet(root / "payments.parquet")
    return Workspace(root, root / ".flyball", clock=clock)


def _days(workspace: Workspace, reference: str = "total") -> object:
    return workspace.get_online_features([reference], {"customer_id": [1]}).columns[1][0]


def test_every_view_is_kept_online_and_one_that_fails_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = _open(tmp_path, 2, SimulatedClock(_START + timedelta(days=1)))
    upkeep = Upkeep(workspace.features, workspace.project.views.values())
    with caplog.at_level(logging.WARNING, "flyball.loop"):
        for _ in range(3):
            upkeep.turn()
    assert _days(workspace) == 20
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "the feature view 'broken' is not brought up to date"
    ]


def test_versions_that_nobody_asks_for_lose_their_rows_after_a_week(tmp_path: Path) -> None:
    clock = SimulatedClock(_START + timedelta(days=1))
    old = _open(tmp_path, 2, clock)
    old.materialise(["total"])
    version = old.features.view_version(old.project.view("total"))
    new = _open(tmp_path, 3, clock)
    for _ in range(8):
        new.materialise(["total"])
        assert new.features.retire() == []
        assert _days(new, f"total@{version}") == 20  # a rollback finds it ready
        clock.advance(timedelta(days=0.9))
    new.materialise(["total"])
    assert new.features.retire() == [f"total@{version}"]
    assert new.features.retire() == []
    assert _days(new) == 30
    fresh = _open(tmp_path, 3, clock)
    with pytest.raises(NotMaterialisedError):
        _days(fresh, f"total@{version}")
    events = fresh.journal.list_events(kinds=["features.view.retired"])
    assert [(event.data["version"], event.data["rows"]) for event in events] == [(version, 2)]
