"""What a replay found out, as values: the comparison of policies that people read and pages draw."""

from datetime import datetime
from enum import StrEnum
from typing import Literal

import msgspec


class MarkKind(StrEnum):
    """What happened at an instant, in the order in which a timeline shows its rows."""

    ALERT = "alert"
    RETRAINING = "retraining"
    REJECTED = "rejected"
    ROLLOUT = "rollout"
    PROMOTED = "promoted"
    ROLLBACK = "rollback"


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """One happening of a policy's life.

    Attributes:
        at: When.
        kind: What sort of thing.
        text: What happened, in one sentence without a full stop.
        ends_at: When it was over, for an alert that was raised for a while or a rollout; None for a moment.
    """

    at: datetime
    kind: MarkKind
    text: str
    ends_at: datetime | None = None


class PerformancePoint(msgspec.Struct, frozen=True, kw_only=True):
    """How good the predictions of one period were, by the labels known at the end of the replay.

    Attributes:
        at: The period's beginning.
        value: The metric; None where there were too few labels to tell.
        labels: Over how many labels.
    """

    at: datetime
    value: float | None
    labels: int


class DriftPoint(msgspec.Struct, frozen=True, kw_only=True):
    """How far one column lay from the live version's training data.

    Attributes:
        at: When it was evaluated.
        psi: The population stability index; 0 is no difference.
    """

    at: datetime
    psi: float


class PolicyResult(msgspec.Struct, frozen=True, kw_only=True):
    """A replay under one policy.

    Attributes:
        name: The policy as it was asked for, such as ``every 30d``.
        performance: Period by period, in order of time.
        marks: What happened, in order of time.
        drift: For each watched column its values, in order of time.
        mean_performance: The metric's mean over the periods; None without labels.
        predictions: How many were answered.
        labels: How many of them turned out during the replay.
        refused: How many requests were refused or quarantined.
        retrainings: How many trainings were started.
        promotions: How many of them brought a new version live.
        rollbacks: How many were taken back.
        alerts: How many alerts were raised.
        training_s: Seconds of computing for all trainings.
        error_cost: What the errors cost, in the unit of the replay's cost figure; None when none was given.
    """

    name: str
    performance: list[PerformancePoint]
    marks: list[Mark]
    drift: dict[str, list[DriftPoint]]
    mean_performance: float | None
    predictions: int
    labels: int
    refused: int = 0
    retrainings: int = 0
    promotions: int = 0
    rollbacks: int = 0
    alerts: int = 0
    training_s: float = 0.0
    error_cost: float | None = None


class ReplayReport(msgspec.Struct, frozen=True, kw_only=True):
    """A replay of one endpoint's past under one or more policies.

    Attributes:
        project: The project's name.
        endpoint: The endpoint.
        start: Where simulated life began.
        end: Where it ended.
        metric: The metric that policies are compared by; empty when the endpoint watches no performance.
        better: Which way of the metric is good.
        limit: The limit that the endpoint's performance monitor holds; None without one.
        drift_threshold: Above which a column counts as drifted.
        policies: In the order asked for.
    """

    project: str
    endpoint: str
    start: datetime
    end: datetime
    metric: str
    better: Literal["higher", "lower"]
    policies: list[PolicyResult]
    limit: float | None = None
    drift_threshold: float = 0.2

    def find_best(self) -> PolicyResult | None:
        """Return the policy with the best mean performance; the earlier one of two equal ones."""
        judged = [policy for policy in self.policies if policy.mean_performance is not None]
        sign = 1 if self.better == "higher" else -1
        return max(judged, key=lambda policy: sign * (policy.mean_performance or 0.0), default=None)

    def find_worst_period(self, policy: PolicyResult) -> PerformancePoint | None:
        """Return the period in which a policy did worst."""
        judged = [point for point in policy.performance if point.value is not None]
        sign = 1 if self.better == "higher" else -1
        return min(judged, key=lambda point: sign * (point.value or 0.0), default=None)
