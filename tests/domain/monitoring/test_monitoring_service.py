"""From sealed predictions to findings, alerts and events, over a real database."""

import io
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from tests.domain.monitoring.traffic import draw_features, make_baseline, make_records, spread, to_frame

from flyball.core.clock import SimulatedClock
from flyball.core.errors import InvalidInputError
from flyball.domain.data.profiles import Profile
from flyball.domain.journal.service import Journal
from flyball.domain.monitoring.attributions import Attributed, AttributionSource, attribution_drift
from flyball.domain.monitoring.courier import ALERT_RAISED, ALERT_RESOLVED, Courier
from flyball.domain.monitoring.distributions import Baseline
from flyball.domain.monitoring.findings import Finding
from flyball.domain.monitoring.guards import compare_variants
from flyball.domain.monitoring.monitors import (
    Monitor,
    drift,
    performance,
    prediction_drift,
    prediction_mean,
    quality,
    service,
)
from flyball.domain.monitoring.service import MonitoringService
from flyball.domain.predictions.records import PredictionRecord, PredictionStatus
from flyball.notifiers.console import ConsoleNotifier
from flyball.storage.db import Database

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Home:
    def __init__(self, folder: Path) -> None:
        self.db = Database(f"sqlite:///{folder}/flyball.db")
        self.clock = SimulatedClock(START)
        self.journal = Journal(self.db, self.clock)
        self.told = 0
        self.monitoring = MonitoringService(self.db, self.journal, self.clock, on_alert=self._count)
        self.baselines = {"credit-risk/1": make_baseline()}
        self.random = np.random.default_rng(11)

    def _count(self) -> None:
        self.told += 1

    def seal(self, records: list[PredictionRecord]) -> None:
        with self.db.begin() as tx:
            self.monitoring.observe(tx, to_frame(records), self.baselines.get)

    def serve(self, start: datetime, rows: int = 100, *, shift: float = 0.0, **more: Any) -> None:
        """Serve an hour of traffic and seal it."""
        features = draw_features(self.random, rows, shift=shift)
        self.seal(make_records(features, spread(start, HOUR, rows), **more))

    def evaluate(self, *monitors: Monitor, at: datetime, **more: Any) -> list[Finding]:
        self.clock.advance_to(at)
        baseline = more.pop("baseline", self.baselines["credit-risk/1"])
        return self.monitoring.evaluate("credit", monitors, baseline, at=at, **more)

    def events(self) -> list[str]:
        kinds = {ALERT_RAISED: "raised", ALERT_RESOLVED: "resolved"}
        return [kinds[event.kind] for event in self.journal.list_events(kinds=list(kinds))]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    found = Home(tmp_path)
    yield found
    found.db.close()


def test_a_fresh_endpoint_has_not_enough_data(home: Home) -> None:
    monitors = (drift(), prediction_mean(), quality(nulls=0.1), service(errors=0.1))
    findings = home.evaluate(*monitors, at=START)
    assert {finding.state for finding in findings} == {"not-enough-data"}
    assert findings[0].message == "0 rows so far, 200 are needed to judge"


def test_a_month_without_drift_is_quiet(home: Home) -> None:
    for hour in range(0, 30 * 24, 6):
        home.serve(START + hour * HOUR, rows=80)
        home.evaluate(drift(), quality(nulls=0.05, out_of_range=0.05), prediction_mean(), at=START + (hour + 6) * HOUR)
    assert home.events() == []


def test_drift_is_found_named_and_told_once(home: Home) -> None:
    for hour in range(24):
        home.serve(START + hour * HOUR, rows=40, shift=0.8)
        home.evaluate(drift(), at=START + (hour + 1) * HOUR)
    assert home.events() == ["raised"]
    assert home.told == 1
    [event] = home.journal.list_events(kinds=[ALERT_RAISED])
    assert event.subject == "endpoint/credit"
    assert event.data["monitor"] == "drift"
    assert event.data["worst"] == "income"
    assert event.data["value"] > event.data["limit"] >= 0.2
    assert event.data["message"].startswith("income has an index of")
    assert "in training" in event.data["message"]
    [alert] = home.monitoring.alerts("credit")
    assert (alert.family, alert.raised_by, alert.is_raised) == ("drift", event.seq, True)


