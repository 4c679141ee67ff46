from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flyball.core.clock import SimulatedClock
from flyball.domain.journal.service import Journal
from flyball.domain.predictions import sealing
from flyball.domain.predictions.compaction import READERS_TAKE
from flyball.domain.predictions.frames import FRAME_SCHEMA, expand_json
from flyball.domain.predictions.log import list_open_segments
from flyball.domain.predictions.records import PredictionStatus, Reason
from flyball.domain.predictions.service import PredictionService
from flyball.storage.db import Database, Transaction

NewService = Callable[[], PredictionService]


class Killed(BaseException):
    pass


def test_a_sealed_prediction_is_the_logged_one(service: PredictionService, new_record: Any) -> None:
    records = [
        new_record(1),
        new_record(
            2, status=PredictionStatus.ERROR, prediction=None, reasons=[Reason(column="", rule="m", message="x")]
        ),
        new_record(3, scores=[0.1, 0.9], stage="canary 5%", rollout="r", key={"application": "ä"}),
    ]
    service.log.append("credit", records)
    before = [service.find(record.id) for record in records]
    service.log.rotate()
    [result] = service.seal()
    assert (result.segments, result.rows, result.damaged) == (1, 3, 0)
    assert [service.find(record.id) for record in records] == before == records


def test_rows_go_to_the_day_they_were_answered(service: PredictionService, new_record: Any, tmp_path: Path) -> None:
    service.log.append("credit", [new_record(after=timedelta(days=day)) for day in (0, 1, 1)])
    service.log.rotate()
    service.seal()
    days = {path.parent.name: pl.read_parquet(path).height for path in tmp_path.rglob("*.parquet")}
    assert days == {"day=2026-03-01": 1, "day=2026-03-02": 2}


def test_what_is_logged_meanwhile_waits_for_the_next_sealing(service: PredictionService, new_record: Any) -> None:
    service.log.append("credit", [new_record()])
    service.log.rotate()
    service.log.append("credit", [new_record()])
    assert service.seal()[0].rows == 1
    assert service.seal()[0].rows == 0
    service.log.rotate()
    assert service.seal()[0].rows == 1
    assert service.count("credit") == 2


def test_the_callback_sees_each_row_once_and_shares_the_transaction(
    service: PredictionService, new_record: Any, db: Database
) -> None:
    seen: list[pl.DataFrame] = []

    def keep(tx: Transaction, frame: pl.DataFrame) -> None:
        seen.append(frame)
        tx.execute("INSERT INTO journal_cursor (name, seq) VALUES ('counted', ?)", (frame.height,))

    service.log.append("credit", [new_record(number) for number in range(5)])
    service.log.rotate()
    service.seal(on_sealed=keep)
    service.seal(on_sealed=keep)
    [frame] = seen
    assert dict(frame.schema) == FRAME_SCHEMA
    assert frame["id"].is_sorted()
    assert expand_json(frame, "features").to_dicts()[0] == {"income": 10.5, "late": 2}
    assert expand_json(frame, "features", {"late": pl.Int64(), "gone": pl.String()}).to_dicts()[0] == {
        "late": 2,
        "gone": None,
    }
    with db.read() as tx:
        assert tx.value("SELECT seq FROM journal_cursor WHERE name = 'counted'") == 5


