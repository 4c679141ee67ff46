"""The point-in-time join beside Polars' plain asof join."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from flyball.domain.data.tables import Entity, Table
from flyball.domain.features.histories import compute_history
from flyball.domain.features.point_in_time import arrange, join_arranged, join_point_in_time
from flyball.domain.features.views import FeatureView

_FEATURE_ROWS, _LABELS, _ENTITIES = 1_000_000, 100_000, 50_000
_START = datetime(2025, 1, 1, tzinfo=UTC)


def joins(_folder: Path) -> dict[str, Any]:
    """Seconds for 100,000 labels and a million rows."""
    rng = np.random.default_rng(0)
    rows, spine = _times(rng, _FEATURE_ROWS), _times(rng, _LABELS).rename({"at": "asked_at"})
    rows = rows.with_columns(
        (pl.col("at") + pl.duration(seconds=pl.Series(rng.integers(0, 86_400 * 3, rows.height)))).alias("known"),
        *(pl.Series(f"f{number}", rng.normal(size=rows.height)) for number in range(5)),
    )
    columns = [f"f{number}" for number in range(5)]
    join = {"by": ["customer"], "time": "asked_at", "feature_time": "at", "columns": columns}
    arranged = arrange(rows.lazy(), by=["customer"], time="at", known="known").collect()

    def plain() -> None:
        right = rows.lazy().select("customer", "at", *columns).sort("at")
        left = spine.lazy().sort("asked_at")
        left.join_asof(right, left_on="asked_at", right_on="at", by="customer", check_sortedness=False).collect()

    def ours(known: str | None) -> Callable[[], object]:
        return lambda: join_point_in_time(
            spine.lazy(), rows.lazy(), **join, known=known, ttl=timedelta(days=90)
        ).collect()

    table = Table("rows.parquet", entity=Entity("customer"), time="at", known="known", name="rows")
    view = FeatureView("view", table, lambda frame: frame, timedelta(days=90))
    return {
        "feature_rows": _FEATURE_ROWS,
        "labels": _LABELS,
        "plain_join_asof_s": _best(plain),
        "join_without_known_s": _best(ours(None)),
        "join_with_known_s": _best(ours("known")),
        "join_of_a_kept_history_s": _best(
            lambda: join_arranged(spine.lazy(), arranged.lazy(), **join, ttl=timedelta(days=90)).collect()
        ),
        "compute_history_s": _best(lambda: compute_history(view, rows.lazy()), times=2),
    }


def _times(rng: np.random.Generator, rows: int) -> pl.DataFrame:
    seconds = rng.integers(0, 365 * 86_400, rows)
    return pl.DataFrame({"customer": rng.integers(0, _ENTITIES, rows), "seconds": seconds}).select(
        "customer", at=pl.lit(_START).dt.cast_time_unit("us") + pl.duration(seconds="seconds")
    )


def _best(work: Callable[[], object], times: int = 3) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return round(min(taken), 3)