def test_an_alert_goes_its_whole_way_to_a_notifier(home: Home) -> None:
    home.serve(START, rows=400, shift=1.0)
    home.evaluate(drift(), at=START + HOUR)
    stream = io.StringIO()
    Courier(home.db, home.journal, home.clock, {"console": ConsoleNotifier(stream=stream)}).deliver()
    assert stream.getvalue().startswith("2026-03-01T01:00:00Z ALERT credit drift: income has an index of")


def test_drift_ends_when_the_window_has_moved_on(home: Home) -> None:
    home.serve(START, rows=400, shift=1.0)
    home.evaluate(drift(), at=START + HOUR)
    for hour in range(24, 54):
        home.serve(START + hour * HOUR, rows=40)
        home.evaluate(drift(), at=START + (hour + 1) * HOUR)
    assert home.events() == ["raised", "resolved"]
    assert home.monitoring.alerts("credit") == []
    resolved = home.journal.list_events(kinds=[ALERT_RESOLVED])[0]
    assert resolved.cause == home.journal.list_events(kinds=[ALERT_RAISED])[0].seq


def test_after_retraining_the_new_versions_profile_is_the_reference(home: Home) -> None:
    home.serve(START, rows=400, shift=1.0)
    [before] = home.evaluate(drift(), at=START + HOUR)
    assert before.state == "firing"
    home.baselines["credit-risk/2"] = make_baseline("credit-risk/2", shift=1.0)
    home.serve(START + HOUR, rows=400, shift=1.0, version="credit-risk/2")
    [after] = home.evaluate(drift(), at=START + 2 * HOUR, baseline=home.baselines["credit-risk/2"])
    assert (after.state, after.version) == ("ok", "credit-risk/2")
    assert home.events() == ["raised", "resolved"]


def test_a_column_that_breaks_upstream_is_found_by_its_nulls(home: Home) -> None:
    features = draw_features(home.random, 500).with_columns(
        pl.when(pl.int_range(500) % 2 == 0).then(pl.col("income")).alias("income")
    )
    home.seal(make_records(features, spread(START, HOUR, 500)))
    found = home.evaluate(drift(["income"], prediction=False), quality(nulls=0.05), at=START + HOUR)
    assert [finding.state for finding in found] == ["firing", "firing"]
    assert "50% missing, 0% in training" in found[0].message
    assert found[1].worst == "income"
    assert found[1].value == pytest.approx(0.5)


def test_only_the_named_columns_are_watched(home: Home) -> None:
    home.serve(START, rows=500, shift=1.0)
    [inputs, outputs] = home.evaluate(drift(["age", "purpose"], prediction=False), prediction_drift(), at=START + HOUR)
    assert (inputs.state, outputs.state) == ("ok", "firing")
    assert set(inputs.scores) == {"age", "purpose"}
    assert set(outputs.scores) == {"prediction"}


def test_values_outside_the_training_range_are_counted(home: Home) -> None:
    features = draw_features(home.random, 300).with_columns(
        pl.when(pl.int_range(300) < 60).then(-8.0).otherwise(pl.col("age")).alias("age")
    )
    home.seal(make_records(features, spread(START, HOUR, 300)))
    [found] = home.evaluate(quality(out_of_range=0.1), at=START + HOUR)
    assert (found.state, found.worst) == ("firing", "age")
    assert found.value == pytest.approx(0.2)


def test_refusals_and_quarantines_are_counted(home: Home) -> None:
    home.serve(START, rows=80)
    home.serve(START, rows=15, status=PredictionStatus.REFUSED, first=1_000)
    home.serve(START, rows=5, status=PredictionStatus.QUARANTINED, first=2_000)
    [found] = home.evaluate(quality(refused=0.1, quarantined=0.1), at=START + HOUR)
    assert (found.state, found.worst, found.scores) == ("firing", "refused", {"refused": 0.15, "quarantined": 0.05})


