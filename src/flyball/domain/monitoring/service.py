"""The one way into what is watched: counts in, findings and alerts out."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from math import isfinite, sqrt
from operator import itemgetter

import msgspec
import polars as pl

from flyball.core.clock import Clock
from flyball.core.durations import format_instant, from_us, to_us
from flyball.core.encoding import to_json
from flyball.domain.journal.service import Journal
from flyball.domain.monitoring import store
from flyball.domain.monitoring.alerts import Alert, Change, advance_alert
from flyball.domain.monitoring.attributions import AttributionSource, compare_attributions
from flyball.domain.monitoring.consistency import ConsistencySource
from flyball.domain.monitoring.courier import ALERT_RAISED, ALERT_RESOLVED
from flyball.domain.monitoring.distributions import (
    Baseline,
    ColumnChange,
    compare_inputs,
    compare_outputs,
    read_labelled,
)
from flyball.domain.monitoring.evaluations import (
    Moment,
    evaluate_consistency,
    evaluate_drift,
    evaluate_no_attributions,
    evaluate_performance,
    evaluate_prediction_mean,
    evaluate_quality,
    evaluate_service,
)
from flyball.domain.monitoring.findings import Finding
from flyball.domain.monitoring.guards import VariantCounts
from flyball.domain.monitoring.label_sources import LabelSource
from flyball.domain.monitoring.monitors import (
    MOST_RECENT,
    AttributionDrift,
    Consistency,
    Drift,
    Monitor,
    Performance,
    PredictionDrift,
    PredictionMean,
    Quality,
    Service,
    check_names,
)
from flyball.domain.monitoring.performance import Estimate, compute_metric
from flyball.domain.monitoring.windows import (
    HOUR_US,
    MINUTE_US,
    BaselineOf,
    Tile,
    TilePlace,
    choose_size_us,
    cover,
    make_tiles,
    sum_tiles,
)
from flyball.domain.predictions.records import PredictionStatus
from flyball.storage.db import Database, Transaction

# Answered by versions that routing did not pick: no part of what an endpoint's users met.
_ASIDE = ("shadow", "pinned")
_MINUTES_KEPT_US = 48 * HOUR_US
_COUNT_STEPS = 10
_read_tile = msgspec.json.Decoder(Tile).decode


class MonitoringService:
    """Counts what was served, evaluates monitors when they are due, and raises alerts.

    Args:
        db: Where counts, findings and alerts are kept.
        journal: Is told of alerts.
        clock: The present.
        on_alert: Called after alerts were raised or resolved and that is durable, such as ``courier.wake``.
    """

    def __init__(
        self, db: Database, journal: Journal, clock: Clock, *, on_alert: Callable[[], None] | None = None
    ) -> None:
        self._db = db
        self._journal = journal
        self._clock = clock
        self._on_alert = on_alert or (lambda: None)

    # counts

    def observe(self, tx: Transaction, frame: pl.DataFrame, baseline_of: BaselineOf) -> None:
        """Count sealed predictions in the transaction that seals them, so that each counts exactly once.

        Args:
            tx: The transaction that seals.
            frame: Rows of the prediction log (`records.FRAME_SCHEMA`), in any order.
            baseline_of: Gives the baseline of each version in them.
        """
        endpoints = frame["endpoint"].unique().to_list()
        for endpoint in endpoints:
            rows = frame.filter(pl.col("endpoint") == endpoint) if len(endpoints) > 1 else frame
            _add_tiles(tx, endpoint, make_tiles(rows, baseline_of))
            _add_newest(tx, endpoint, rows)

    def window(
        self,
        endpoint: str,
        since: datetime,
        until: datetime,
        *,
        version: str | None = None,
        variant: str | None = None,
    ) -> Tile:
        """Return the counts of [since, until], widened to whole tiles: minutes under six hours, else hours.

        Shadows and pinned versions are left out unless a version or their variant is asked for.
        """
        with self._db.read() as tx:
            return _Windows(tx, endpoint).sum(since, until, version=version, variant=variant)

    def variant_counts(
        self,
        endpoint: str,
        version: str,
        variant: str,
        since: datetime,
        until: datetime,
        *,
        metric: Estimate | None = None,
    ) -> VariantCounts:
        """Return what `guards.compare_variants` takes of one variant, such as since a rollout's stage began."""
        tile = self.window(endpoint, since, until, version=version, variant=variant)
        mean = tile.total / tile.predicted if tile.predicted else None
        variance = max(tile.squares / tile.predicted - mean * mean, 0.0) if mean is not None else None
        return VariantCounts(
            requests=tile.ended(PredictionStatus.OK) + tile.ended(PredictionStatus.ERROR),
            errors=tile.ended(PredictionStatus.ERROR),
            latencies=tile.latencies,
            predictions=tile.predicted,
            prediction_mean=mean,
            prediction_std=None if variance is None else sqrt(variance),
            metric=metric,
        )

    # findings

    def evaluate(
        self,
        endpoint: str,
        monitors: Sequence[Monitor],
        baseline: Baseline,
        *,
        at: datetime | None = None,
        labelled: LabelSource | None = None,
        attributed: AttributionSource | None = None,
        rederived: ConsistencySource | None = None,
    ) -> list[Finding]:
        """Evaluate the monitors that are due; keep what they find, and raise or resolve their alerts.

        A monitor over time is due once in each `step` of its window, one by count when a tenth of its predictions
        is new. Calling this often costs one small query.

        Args:
            endpoint: Where.
            monitors: As declared.
            baseline: The live version and its profile: after a promotion the new one's.
            at: The present; the clock's by default.
            labelled: Gives labelled predictions; without it performance monitors wait.
            attributed: Gives attributions of predictions; without it monitors of attributions wait.
            rederived: Derives served features again; without it monitors of consistency wait.

        Returns:
            What was found now, in the order of ``monitors``; nothing for those not due.

        Raises:
            InvalidInputError: Two monitors have one name.
        """
        check_names(monitors)
        at = at or self._clock.now()
        with self._db.read() as tx:
            marks = store.list_marks(tx, endpoint)
            due = [
                monitor
                for monitor in monitors
                if (labelled is not None or not isinstance(monitor, Performance))
                and (attributed is not None or not isinstance(monitor, AttributionDrift))
                and (rederived is not None or not isinstance(monitor, Consistency))
                and _is_due(tx, endpoint, baseline.version, monitor, marks.get(monitor.name), at)
            ]
            if not due:
                return []
            seen = store.last_recent(tx)
            windows = _Windows(tx, endpoint)
            counted = [_evaluate(windows, monitor, baseline, at) for monitor in due]
        # What other rooms know is read outside the transaction, because they open their own.
        findings = [
            found or _evaluate_outside(monitor, baseline, at, labelled, attributed, rederived)
            for monitor, found in zip(due, counted, strict=True)
        ]
        self._keep(endpoint, due, findings, store.Mark(to_us(at), seen))
        return findings

    def series(
        self,
        endpoint: str,
        monitor: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> list[Finding]:
        """Return what monitors found over time, oldest first; with ``limit`` only the newest points."""
        with self._db.read() as tx:
            return store.list_findings(tx, endpoint, monitor, since, until, limit)

    def alerts(self, endpoint: str | None = None, *, raised_only: bool = True) -> list[Alert]:
        """Return the alerts that are raised now, or with ``raised_only=False`` the state of every monitor's."""
        with self._db.read() as tx:
            return store.list_alerts(tx, endpoint, raised_only=raised_only)

    def _keep(self, endpoint: str, monitors: Sequence[Monitor], findings: Sequence[Finding], mark: store.Mark) -> None:
        changed = False
        with self._db.begin() as tx:
            alerts = {alert.monitor: alert for alert in store.list_alerts(tx, endpoint)}
            for monitor, finding in zip(monitors, findings, strict=True):
                before = alerts.get(monitor.name) or Alert(
                    endpoint=endpoint,
                    monitor=monitor.name,
                    kind=monitor.kind,
                    family=monitor.family,
                    version=finding.version,
                )
                alert, changes = advance_alert(before, finding, monitor.cool_down)
                for change in changes:
                    alert = self._tell(tx, alert, change, finding)
                store.put_finding(tx, endpoint, finding)
                store.put_alert(tx, alert, mark)
                changed = changed or bool(changes)
        if changed:
            self._on_alert()

    def _tell(self, tx: Transaction, alert: Alert, change: Change, finding: Finding) -> Alert:
        data = {
            "monitor": alert.monitor,
            "kind": alert.kind,
            "family": alert.family,
            "version": finding.version,
            "message": change.reason,
            "value": finding.value,
            "limit": finding.limit,
            "worst": finding.worst,
            "count": finding.count,
            "since": None if finding.since is None else format_instant(finding.since),
            "until": format_instant(finding.until or finding.at),
        }
        is_raise = change.what == "raised"
        event = self._journal.append(
            tx,
            ALERT_RAISED if is_raise else ALERT_RESOLVED,
            f"endpoint/{alert.endpoint}",
            data,
            event_time=finding.at,
            actor="monitoring",
            cause=None if is_raise else alert.raised_by,
        )
        return msgspec.structs.replace(alert, raised_by=event.seq) if is_raise else alert


class _Windows:
    """Sums of one endpoint's tiles in one transaction, each time range read once."""

    def __init__(self, tx: Transaction, endpoint: str) -> None:
        self.tx = tx
        self.endpoint = endpoint
        self._read: dict[tuple[int, int, int], list[tuple[TilePlace, str]]] = {}

    def sum(self, since: datetime, until: datetime, *, version: str | None = None, variant: str | None = None) -> Tile:
        size_us = choose_size_us(to_us(until) - to_us(since))
        begin, end = cover(since, until, size_us)
        key = (size_us, begin, end)
        if key not in self._read:
            self._read[key] = store.list_tiles(self.tx, self.endpoint, *key)
        tiles = (
            _read_tile(counts)
            for place, counts in self._read[key]
            if (version is None or place.version == version)
            and (variant == place.variant if variant is not None else version or place.variant not in _ASIDE)
        )
        if version is None:
            # Each version counts in the bins of its own profile, which do not add up with another's.
            tiles = (msgspec.structs.replace(tile, inputs=None, outputs=None) for tile in tiles)
        return sum_tiles(tiles)


def _add_tiles(tx: Transaction, endpoint: str, tiles: Mapping[TilePlace, Tile]) -> None:
    for size_us in (MINUTE_US, HOUR_US):
        new = {place: tile for place, tile in tiles.items() if place.size_us == size_us}
        if size_us == MINUTE_US:
            newest = max(store.find_newest_tile(tx, endpoint, size_us) or 0, *(place.start_us for place in new))
            oldest_kept = newest - _MINUTES_KEPT_US
            new = {place: tile for place, tile in new.items() if place.start_us >= oldest_kept}
            store.delete_tiles_before(tx, endpoint, size_us, oldest_kept)
        if not new:
            continue
        starts = [place.start_us for place in new]
        before = dict(store.list_tiles(tx, endpoint, size_us, min(starts), max(starts) + 1))
        merged = {
            place: to_json(_read_tile(before[place]) + tile if place in before else tile).decode()
            for place, tile in new.items()
        }
        store.put_tiles(tx, endpoint, merged)


def _add_newest(tx: Transaction, endpoint: str, rows: pl.DataFrame) -> None:
    newest: dict[str, list[tuple[int, float]]] = {}
    names = ("version", "variant", "status", "prediction")
    columns = [rows[name].to_list() for name in names]
    for at_us, version, variant, status, prediction in zip(rows["at"].dt.epoch("us").to_list(), *columns, strict=True):
        if status == PredictionStatus.OK and variant not in _ASIDE and prediction is not None and isfinite(prediction):
            newest.setdefault(version, []).append((at_us, prediction))
    for version, predictions in newest.items():
        # By time alone: what was answered at one instant keeps its order, whatever was predicted.
        predictions.sort(key=itemgetter(0))
        store.add_recent(tx, endpoint, version, predictions[-MOST_RECENT:], MOST_RECENT)


def _is_due(
    tx: Transaction, endpoint: str, version: str, monitor: Monitor, mark: store.Mark | None, at: datetime
) -> bool:
    if mark is None:
        return True
    if isinstance(monitor, PredictionMean):
        new = store.count_recent(tx, endpoint, version, mark.seen)
        return new >= max(1, monitor.last // _COUNT_STEPS)
    step_us = monitor.step // timedelta(microseconds=1)
    return to_us(at) // step_us > mark.evaluated_us // step_us


def _evaluate(windows: _Windows, monitor: Monitor, baseline: Baseline, at: datetime) -> Finding | None:
    """Evaluate what counts can tell; None for labels, attributions and tables."""
    if isinstance(monitor, Performance | AttributionDrift | Consistency):
        return None
    if isinstance(monitor, PredictionMean):
        newest = store.list_recent(windows.tx, windows.endpoint, baseline.version, monitor.last)
        since = from_us(newest[-1][0]) if newest else None
        moment = Moment(version=baseline.version, at=at, since=since)
        return evaluate_prediction_mean(monitor, [value for _, value in newest], baseline.mean_prediction, moment)
    since = at - monitor.window
    moment = Moment(version=baseline.version, at=at, since=since)
    if isinstance(monitor, Service):
        return evaluate_service(monitor, windows.sum(since, at), moment)
    of_version = windows.sum(since, at, version=baseline.version)
    if isinstance(monitor, Quality):
        served = windows.sum(since, at)
        return evaluate_quality(monitor, served, compare_inputs(baseline, of_version.inputs), moment)
    changes: dict[str, ColumnChange] = {}
    if isinstance(monitor, Drift):
        changes = compare_inputs(baseline, of_version.inputs, monitor.columns)
    if isinstance(monitor, PredictionDrift) or monitor.prediction:
        changes |= compare_outputs(baseline, of_version.outputs)
    return evaluate_drift(monitor, changes, moment)


def _evaluate_outside(
    monitor: Monitor,
    baseline: Baseline,
    at: datetime,
    labelled: LabelSource | None,
    attributed: AttributionSource | None,
    rederived: ConsistencySource | None,
) -> Finding:
    assert isinstance(monitor, Performance | AttributionDrift | Consistency)  # the others are evaluated already
    since = at - monitor.window
    moment = Moment(version=baseline.version, at=at, since=since)
    if isinstance(monitor, Consistency):
        assert rederived is not None  # else it is not due
        again = rederived(version=baseline.version, since=since, until=at, rows=monitor.rows)
        return evaluate_consistency(monitor, again, moment)
    if isinstance(monitor, AttributionDrift):
        assert attributed is not None  # else it is not due
        found = attributed(version=baseline.version, since=since, until=at)
        if found is None:
            return evaluate_no_attributions(monitor, moment)
        return evaluate_drift(monitor, compare_attributions(found, monitor.columns), moment)
    assert labelled is not None  # else it is not due
    rows = labelled(version=baseline.version, known_since=since, as_of=at)
    labels, predictions = read_labelled(baseline, rows)
    return evaluate_performance(monitor, compute_metric(monitor.metric, labels, predictions), moment)
