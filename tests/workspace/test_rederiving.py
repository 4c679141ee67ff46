"""Served features are derived again from the tables; what the online store says wrongly is found in one cycle."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from flyball.core.clock import SimulatedClock
from flyball.core.durations import to_us
from flyball.core.ids import IdSource
from flyball.domain.monitoring.consistency import Rederived, consistency
from flyball.domain.monitoring.evaluations import Moment, evaluate_consistency
from flyball.domain.predictions.records import PredictionRecord, ViewUse
from flyball.workspace.rederiving import FeatureRederiver
from flyball.workspace.workspace import Workspace

_PROJECT = """
import flyball as fb
import polars as pl

payments = fb.Table("payments.parquet", entity=fb.Entity("customer_id"), time="paid_at", known="booked_at")


@fb.features(payments, ttl="10d")
def behaviour(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.select("customer_id", "paid_at", "days", mean=pl.col("days").cum_sum().over("customer_id") / 3)


recent = fb.aggregate(payments, {"days": ["sum", "mean"]}, over="2d", every="1h", name="recent")
"""
_START = datetime(2026, 1, 1, tzinfo=UTC)
_VERSION = "credit-risk/1"


def _hour(number: float) -> datetime:
    return _START + timedelta(hours=number)


class Life:
    """A project that answers requests for a while."""

    def __init__(self, root: Path) -> None:
        (root / "project.py").write_text(_PROJECT)
        hours = [number / 2 for number in range(400)]
        frame = pl.DataFrame(
            {
                "customer_id": [number % 7 for number in range(400)],
                "paid_at": [_hour(hour) for hour in hours],
                "booked_at": [_hour(hour + number % 30) for number, hour in enumerate(hours)],
                "days": list(range(400)),
            }
        )
        frame.write_parquet(root / "payments.parquet")
        self.clock = SimulatedClock(_hour(20))
        self.workspace = Workspace(root, root / ".flyball", clock=self.clock)
        self.views = list(self.workspace.project.views.values())
        self.ids = IdSource(self.clock)

    def serve(self, hours: int, spoil: Callable[[dict[str, Any]], None] = lambda row: None) -> None:
        features = self.workspace.features
        refs = [features.view_ref(view) for view in self.views]
        for _ in range(hours):
            self.clock.advance(timedelta(hours=1))
            for view in self.views:
                features.materialise(view)
            keys = [{"customer_id": key} for key in range(8)]
            found = features.complete(keys, refs, self.clock.now())
            for key, row, times in zip(keys, found.frame.to_dicts(), found.event_times, strict=True):
                spoil(row)
                uses = {
                    ref.name: ViewUse(
                        version=ref.version, event_time_us=to_us(times[ref.name]) if ref.name in times else None
                    )
                    for ref in refs
                }
                record = PredictionRecord(
                    id=self.ids.new(),
                    endpoint="credit",
                    at_us=to_us(self.clock.now()),
                    variant="live",
                    version=_VERSION,
                    request=msgspec.Raw(msgspec.json.encode(key)),
                    features=msgspec.Raw(msgspec.json.encode(row)),
                    views=uses,
                    prediction=0.5,
                )
                self.workspace.predictions.log.append("credit", [record])
        self.workspace.predictions.log.rotate()
        self.workspace.predictions.seal()

    def rederive(self, rows: int = 500) -> Rederived:
        source = FeatureRederiver(self.workspace.predictions, self.workspace.features, lambda version: self.views)
        found = source.of("credit")(version=_VERSION, since=_hour(0), until=_hour(999), rows=rows)
        assert found is not None
        return found


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life(tmp_path)


def test_what_was_served_is_what_the_tables_say(life: Life) -> None:
    life.serve(30)
    found = life.rederive()
    assert found == Rederived(rows=240, mismatches={}, example="")
    finding = evaluate_consistency(consistency(), found, Moment(version=_VERSION, at=_hour(99)))
    assert (finding.state, finding.value, finding.count) == ("ok", 0.0, 240)


def test_a_wrong_value_in_the_online_store_is_found_in_one_cycle_and_named(life: Life) -> None:
    def spoil(row: dict[str, Any]) -> None:
        if row["days"] is not None and row["days"] % 5 == 0:
            row["days_sum_2d"] += 1

    life.serve(10, spoil)
    found = life.rederive()
    assert list(found.mismatches) == ["days_sum_2d"]
    assert "days_sum_2d of customer_id " in found.example
    finding = evaluate_consistency(consistency(), found, Moment(version=_VERSION, at=_hour(99)))
    assert finding.state == "firing"
    assert f"{found.mismatches['days_sum_2d']} of 80 served values of days_sum_2d are not what" in finding.message


def test_an_online_store_that_is_no_longer_kept_up_is_found(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    life.serve(2)
    monkeypatch.setattr(life.workspace.features, "materialise", lambda view: None)
    life.serve(20)
    assert set(life.rederive().mismatches) == {"days", "mean", "days_sum_2d", "days_mean_2d"}


def test_a_version_without_stored_features_is_not_judged(life: Life) -> None:
    source = FeatureRederiver(life.workspace.predictions, life.workspace.features, lambda version: [])
    assert source.of("credit")(version=_VERSION, since=_hour(0), until=_hour(9), rows=5) is None
    finding = evaluate_consistency(consistency(), None, Moment(version=_VERSION, at=_hour(99)))
    assert finding.state == "not-enough-data"