def test_service_figures_are_of_the_answered_not_of_shadows(home: Home) -> None:
    at = START + 4 * timedelta(minutes=1)
    for status, variant, rows, first in (
        ("ok", "live", 95, 0),
        ("error", "live", 5, 200),
        ("error", "shadow", 90, 300),
    ):
        features = draw_features(home.random, rows)
        times = spread(START, timedelta(minutes=4), rows)
        home.seal(make_records(features, times, status=PredictionStatus(status), variant=variant, first=first))
    [found] = home.evaluate(service(errors=0.02, p99="50ms"), at=at)
    assert (found.state, found.worst, found.value) == ("firing", "errors", pytest.approx(0.05))
    assert found.scores["p99_ms"] == pytest.approx(2, rel=0.13)


def test_slow_answers_are_found(home: Home) -> None:
    features = draw_features(home.random, 100)
    slow = [100_000 if number % 20 == 0 else 1_000 for number in range(100)]
    home.seal(make_records(features, spread(START, timedelta(minutes=4), 100), latency_us=slow))
    [found] = home.evaluate(service(p99="50ms"), at=START + timedelta(minutes=4))
    assert (found.state, found.worst) == ("firing", "p99_ms")
    assert found.value == pytest.approx(100, rel=0.13)


def test_the_mean_of_the_last_hundred_is_watched_as_predictions_come(home: Home) -> None:
    monitor = prediction_mean(last=100, off_by=0.20)
    home.serve(START, rows=99)
    assert home.evaluate(monitor, at=START + HOUR)[0].state == "not-enough-data"
    home.serve(START + HOUR, rows=5, first=200)
    assert home.evaluate(monitor, at=START + HOUR) == [], "fewer than a tenth are new"
    home.serve(START + 2 * HOUR, rows=100, first=300)
    [fine] = home.evaluate(monitor, at=START + 3 * HOUR)
    assert fine.state == "ok"
    assert fine.since == START + 2 * HOUR
    home.serve(START + 3 * HOUR, rows=100, shift=0.8, first=500)
    [off] = home.evaluate(monitor, at=START + 4 * HOUR)
    assert off.state == "firing"
    assert "the mean of the last 100 predictions is" in off.message
    assert "below the training mean" in off.message


def test_predictions_sealed_late_take_their_place_among_the_newest(home: Home) -> None:
    home.serve(START + 5 * HOUR, rows=100, first=500)
    home.serve(START, rows=100, shift=2.0, first=0)
    [found] = home.evaluate(prediction_mean(), at=START + 6 * HOUR)
    assert (found.state, found.since) == ("ok", START + 5 * HOUR)


def test_rows_sealed_late_land_in_the_window_of_their_own_time(home: Home) -> None:
    home.serve(START + 48 * HOUR, rows=300, first=1_000)
    home.serve(START, rows=300, shift=1.0)
    [today] = home.evaluate(drift(), at=START + 49 * HOUR)
    assert (today.state, today.count) == ("ok", 300), "minutes of two days ago are not kept, hours are"
    past = home.monitoring.window("credit", START, START + 10 * HOUR, version="credit-risk/1")
    assert past.rows == 300


def test_what_was_rolled_back_with_its_segment_is_not_counted(home: Home) -> None:
    with pytest.raises(ZeroDivisionError), home.db.begin() as tx:
        records = make_records(draw_features(home.random, 10), spread(START, HOUR, 10))
        home.monitoring.observe(tx, to_frame(records), home.baselines.get)
        raise ZeroDivisionError
    assert home.monitoring.window("credit", START, START + HOUR).rows == 0


def _labelled(share: float, rows: int = 400) -> Any:
    """Labels that fit the predictions in the given share of rows."""
    random = np.random.default_rng(3)
    predictions = random.random(rows)
    labels = np.where(random.random(rows) < share, predictions > 0.5, predictions <= 0.5).astype(float)
    asked: list[dict[str, Any]] = []

    def source(**question: Any) -> pl.DataFrame:
        asked.append(question)
        return pl.DataFrame({"prediction": predictions, "label": labels})

    source.asked = asked  # type: ignore[attr-defined]
    return source


