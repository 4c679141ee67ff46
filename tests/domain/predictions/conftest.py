from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flyball.core.clock import SimulatedClock
from flyball.core.durations import to_us
from flyball.core.ids import IdSource
from flyball.domain.journal.service import Journal
from flyball.domain.predictions.records import PredictionRecord, ViewUse
from flyball.domain.predictions.service import PredictionService
from flyball.storage.db import Database

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
NewRecord = Callable[..., PredictionRecord]


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(START)


@pytest.fixture
def db(tmp_path: Path) -> Database:
    return Database(f"sqlite:///{tmp_path / 'flyball.db'}")


@pytest.fixture
def new_service(tmp_path: Path, db: Database, clock: SimulatedClock) -> Callable[[], PredictionService]:
    return lambda: PredictionService(db, Journal(db, clock), clock, tmp_path / "predictions")


@pytest.fixture
def service(new_service: Callable[[], PredictionService]) -> PredictionService:
    return new_service()


@pytest.fixture
def new_record(clock: SimulatedClock) -> NewRecord:
    ids = IdSource(clock)

    def make(customer: int = 1, after: timedelta = timedelta(), **changes: Any) -> PredictionRecord:
        at_us = to_us(clock.now() + after)
        fields: dict[str, Any] = {
            "id": ids.new(),
            "endpoint": "credit",
            "at_us": at_us,
            "time_us": at_us,
            "variant": "live",
            "version": "credit-risk/1",
            "entity": {"customer_id": customer},
            "request": msgspec.Raw(msgspec.json.encode({"customer_id": customer, "income": 10.5})),
            "features": msgspec.Raw(msgspec.json.encode({"income": 10.5, "late": 2})),
            "views": {"payments": ViewUse(version="abc", event_time_us=at_us - 5)},
            "prediction": 0.25,
            "latency_us": 900,
        }
        return PredictionRecord(**(fields | changes))

    return make
