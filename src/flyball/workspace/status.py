"""What is live, what is watched and what waits for a person."""

from datetime import datetime

import msgspec

from flyball.domain.loop.endpoints import Endpoint
from flyball.domain.registry.aliases import CHAMPION
from flyball.domain.registry.versions import Status as VersionStatus
from flyball.domain.tracking.runs import Run
from flyball.workspace.workspace import Workspace

_RUNS_SHOWN = 5
_EVENTS_SHOWN = 8


class EndpointStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint now.

    Attributes:
        live: The version that answers.
        live_since: From when on.
        rollout: The version on its way to live and its stage, in words.
        predictions: How many answers are sealed in the log; what only ran beside them is not counted.
        is_behind: Whether later answers are in the log that are not sealed yet: those of the last half minute, or all
            since ``flyball up`` ended.
        alerts: The messages of alerts that are raised now.
        awaiting_approval: Versions that a person must sign.
        rejected: The newest version if it may not go live, and why its gates say no.
        triggers: What would start a retraining.
    """

    name: str
    model: str
    live: str | None
    live_since: datetime | None
    rollout: str | None
    predictions: int
    is_behind: bool
    alerts: list[str]
    awaiting_approval: list[str]
    rejected: dict[str, list[str]]
    triggers: list[str]


class RecentEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One of the journal's last events."""

    seq: int
    at: datetime
    kind: str
    subject: str


class ProjectStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A project and its home now."""

    project: str
    endpoints: list[EndpointStatus]
    runs: list[Run]
    events: list[RecentEvent]


def read_status(workspace: Workspace) -> ProjectStatus:
    """Gather the status of a project; costs the same however long its history is."""
    events = workspace.journal.list_events(limit=_EVENTS_SHOWN, newest_first=True)
    return ProjectStatus(
        project=workspace.project.root.name,
        endpoints=[_read_endpoint(workspace, name, found) for name, found in workspace.endpoints.items()],
        runs=workspace.tracking.list_runs(limit=_RUNS_SHOWN),
        events=[
            RecentEvent(seq=event.seq, at=event.event_time, kind=event.kind, subject=event.subject) for event in events
        ],
    )


def _read_endpoint(workspace: Workspace, name: str, endpoint: Endpoint) -> EndpointStatus:
    registry = workspace.registry
    champion = registry.champion(endpoint.model)
    moves = registry.history(endpoint.model, alias=CHAMPION)
    rollout = workspace.rollouts.find_running(name)
    newest = registry.find_newest(endpoint.model)
    rejected = newest if newest is not None and newest.status is VersionStatus.REJECTED else None
    return EndpointStatus(
        name=name,
        model=endpoint.model,
        live=champion.ref if champion is not None else None,
        live_since=moves[-1].event_time if moves else None,
        rollout=f"{rollout.candidate}: {rollout.state}" if rollout is not None else None,
        predictions=workspace.predictions.count(name),
        is_behind=workspace.predictions.has_open(name),
        alerts=[f"{alert.monitor}: {alert.message}" for alert in workspace.monitoring.alerts(name)],
        awaiting_approval=[found.ref for found in registry.list_awaiting(endpoint.model)],
        rejected={rejected.ref: registry.list_reasons(rejected)} if rejected is not None else {},
        triggers=[str(trigger) for trigger in endpoint.retrain_on],
    )