def test_performance_is_judged_over_labels_that_became_known_in_the_window(home: Home) -> None:
    monitor = performance("auc", at_least=0.68)
    good, bad = _labelled(0.9), _labelled(0.5)
    [fine] = home.evaluate(monitor, at=START, labelled=good)
    assert fine.state == "ok"
    assert good.asked == [{"version": "credit-risk/1", "known_since": START - 30 * DAY, "as_of": START}]
    assert home.evaluate(monitor, at=START + HOUR, labelled=good) == [], "the window has not moved yet"
    [worse] = home.evaluate(monitor, at=START + DAY, labelled=bad)
    assert worse.state == "firing"
    assert "auc is 0.5" in worse.message
    assert "over 400 labels; at least 0.68 is good" in worse.message
    assert home.monitoring.alerts("credit")[0].family == "performance"


def test_few_labels_decide_nothing(home: Home) -> None:
    [found] = home.evaluate(performance("auc", at_least=0.68), at=START, labelled=_labelled(0.1, rows=99))
    assert (found.state, found.message) == ("not-enough-data", "99 labels, 100 are needed to judge")


def test_text_labels_are_the_classes_of_the_model(home: Home) -> None:
    baseline = home.baselines["credit-risk/1"]
    signature = msgspec.structs.replace(baseline.signature, task="multiclass", classes=("low", "mid", "high"))
    rows = pl.DataFrame(
        {
            "prediction": [0.0, 1.0, 2.0] * 50,
            "scores": [[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]] * 50,
            "label": ["low", "mid", "mid"] * 50,
        }
    )
    [found] = home.evaluate(
        performance("accuracy", at_least=0.9),
        at=START,
        baseline=msgspec.structs.replace(baseline, signature=signature),
        labelled=lambda **_: rows,
    )
    assert (found.state, found.value) == ("firing", pytest.approx(2 / 3))


def test_the_series_keeps_one_point_a_step_with_each_columns_score(home: Home) -> None:
    for minute in range(0, 5 * 60, 10):
        at = START + minute * timedelta(minutes=1)
        features = draw_features(home.random, 30)
        home.seal(make_records(features, [at] * 30, first=minute * 100))
        home.evaluate(drift(), at=at)
    points = home.monitoring.series("credit", "drift")
    assert [point.at.hour for point in points] == [0, 1, 2, 3, 4]
    assert set(points[-1].scores) == {"income", "age", "purpose", "prediction"}
    assert home.monitoring.series("credit", limit=1) == points[-1:]
    assert home.monitoring.series("credit", since=points[2].at, until=points[3].at) == points[2:4]


def test_two_monitors_of_one_name_are_refused(home: Home) -> None:
    with pytest.raises(InvalidInputError, match="two monitors"):
        home.evaluate(drift(), drift(), at=START)


def test_a_stage_gives_the_counts_that_guards_compare(home: Home) -> None:
    home.baselines["credit-risk/2"] = make_baseline("credit-risk/2")
    home.serve(START, rows=900)
    home.serve(START, rows=40, version="credit-risk/2", variant="canary", first=1_000)
    home.serve(START, rows=60, version="credit-risk/2", variant="canary", status=PredictionStatus.ERROR, first=2_000)
    live, canary = (
        home.monitoring.variant_counts("credit", version, variant, START, START + HOUR)
        for version, variant in (("credit-risk/1", "live"), ("credit-risk/2", "canary"))
    )
    assert (live.requests, live.errors, canary.requests, canary.errors) == (900, 0, 100, 60)
    assert compare_variants(live, canary).state == "worse"


def test_a_version_without_a_package_is_counted_but_not_compared(home: Home) -> None:
    home.serve(START, rows=300, version="credit-risk/9")
    assert home.monitoring.window("credit", START, START + HOUR).rows == 300
    unknown: Baseline = make_baseline("credit-risk/9")
    [found] = home.evaluate(drift(), at=START + HOUR, baseline=unknown)
    assert found.state == "not-enough-data"


