"""Aggregations over windows of a table that has grown: from its tiles, beside computing them from all rows.

A million rows of 20,000 customers over a year; then a day's rows come. ``full_s`` is what a
process that begins needs, ``grown_s`` what one needs that has the tiles of what was there before; snapshots, which
both need, are taken before. The values of both are compared.
"""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

START = datetime(2025, 1, 1, tzinfo=UTC)
ROWS, CUSTOMERS, DAYS = 1_000_000, 20_000, 365


def grow(folder: Path) -> dict[str, Any]:
    """Measure both."""
    import flyball as fb
    from flyball.core.clock import SimulatedClock
    from flyball.domain.data.service import DataService
    from flyball.domain.features.service import FeatureService
    from flyball.domain.journal.service import Journal
    from flyball.storage.blobs import LocalBlobStore
    from flyball.storage.db import Database
    from flyball.storage.online.memory import MemoryOnlineStore

    rng = np.random.default_rng(0)
    _write(folder, rng, "before", ROWS, 0, DAYS)
    table = fb.Table("payments", entity=fb.Entity("customer"), time="at", name="payments")
    view = fb.aggregate(table, {"amount": ["sum", "mean", "max"]}, over="30d", every="1d", name="recent")
    clock = SimulatedClock(START + timedelta(days=500))
    db = Database(f"sqlite:///{folder}/flyball.db")
    journal = Journal(db, clock)
    data = DataService(db, journal, clock, LocalBlobStore(folder / "blobs"), folder)

    def service() -> FeatureService:
        return FeatureService(db, journal, clock, data, MemoryOnlineStore(), folder)

    kept = service()
    kept.history(view).collect()
    _write(folder, rng, "new", ROWS // DAYS, DAYS, 1)
    data.watch(table)
    start = time.perf_counter()
    grown = kept.history(view).collect()
    grown_s = time.perf_counter() - start
    start = time.perf_counter()
    full = service().history(view).collect()
    full_s = time.perf_counter() - start
    at = ["customer", "at"]
    # Sums of the same numbers in another order may differ in their last digits.
    one, other = (frame.sort(at).select(*at, pl.selectors.float().round(6)) for frame in (grown, full))
    return {
        "rows": ROWS,
        "rows_added": ROWS // DAYS,
        "tiles": full.height,
        "full_s": round(full_s, 3),
        "grown_s": round(grown_s, 3),
        "times_faster": round(full_s / grown_s, 1),
        "is_equal": one.equals(other),
    }


def _write(folder: Path, rng: np.random.Generator, name: str, rows: int, first_day: int, days: int) -> None:
    seconds = np.sort(rng.integers(first_day * 86_400, (first_day + days) * 86_400, rows))
    frame = pl.DataFrame({"customer": rng.integers(0, CUSTOMERS, rows), "amount": rng.normal(100, 30, rows)})
    at = pl.lit(START).dt.cast_time_unit("us") + pl.duration(seconds=pl.Series(seconds))
    (folder / "payments").mkdir(exist_ok=True)
    frame.with_columns(at.alias("at")).write_parquet(folder / "payments" / f"{name}.parquet")
