"""From one prediction back to everything behind it."""

from datetime import datetime
from typing import Any

import msgspec

from flyball.domain.data.reports import Report
from flyball.domain.data.snapshots import Snapshot
from flyball.domain.predictions.labels import LabelVersion
from flyball.domain.predictions.records import Explanation, PredictionRecord
from flyball.domain.registry.evidence import Evidence
from flyball.domain.registry.versions import Approval, ModelVersion
from flyball.domain.serving.rollouts import Rollout
from flyball.domain.tracking.runs import RunDetail
from flyball.workspace.home import Home
from flyball.workspace.scored_rows import find_scored


class TracedPrediction(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked and answered.

    Attributes:
        request: The fields as they came.
        features: The model's inputs as they were served.
        views: For each feature view, its version and the time of the features used.
        node: What answered, where it was not the endpoint's model alone.
        explanation: What each feature added, where that was asked for.
    """

    id: str
    endpoint: str
    at: datetime
    variant: str
    status: str
    prediction: float | None
    scores: list[float] | None
    request: dict[str, Any]
    features: dict[str, Any]
    views: dict[str, dict[str, Any]]
    reasons: list[str]
    latency_us: int
    shadow_of: str | None
    node: str | None = None
    explanation: Explanation | None = None


class TracedRollout(msgspec.Struct, frozen=True, kw_only=True):
    """The rollout during which the answer was given, and its stage then."""

    id: str
    stage: str | None
    candidate: str
    champion: str | None
    ended: str


class TracedSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One table as the model's training saw it, and what its expectations said."""

    snapshot: Snapshot
    reports: list[Report]


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """Everything behind one prediction, from the answer down to the data.

    Attributes:
        prediction: What was asked and answered.
        labels: How it turned out, every version of it.
        rollout: The rollout under way at that moment.
        version: The model version that answered; None for a request that no model saw.
        package: The digest of its package.
        evidence: What its gates said.
        approvals: Who said yes.
        cause: The events that led to the version's training, the nearest first.
        run: The run that made it: parameters, metrics, code, environment.
        snapshots: The tables it was trained on; of a version that a client registered, those its run read.
    """

    prediction: TracedPrediction
    labels: list[LabelVersion]
    rollout: TracedRollout | None
    version: ModelVersion | None
    evidence: Evidence | None
    approvals: list[Approval]
    cause: list[dict[str, Any]]
    run: RunDetail | None
    snapshots: list[TracedSnapshot]


def trace_prediction(home: Home, prediction_id: str) -> Trace:
    """Follow one prediction back to its model, the run that made it, and the data.

    Raises:
        PredictionNotFoundError: There is no such prediction.
    """
    scored = find_scored(home, prediction_id)
    record = scored or home.predictions.get(prediction_id)
    labels = home.predictions.list_label_versions(prediction_id) if scored is None else []
    rollout = home.rollouts.find(record.rollout) if record.rollout else None
    version = home.registry.get(record.version) if record.version else None
    run = home.tracking.describe_run(version.run_id) if version is not None and version.run_id else None
    return Trace(
        prediction=_describe(record),
        labels=labels,
        rollout=_describe_rollout(rollout, record) if rollout is not None else None,
        version=version,
        evidence=home.registry.evidence(version.ref) if version is not None else None,
        approvals=home.registry.approvals(version.ref) if version is not None else [],
        cause=_follow_causes(home, run.run.cause if run is not None else None),
        run=run,
        snapshots=_find_snapshots(home, version, run),
    )


def _describe(record: PredictionRecord) -> TracedPrediction:
    return TracedPrediction(
        id=record.id,
        endpoint=record.endpoint,
        at=record.at,
        variant=record.variant,
        status=str(record.status),
        prediction=record.prediction,
        scores=record.scores,
        request=record.request_fields,
        features=record.feature_values,
        views={name: msgspec.structs.asdict(use) for name, use in record.views.items()},
        reasons=[reason.message for reason in record.reasons],
        latency_us=record.latency_us,
        shadow_of=record.shadow_of,
        node=record.node,
        explanation=record.explanation,
    )


def _describe_rollout(rollout: Rollout, record: PredictionRecord) -> TracedRollout:
    return TracedRollout(
        id=rollout.id,
        stage=record.stage,
        candidate=rollout.candidate,
        champion=rollout.champion,
        ended=rollout.status.value,
    )


def _follow_causes(home: Home, seq: int | None) -> list[dict[str, Any]]:
    chain: list[dict[str, Any]] = []
    while seq is not None and (event := home.journal.find(seq)) is not None:
        chain.append({"event": event.seq, "kind": event.kind, "at": event.event_time, "data": event.data})
        seq = event.cause
    return chain


def _find_snapshots(home: Home, version: ModelVersion | None, run: RunDetail | None) -> list[TracedSnapshot]:
    ids = list((version.lineage.get("snapshots") or {}).values()) if version is not None else []
    read = [link.ref for link in run.inputs if link.kind == "snapshot"] if run is not None else []
    return [
        TracedSnapshot(snapshot=home.data.get(snapshot_id), reports=home.data.reports(snapshot_id))
        for snapshot_id in dict.fromkeys([*ids, *read])
    ]