def test_minutes_are_forgotten_and_hours_kept(home: Home) -> None:
    for day in range(6):
        home.serve(START + day * DAY, rows=60, first=day * 100)
    with home.db.read() as tx:
        sizes = dict(tx.rows("SELECT size_us, count(*) FROM monitoring_tile GROUP BY size_us"))
    assert sizes[3_600_000_000] == 6
    assert sizes[60_000_000] <= 3 * 60
    assert home.monitoring.window("credit", START, START + 6 * DAY).rows == 360


def test_a_tick_with_nothing_due_costs_less_than_a_millisecond(home: Home) -> None:
    monitors = (drift(), prediction_mean(), quality(nulls=0.1), performance("auc", at_least=0.6))
    home.serve(START, rows=300)
    home.evaluate(*monitors, at=START + HOUR, labelled=_labelled(0.9))
    began = time.process_time()
    for second in range(200):
        found = home.evaluate(*monitors, at=START + HOUR + timedelta(seconds=second), labelled=_labelled)
        assert found == []
    assert (time.process_time() - began) / 200 < 0.001


def test_counts_of_versions_with_other_bins_stand_side_by_side(home: Home) -> None:
    few_bins = make_baseline("credit-risk/2")
    columns = dict(few_bins.profile.features.columns)
    income = columns["income"]
    columns["income"] = msgspec.structs.replace(
        income, edges=income.edges[1:], cells=(income.cells[0] + income.cells[1], *income.cells[2:])
    )
    features = msgspec.structs.replace(few_bins.profile.features, columns=columns)
    home.baselines["credit-risk/2"] = msgspec.structs.replace(
        few_bins, profile=msgspec.structs.replace(few_bins.profile, features=features)
    )
    home.serve(START)
    home.serve(START + HOUR, version="credit-risk/2", first=1_000)
    [found] = home.evaluate(quality(nulls=0.1, refused=0.1), at=START + 2 * HOUR)
    assert found.count == 200 and found.state == "ok"


def test_the_last_of_one_instant_are_the_last_answered_not_the_highest(home: Home) -> None:
    features = draw_features(home.random, 40)
    records = make_records(features, [START] * 40)
    home.seal(records)
    [found] = home.evaluate(prediction_mean(last=10, off_by=0.01), at=START + HOUR)
    last = [record.prediction for record in records[-10:] if record.prediction is not None]
    assert found.message.count(f"{np.mean(last):.4g}") == 1


def test_attributions_that_move_are_found_and_named(home: Home) -> None:
    def attributed(shift: float) -> AttributionSource:
        def read(*, version: str, since: datetime, until: datetime) -> Attributed | None:
            assert (version, until - since) == ("credit-risk/1", DAY)
            rows = pl.DataFrame({"income": home.random.normal(shift, 1, 500), "age": home.random.normal(0, 1, 500)})
            return Attributed(reference=reference, rows=rows)

        return read

    before = pl.DataFrame({"income": home.random.normal(0, 1, 1000), "age": home.random.normal(0, 1, 1000)})
    reference = Profile.of(before)
    [waiting] = [home.evaluate(attribution_drift(), at=START + HOUR)]
    assert waiting == [], "nobody gives attributions"
    [calm] = home.evaluate(attribution_drift(), at=START + HOUR, attributed=attributed(0.0))
    assert (calm.state, set(calm.scores)) == ("ok", {"income", "age"})
    [found] = home.evaluate(attribution_drift(), at=START + 3 * HOUR, attributed=attributed(1.5))
    assert (found.state, found.worst, found.family) == ("firing", "income", "drift")
    assert found.message.startswith("the attribution of income has an index of")
    [of_age] = home.evaluate(attribution_drift(["age"]), at=START + 5 * HOUR, attributed=attributed(1.5))
    assert of_age.state == "ok"
    [unknown] = home.evaluate(attribution_drift(), at=START + 7 * HOUR, attributed=lambda **_: None)
    assert (unknown.state, "cannot be explained" in unknown.message) == ("not-enough-data", True)
