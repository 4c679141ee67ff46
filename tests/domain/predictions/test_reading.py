"""However many files there are, only those that are needed are read, and some at a time."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from tests.domain.predictions.conftest import START, NewRecord

from flyball.core.clock import SimulatedClock
from flyball.domain.predictions import reading
from flyball.domain.predictions.labels import GivenLabel
from flyball.domain.predictions.records import PredictionRecord
from flyball.domain.predictions.service import PredictionService

FILES, ROWS = 6, 10


@pytest.fixture
def records(service: PredictionService, new_record: NewRecord, clock: SimulatedClock) -> list[list[PredictionRecord]]:
    """Predictions in six files, an hour apart; the candidate answers every fifth, and runs beside it in the last."""
    files = []
    for number in range(FILES):
        clock.advance_to(START + timedelta(hours=number))
        rows = [new_record(at, variant="live" if at % 5 else "canary") for at in range(ROWS)]
        if number == FILES - 1:
            rows += [new_record(at, variant="shadow", shadow_of=row.id, version="m/2") for at, row in enumerate(rows)]
        service.log.append("credit", rows)
        service.log.rotate()
        service.seal("credit")
        files.append(rows)
    return files


@pytest.fixture(params=[1, 25, 100_000], autouse=True)
def rows_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_AT_ONCE", request.param)


def test_labels_are_found_without_the_files_that_have_none(
    tmp_path: Path,
    service: PredictionService,
    new_service: Callable[[], PredictionService],
    records: list[list[PredictionRecord]],
) -> None:
    labelled = [records[1][3].id, records[1][5].id, records[4][0].id, records[5][2].id]
    service.add_labels([GivenLabel(prediction_id=prediction_id, value=1) for prediction_id in labelled])
    fresh = new_service()  # remembers nothing of the files
    files = sorted((tmp_path / "predictions").rglob("*.parquet"))
    for number in (0, 2, 3):
        files[number].unlink()
    assert fresh.labelled("credit")["id"].to_list() == labelled
    assert fresh.labelled("credit", variant="canary")["id"].to_list() == [records[1][5].id, records[4][0].id]
    assert fresh.labelled("credit", version="m/2")["shadow_of"].to_list() == [records[5][2].id]
    assert fresh.labelled("credit", START + timedelta(hours=2))["id"].to_list() == labelled[2:]


def test_a_sample_is_of_files_spread_over_the_time(
    service: PredictionService, records: list[list[PredictionRecord]]
) -> None:
    whole = service.figures("credit", START)
    assert whole.height == FILES * ROWS
    assert service.sample_figures("credit", START, most=1_000).equals(whole)
    some = service.sample_figures("credit", START, most=25)
    assert some["id"].to_list() == [record.id for number in (0, 3) for record in records[number]]
    assert service.count_answered("credit", START, None, version="m/2") == ROWS
    assert service.latest("credit", 15)["id"].to_list() == whole["id"].to_list()[-15:]
