"""Finding one prediction, and labelling a few, in a log of a million. Prints one JSON line.

Beside it, as the limit: reading one row of one of the log's Parquet files whose place is known.
"""

import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl

from flyball.core.clock import SimulatedClock
from flyball.core.durations import to_us
from flyball.core.ids import IdSource
from flyball.domain.features.labels import LabelRule
from flyball.domain.journal.service import Journal
from flyball.domain.predictions.records import PredictionRecord, ViewUse
from flyball.domain.predictions.service import PredictionService
from flyball.storage.db import Database

_DAYS, _CUSTOMERS, _BATCH = 125, 200_000, 500
_RULE = LabelRule(
    spine="applications",
    table="outcomes",
    column="defaulted",
    match="entity",
    keys=("customer_id",),
    spine_time="applied_at",
    label_time="observed_at",
)


def main(predictions: int = 1_000_000) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        clock = SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
        db = Database(f"sqlite:///{root / 'flyball.db'}")
        service = PredictionService(db, Journal(db, clock), clock, root / "predictions")
        started = time.perf_counter()
        ids, seal_s = _fill(service, clock, predictions)
        fill_s = time.perf_counter() - started
        print(json.dumps(_measure(root, db, clock, ids) | {"logged_s": fill_s - seal_s, "sealed_s": seal_s}))


def _fill(service: PredictionService, clock: SimulatedClock, predictions: int) -> tuple[list[str], float]:
    rng, source, ids, seal_s = random.Random(0), IdSource(clock), [], 0.0
    for _ in range(_DAYS):
        for _ in range(predictions // _DAYS // _BATCH):
            clock.advance(timedelta(days=1) * _BATCH / (predictions // _DAYS))
            batch = [_record(rng, source.new(), to_us(clock.now())) for _ in range(_BATCH)]
            service.log.append("credit", batch)
            ids += [record.id for record in batch]
        service.log.rotate()
        started = time.perf_counter()
        service.seal()
        seal_s += time.perf_counter() - started
    return ids, seal_s


def _record(rng: random.Random, prediction_id: str, at_us: int) -> PredictionRecord:
    customer = rng.randrange(_CUSTOMERS)
    fields = {f"field{number}": rng.random() for number in range(8)}
    return PredictionRecord(
        id=prediction_id,
        endpoint="credit",
        at_us=at_us,
        time_us=at_us,
        variant="live",
        version="credit-risk/1",
        entity={"customer_id": customer},
        request=msgspec.Raw(msgspec.json.encode({"customer_id": customer, **fields})),
        features=msgspec.Raw(msgspec.json.encode({**fields, **{f"made{number}": rng.random() for number in range(7)}})),
        views={"payments": ViewUse(version="a" * 64, event_time_us=at_us - 5)},
        prediction=rng.random(),
        latency_us=900,
    )


def _measure(root: Path, db: Database, clock: SimulatedClock, ids: list[str]) -> dict[str, object]:
    rng = random.Random(1)
    log, now = root / "predictions", clock.now()

    def fresh() -> PredictionService:
        return PredictionService(db, Journal(db, clock), clock, log)

    service = fresh()
    wanted = rng.sample(ids, 100)
    found = [_time(lambda wanted_id=wanted_id: service.get(wanted_id)) for wanted_id in wanted]
    files = sorted(log.rglob("*.parquet"))
    place = files[len(files) // 2]
    known = pl.read_parquet(place, columns=["id"])["id"][100]
    limit = [_time(lambda: pl.scan_parquet(place).filter(pl.col("id") == known).collect()) for _ in range(20)]
    labels = pl.DataFrame(
        {
            "customer_id": [rng.randrange(_CUSTOMERS) for _ in range(30)],
            "defaulted": [bool(number % 2) for number in range(30)],
            "observed_at": [now] * 30,
        }
    )
    ingest = [
        _time(
            lambda day=day: service.ingest_labels(
                "credit", _RULE, labels.with_columns(observed_at=now - timedelta(days=day))
            )
        )
        for day in range(10)
    ]
    since = now - timedelta(days=30)
    cold = _time(lambda: fresh().labelled("credit", since))
    service.labelled("credit", since)
    warm = [_time(lambda: service.labelled("credit", since)) for _ in range(5)]
    return {
        "benchmark": "trace",
        "predictions": len(ids),
        "files": len(files),
        "megabytes": sum(path.stat().st_size for path in files) / 1e6,
        "database_megabytes": (root / "flyball.db").stat().st_size / 1e6,
        "find_ms": statistics.median(found),
        "find_slowest_ms": max(found),
        "limit_row_of_a_known_file_ms": statistics.median(limit),
        "find_nothing_ms": _time(lambda: service.find("0" * 26)),
        "ingest_30_labels_ms": statistics.median(ingest),
        "labelled_30_days_first_ms": cold,
        "labelled_30_days_ms": statistics.median(warm),
    }


def _time(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1_000


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