@pytest.mark.parametrize("step", ["written", "in transaction", "committed", "half removed"])
def test_killed_between_any_two_steps_the_next_run_ends_the_same(
    new_service: NewService,
    new_record: Any,
    tmp_path: Path,
    step: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = new_service()
    first.log.append("credit", [new_record(number) for number in range(4)])
    first.log.rotate()
    first.log.append("credit", [new_record(9, after=timedelta(days=1))])
    first.log.rotate()
    counted: list[int] = []

    def count(tx: Transaction, frame: pl.DataFrame) -> None:
        if step == "in transaction" and not counted:
            counted.append(0)
            raise Killed
        tx.execute("INSERT INTO journal_cursor (name, seq) VALUES ('counted', ?)", (frame.height,))

    def die(*_args: Any) -> None:
        raise Killed

    def remove_one_and_die(paths: list[Path]) -> None:
        if paths:
            paths[0].unlink()
            raise Killed

    if step == "written":
        monkeypatch.setattr(sealing.store, "insert_segment", die)
    elif step == "committed":
        monkeypatch.setattr(sealing, "_remove", lambda paths: die() if paths else None)
    elif step == "half removed":
        monkeypatch.setattr(sealing, "_remove", remove_one_and_die)
    with pytest.raises(Killed):
        first.seal(on_sealed=count)
    monkeypatch.undo()

    second = new_service()
    second.seal(on_sealed=count)
    second.seal(on_sealed=count)
    assert second.count("credit") == second.scan("credit").collect().height == 5
    assert second.scan("credit").collect()["id"].n_unique() == 5
    assert list_open_segments(tmp_path / "predictions", "credit") == []
    assert sum(pl.read_parquet(path).height for path in tmp_path.rglob("*.parquet")) == 5


def test_damage_is_told_to_the_journal(
    service: PredictionService, new_record: Any, tmp_path: Path, db: Database, clock: SimulatedClock
) -> None:
    service.log.append("credit", [new_record(number) for number in range(3)])
    service.log.rotate()
    [segment] = list_open_segments(tmp_path / "predictions", "credit")
    data = bytearray(segment.read_bytes())
    data[50] ^= 1
    segment.write_bytes(data)
    [result] = service.seal()
    assert (result.rows, result.damaged) == (2, 1)
    [event] = Journal(db, clock).list_events(kinds=["predictions.segment.damaged"])
    assert event.data == {"lines": {segment.name: 1}}


def test_latest_counts_answered_rows_of_one_version(service: PredictionService, new_record: Any) -> None:
    for day in range(12):
        service.log.append(
            "credit",
            [new_record(day, after=timedelta(days=day)), new_record(after=timedelta(days=day), variant="shadow")],
        )
        service.log.rotate()
        service.seal()
    rows = service.latest("credit", 10)
    assert rows.height == 10
    assert rows["at"].is_sorted()
    assert set(rows["variant"]) == {"live"}
    assert service.latest("credit", 100, variant="shadow").height == 12
    assert service.latest("nothing", 5).is_empty()


def test_many_small_files_of_a_past_day_become_one(
    service: PredictionService, new_service: NewService, new_record: Any, tmp_path: Path, clock: SimulatedClock
) -> None:
    for number in range(60):
        service.log.append("credit", [new_record(number)])
        service.log.rotate()
        service.seal()
    assert len(list(tmp_path.rglob("*.parquet"))) == 60
    before = service.figures("credit")
    clock.advance(timedelta(days=1))
    morning = clock.now()
    later = [new_record(), new_record()]
    for record in later:
        service.log.append("credit", [record])
        service.log.rotate()
        service.seal()
        clock.advance(READERS_TAKE)
    assert len(list(tmp_path.rglob("*.parquet"))) == 3
    for reader in (service, new_service()):
        assert reader.figures("credit", until=morning).equals(before)
        assert reader.count("credit") == 62
        assert reader.find(str(before["id"][30])) is not None


def test_a_kill_after_compaction_leaves_no_file_twice(
    service: PredictionService, new_service: NewService, new_record: Any, tmp_path: Path, clock: SimulatedClock
) -> None:
    for number in range(60):
        service.log.append("credit", [new_record(number)])
        service.log.rotate()
        service.seal()
    clock.advance(timedelta(days=1))
    service.log.append("credit", [new_record()])
    service.log.rotate()
    service.seal()
    # The old files wait here for their removal; a new process removes them.
    assert len(list(tmp_path.rglob("*.parquet"))) == 62
    new_service().seal()
    assert len(list(tmp_path.rglob("*.parquet"))) == 2
    assert pl.read_parquet(tmp_path / "predictions" / "credit").height == 61
