"""A view that changes: the old and the new model are served at once, each by the version of the view it learnt from."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from flyball.core.clock import SimulatedClock
from flyball.domain.features.rows import MARK
from flyball.domain.serving.answers import Answer
from flyball.workspace.workspace import Workspace
from tests.stories.tiny import SHOPS, make_request, write_tiny

ENDPOINT = """
parcel = fb.Endpoint(
    model="lateness",
    gates=[fb.metric("auc") >= 0.3],
    rollout=[fb.ab_test("label", better="higher", min_effect=0.1, at_least="3d", by=["parcel_id"])],
    monitors=[fb.consistency(window="1h", min_rows=20)],
)
"""
SHARE, PERCENT = 'pl.col("late").mean().alias', '(100 * pl.col("late").mean()).alias'


class Life:
    """A project in this process, which is loaded anew when its file has changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = write_tiny(folder, endpoint=ENDPOINT)
        # The monitor looks once in each hour of the clock.
        hour = datetime.now(UTC).replace(minute=10, second=0, microsecond=0)
        self.clock = SimulatedClock(hour - timedelta(days=4))
        self.sent = 0
        self.load()

    def load(self) -> None:
        home = self.folder / ".flyball"
        entropy = random.Random(self.sent).randbytes
        self.workspace = Workspace(self.folder, home, clock=self.clock, entropy=entropy, is_durable=False)

    def train(self) -> None:
        assert not self.workspace.run("training", is_inline=True).error
        self.turn(timedelta(0))

    def turn(self, after: timedelta) -> None:
        self.clock.advance(after)
        self.workspace.loop.tick()

    def serve(self, rows: int) -> list[Answer]:
        requests = [make_request(self.sent + number) for number in range(rows)]
        self.sent += rows
        answers = self.workspace.data_plane.predict("parcel", requests)
        self.workspace.predictions.log.rotate()
        return answers

    def served(self) -> pl.DataFrame:
        """Return what was answered so far, by which version, with the stored feature and its view's version."""
        logged = self.workspace.predictions.scan("parcel").collect()
        return logged.select(
            "version",
            share=pl.col("features").str.json_path_match("$.late_share").cast(pl.Float64),
            view=pl.col("views").str.json_path_match("$.shop_record.version"),
        )

    def judged(self) -> int:
        """Return how many predictions the monitor looked at last."""
        return self.workspace.monitoring.series("parcel", "consistency")[-1].count

    def alerts(self) -> list[str]:
        return [
            event.data["message"] for event in self.workspace.journal.list_events(kinds=["monitoring.alert.raised"])
        ]


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    made = Life(tmp_path)
    made.train()
    yield made
    made.workspace.db.close()


def test_both_versions_of_a_view_are_served_while_the_new_model_rolls_out(life: Life) -> None:
    old = life.workspace.features.view_version(life.workspace.project.views["shop_record"])
    assert {answer.model_version for answer in life.serve(60)} == {"lateness/1"}
    file = life.folder / "project.py"
    file.write_text(file.read_text().replace(SHARE, PERCENT))
    life.workspace.db.close()
    life.load()
    new = life.workspace.features.view_version(life.workspace.project.views["shop_record"])
    assert new != old
    life.train()
    assert life.workspace.rollouts.find_running("parcel") is not None
    answers = life.serve(200)
    life.turn(timedelta(minutes=55))
    assert {answer.model_version for answer in answers} == {"lateness/1", "lateness/2"}
    served = life.served()
    assert {*served.select("version", "view").unique().rows()} == {("lateness/1", old), ("lateness/2", new)}
    by_version = {version: rows["share"] for (version,), rows in served.group_by("version")}
    assert 0 < by_version["lateness/1"].max() <= 1 < by_version["lateness/2"].max() <= 100  # type: ignore[operator]
    # Both can be asked for by name, and the one is a hundred times the other for every shop.
    shops = {"shop_id": list(range(SHOPS))}
    pairs = [
        life.workspace.get_online_features([f"shop_record@{version}:late_share"], shops).to_dict()["late_share"]
        for version in (old, new)
    ]
    assert pairs[1] == pytest.approx([100 * value for value in pairs[0]])
    assert life.judged() >= 60
    assert life.alerts() == []  # what was served by either is what the tables say


def test_a_bug_in_what_is_served_is_found_by_the_next_turn_of_the_loop(life: Life) -> None:
    life.serve(120)
    life.turn(timedelta(minutes=55))
    assert life.judged() == 120
    assert life.alerts() == []
    # Somebody's script writes the rows of the online store under the wrong keys.
    features = life.workspace.features
    view = f"shop_record@{features.view_version(life.workspace.project.views['shop_record'])}"
    found = sorted(features._online.scan(view), key=lambda row: row.key)
    mark, rows = [row for row in found if row.key == MARK], [row for row in found if row.key != MARK]
    moved = [row._replace(payload=other.payload) for row, other in zip(rows, rows[1:] + rows[:1], strict=True)]
    features._online.replace(view, mark + moved)
    life.serve(120)
    life.turn(timedelta(minutes=55))
    [message] = life.alerts()
    assert "served values of late_share are not what" in message
