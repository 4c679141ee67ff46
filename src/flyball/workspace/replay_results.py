"""What one simulated life came to, read from its home."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import polars as pl

from flyball.domain.journal.events import Event
from flyball.domain.loop.deployment import ROLLED_BACK
from flyball.domain.loop.endpoints import Endpoint
from flyball.domain.loop.reports import DriftPoint, Mark, MarkKind, PerformancePoint, PolicyResult
from flyball.domain.loop.retraining import STARTED
from flyball.domain.monitoring.distributions import read_labelled
from flyball.domain.monitoring.monitors import Performance
from flyball.domain.monitoring.performance import compute_metric
from flyball.workspace.workspace import Workspace

_ALERT_RAISED, _ALERT_RESOLVED = "monitoring.alert.raised", "monitoring.alert.resolved"
_ROLLOUT = "serving.rollout."
_MONTHS_FROM = timedelta(days=150)
_MIN_LABELS = 30
_MANY = 100_000


def gather_result(
    workspace: Workspace, endpoint: Endpoint, policy: str, start: datetime, end: datetime, training_s: float
) -> PolicyResult:
    """Return a policy's result; performance is judged by the labels as they are known at the end."""
    name = endpoint.name or ""
    workspace.predictions.log.rotate()
    workspace.predictions.seal()
    metric = next((found.metric for found in endpoint.monitors if isinstance(found, Performance)), None)
    labelled = workspace.predictions.labelled(name).filter(pl.col("variant") != "shadow")
    performance = list(_performance(workspace, labelled, metric, start, end)) if metric is not None else []
    known = [point.value for point in performance if point.value is not None]
    answered = workspace.predictions.figures(name)
    marks = _marks(workspace.journal.list_events(limit=_MANY), name)
    return PolicyResult(
        name=policy,
        performance=performance,
        marks=marks,
        drift=_drift(workspace, name),
        mean_performance=sum(known) / len(known) if known else None,
        predictions=answered.filter(pl.col("status") == "ok").height,
        labels=labelled.height,
        refused=answered.filter(pl.col("status").is_in(["refused", "quarantined"])).height,
        retrainings=_count(marks, MarkKind.RETRAINING),
        promotions=_count(marks, MarkKind.PROMOTED),
        rollbacks=_count(marks, MarkKind.ROLLBACK),
        alerts=_count(marks, MarkKind.ALERT),
        training_s=training_s,
    )


def _performance(
    workspace: Workspace, labelled: pl.DataFrame, metric: str, start: datetime, end: datetime
) -> Iterator[PerformancePoint]:
    for begin, after in _periods(start, end):
        rows = labelled.filter(pl.col("at") >= begin, pl.col("at") < after)
        value = None
        if rows.height >= _MIN_LABELS:
            baseline = workspace.packages.baseline(rows["version"][0])
            value = compute_metric(metric, *read_labelled(baseline, rows)).value
        yield PerformancePoint(at=begin, value=value, labels=rows.height)


def _periods(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Return calendar months, or weeks where there are only a few months."""
    by_month = end - start >= _MONTHS_FROM
    begin = start
    while begin < end:
        if by_month:
            first = begin.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            after = (first + timedelta(days=32)).replace(day=1)
        else:
            after = begin + timedelta(days=7)
        yield begin, min(after, end)
        begin = after


def _drift(workspace: Workspace, name: str) -> dict[str, list[DriftPoint]]:
    columns: dict[str, list[DriftPoint]] = {}
    for finding in workspace.monitoring.series(name):
        if finding.family == "drift":
            for column, psi in finding.scores.items():
                columns.setdefault(column, []).append(DriftPoint(at=finding.at, psi=psi))
    return columns


def _marks(events: list[Event], endpoint: str) -> list[Mark]:
    marks: list[Mark] = []
    open_alerts: dict[str, int] = {}
    for event in events:
        mark = _mark(event)
        if mark is None:
            continue
        monitor = str(event.data.get("monitor", ""))
        if event.kind == _ALERT_RESOLVED:
            place = open_alerts.pop(monitor, None)
            if place is not None:
                raised = marks[place]
                marks[place] = Mark(at=raised.at, kind=raised.kind, text=raised.text, ends_at=event.event_time)
            continue
        if event.kind == _ALERT_RAISED:
            open_alerts[monitor] = len(marks)
        marks.append(mark)
    return marks


def _mark(event: Event) -> Mark | None:
    data = event.data
    candidate = data.get("candidate") or event.subject.removeprefix("version/")
    told = {
        _ALERT_RAISED: (MarkKind.ALERT, f"{data.get('monitor')}: {data.get('message')}"),
        _ALERT_RESOLVED: (MarkKind.ALERT, ""),
        STARTED: (MarkKind.RETRAINING, f"retraining, because of {data.get('reason')}"),
        "registry.version.rejected": (MarkKind.REJECTED, f"{candidate} rejected by its gates"),
        _ROLLOUT + "started": (MarkKind.ROLLOUT, f"rollout of {candidate} began"),
        _ROLLOUT + "promoted": (MarkKind.PROMOTED, f"{candidate} live"),
        ROLLED_BACK: (MarkKind.ROLLBACK, f"{data.get('from')} taken back for {data.get('to')}: {data.get('reason')}"),
        _ROLLOUT + "rolled-back": (MarkKind.ROLLBACK, f"{candidate} rolled back: {data.get('reason')}"),
    }.get(event.kind)
    return Mark(at=event.event_time, kind=told[0], text=told[1]) if told is not None else None


def _count(marks: list[Mark], kind: MarkKind) -> int:
    return sum(mark.kind is kind for mark in marks)
