"""Sealed predictions are a Delta table for others to read, and are forgotten when they are too old."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.domain.predictions.conftest import START, NewRecord

from flyball.core.clock import SimulatedClock
from flyball.core.files import holding_lock
from flyball.domain.journal.service import Journal
from flyball.domain.predictions.compaction import READERS_TAKE
from flyball.domain.predictions.expiry import Expirer
from flyball.domain.predictions.frames import FRAME_SCHEMA
from flyball.domain.predictions.labels import PredictionNotFoundError
from flyball.domain.predictions.publishing import Publisher
from flyball.domain.predictions.service import PredictionService
from flyball.storage.db import Database


class Days:
    """Predictions of four days, two each, one of each day with a label."""

    def __init__(self, root: Path, db: Database, clock: SimulatedClock, service: PredictionService, new: NewRecord):
        self.root = root / "predictions"
        self.db, self.clock, self.service, self.new = db, clock, service, new
        self.ids: list[list[str]] = []
        for _ in range(4):
            self.ids.append(self.log(2))
            service.add_label(self.ids[-1][0], 1.0)
            clock.advance(timedelta(days=1))
        self.journal = Journal(db, clock)
        self.expirer = Expirer(db, self.journal, self.root, clock)
        self.publisher = Publisher(db, self.root, clock)

    def log(self, count: int) -> list[str]:
        records = [self.new(number, key={"loan": number}) for number in range(count)]
        self.service.log.append("credit", records)
        self.service.log.rotate()
        self.service.seal()
        return [record.id for record in records]

    def count(self, table: str) -> int:
        with self.db.read() as tx:
            return int(tx.value(f"SELECT count(*) FROM {table}"))

    def read(self) -> pl.DataFrame:
        return pl.read_delta(str(self.root / "credit")).sort("id")


@pytest.fixture
def days(
    tmp_path: Path, db: Database, clock: SimulatedClock, service: PredictionService, new_record: NewRecord
) -> Days:
    return Days(tmp_path, db, clock, service, new_record)


def test_old_predictions_go_with_their_matches_and_labels(days: Days) -> None:
    assert (days.count("prediction_match"), days.count("prediction_label")) == (16, 4)
    assert days.expirer.expire("credit", START + timedelta(days=2)) == 4
    with pytest.raises(PredictionNotFoundError):
        days.service.get(days.ids[0][0])
    assert days.service.get(days.ids[2][0]).id == days.ids[2][0]
    assert (days.count("prediction_match"), days.count("prediction_label")) == (8, 2)
    assert days.service.labelled("credit").height == 2
    assert [event.data["rows"] for event in days.journal.list_events() if "expired" in event.kind] == [2, 2]
    # Somebody may still be reading the files; some minutes later they go, and the folders of their days.
    days.expirer.expire("credit", START + timedelta(days=2))
    assert len(list(days.root.rglob("*.parquet"))) == 4
    days.clock.advance(READERS_TAKE)
    assert days.expirer.expire("credit", START + timedelta(days=2)) == 0
    assert sorted(path.name for path in (days.root / "credit").glob("day=*")) == ["day=2026-03-03", "day=2026-03-04"]


def test_nothing_goes_before_its_time_or_while_the_log_is_sealed(days: Days) -> None:
    assert days.expirer.expire("credit", START) == 0
    with holding_lock(days.root / "credit" / "seal.lock", held_message="sealing"):
        assert days.expirer.expire("credit", START + timedelta(days=9)) == 0
    assert days.expirer.expire("other", START + timedelta(days=9)) == 0
    assert days.service.count("credit") == 8


def test_other_readers_see_a_delta_table_partitioned_by_day(days: Days) -> None:
    assert days.publisher.publish("credit")
    assert not days.publisher.publish("credit")
    rows = days.read()
    assert rows["id"].to_list() == sorted(found for day in days.ids for found in day)
    assert set(rows.columns) == {*FRAME_SCHEMA, "day"}
    one = pl.scan_delta(str(days.root / "credit")).filter(pl.col("day") == pl.date(2026, 3, 2)).collect()
    assert one["id"].to_list() == days.ids[1]
    later = pl.scan_delta(str(days.root / "credit")).filter(pl.col("at") >= START + timedelta(days=2)).collect()
    assert later.height == 4


def test_the_table_follows_sealing_compaction_and_expiry(days: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    days.publisher.publish("credit")
    monkeypatch.setattr("flyball.domain.predictions.compaction.FEW_FILES", 2)
    fresh = [found for _ in range(4) for found in days.log(2)]
    days.publisher.publish("credit")
    assert days.read().height == 16
    days.clock.advance(timedelta(days=1))
    fresh += days.log(1)  # the day before had four files, which are one now
    assert days.publisher.publish("credit")
    assert set(fresh) <= set(days.read()["id"])
    assert days.read().height == 17
    days.expirer.expire("credit", START + timedelta(days=3))
    assert days.read().height == 17  # the files are still there
    assert days.publisher.publish("credit")
    assert days.read().height == 11
    days.expirer.expire("credit", START + timedelta(days=30))
    days.publisher.publish("credit")
    assert days.read().height == 0


def test_it_is_published_now_and_then(days: Days) -> None:
    days.publisher.publish_due()
    days.log(1)
    days.publisher.publish_due()
    assert days.read().height == 8
    days.clock.advance(timedelta(minutes=1))
    days.publisher.publish_due()
    assert days.read().height == 9


def test_an_endpoint_without_sealed_predictions_is_no_table(days: Days, new_record: Any) -> None:
    days.service.log.append("fresh", [new_record(endpoint="fresh")])
    days.publisher.publish_due()
    assert not (days.root / "fresh" / "_delta_log").exists()


def test_shadows_are_not_counted_as_predictions(days: Days) -> None:
    answered = days.new(1)
    days.service.log.append("credit", [answered, days.new(1, variant="shadow", shadow_of=answered.id)])
    days.service.log.rotate()
    days.service.seal()
    assert days.service.count("credit") == 9
