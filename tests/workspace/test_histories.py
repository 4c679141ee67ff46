"""What the aliases of models that clients registered meant at an instant."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flyball.cli.pictures import draw_history
from flyball.core.clock import SimulatedClock
from flyball.core.errors import UnknownNameError
from flyball.workspace.histories import read_history
from flyball.workspace.workspace import Workspace

HOUR = timedelta(hours=1)


def test_the_aliases_of_a_model_are_told_without_a_project_and_after_it_was_deleted(tmp_path: Path) -> None:
    clock = SimulatedClock(datetime(2026, 3, 1, tzinfo=UTC))
    workspace = Workspace(tmp_path, tmp_path / "home", clock=clock, is_durable=False)
    registry, began = workspace.client_registry, clock.now()
    with workspace.db.begin() as tx:
        registry.create_model(tx, "churn model")
        for _ in range(2):
            registry.create_version(tx, "churn model", "s3://x/y")
    for alias, number in (("champion", 1), ("best", 1), ("best", 2)):
        clock.advance(HOUR)
        with workspace.db.begin() as tx:
            registry.set_alias(tx, "churn model", alias, number)
    clock.advance(HOUR)
    with workspace.db.begin() as tx:
        registry.delete_model(tx, "churn model")

    def meant(hours: float) -> dict[str, str]:
        moment = read_history(workspace, "churn model", began + hours * HOUR)
        return {alias: found.version for alias, found in moment.aliases.items()}

    assert meant(1.5) == {"champion": "churn model/1"}
    assert meant(2.5) == {"best": "churn model/1", "champion": "churn model/1"}
    assert meant(3.5) == {"best": "churn model/2", "champion": "churn model/1"}
    assert meant(4.5) == {}
    shown = draw_history(read_history(workspace, "churn model", began + 3.5 * HOUR))
    assert "best: churn model/2 since 2026-03-01" in shown
    assert "by mlflow" in shown
    moves = read_history(workspace, "churn model", began + 3.5 * HOUR).moves
    assert [(move.alias, move.previous, move.number) for move in moves] == [
        ("champion", None, 1),
        ("best", None, 1),
        ("best", 1, 2),
    ]
    newest_first = shown.splitlines()[-3:]
    assert "2026-03-01T03:00:00Z  best: 1 -> 2 (set by a client, by mlflow)" in newest_first[0]
    assert "2026-03-01T01:00:00Z  champion: nothing -> 1" in newest_first[2]
    gone = draw_history(read_history(workspace, "churn model", clock.now()))
    assert "nothing was live since 2026-03-01T04:00:00Z" in gone
    assert "nothing was live yet" in draw_history(read_history(workspace, "churn model", began + 0.5 * HOUR))
    with pytest.raises(UnknownNameError):
        read_history(workspace, "nothing", clock.now())
    workspace.db.close()
