"""Rollouts: the stages a project declares, and the state machine that walks through them. Pure functions.

::

    start ──▶ shadow ──▶ canary 5% ──▶ A/B test 50% ──▶ promoted
                 │            │              │
                 └────────────┴──────────────┴───────▶ rolled back

A stage ends when its time is over and its guards agree; guards that see harm end the whole rollout at once. A trial (an
A/B test or a bandit) ends when it has decided.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise

import msgspec

from flyball.core.durations import format_duration, parse_duration
from flyball.core.errors import ConflictError, InvalidInputError
from flyball.domain.serving.trials import Bandit, Trial


class StageKind(StrEnum):
    """What the candidate does during a stage."""

    SHADOW = "shadow"
    CANARY = "canary"
    AB_TEST = "ab-test"
    BANDIT = "bandit"


_NAMES = {StageKind.CANARY: "canary", StageKind.AB_TEST: "A/B test", StageKind.BANDIT: "bandit up to"}


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One step on a version's way to live; made by `shadow`, `canary`, `ab_tests.ab_test` and `bandits.bandit`.

    Attributes:
        kind: Whether the candidate answers or only computes, and who decides.
        share: Part of the traffic that the candidate answers; 0 for a shadow, the greatest part for a bandit.
        duration: How long the stage lasts at least.
        trial: How labels decide, in a trial.
        metric: The metric that a canary is also guarded by; the one of the endpoint's performance monitor by default.
        metric_by: By how much that may be worse.
    """

    kind: StageKind
    share: float
    duration: timedelta
    trial: Trial | None = None
    metric: str | None = None
    metric_by: float = 0.01

    def __post_init__(self) -> None:
        if self.kind is StageKind.SHADOW and self.share != 0:
            raise InvalidInputError("a shadow answers nothing, so its share must be 0")
        if self.kind is StageKind.CANARY and not 0 < self.share < 1:
            raise InvalidInputError(
                f"a canary's share must lie between 0 and 1, but {self.share!r} was given",
                hint="Write five per cent as 0.05; the whole traffic follows by itself after the last stage.",
            )
        if self.duration <= timedelta():
            raise InvalidInputError("a stage must last longer than nothing")

    @property
    def name(self) -> str:
        """The stage in words, such as ``canary 5%``."""
        if self.kind is StageKind.SHADOW:
            return self.kind.value
        return f"{_NAMES[self.kind]} {self.share * 100:g}%"

    def __str__(self) -> str:
        if self.trial is None:
            return f"{self.name} for {format_duration(self.duration)}"
        return f"{self.name} for {format_duration(self.duration)} to {format_duration(self.trial.at_most)}"


def shadow(duration: str | timedelta) -> Stage:
    """Declare a stage in which the new version computes beside the live one and answers nobody.

    Raises:
        InvalidInputError: The duration cannot be read.
    """
    return Stage(kind=StageKind.SHADOW, share=0.0, duration=parse_duration(duration, what="a shadow's duration"))


def canary(share: float, duration: str | timedelta, *, metric: str | None = None, metric_by: float = 0.01) -> Stage:
    """Declare a stage in which the new version answers a share of the traffic.

    Its guards compare both versions' errors, latency and predictions, and the metric where labels come in time.

    Args:
        share: More than 0 and less than 1, such as 0.05.
        duration: How long the stage lasts at least.
        metric: The metric that must not get worse, such as ``"auc"``; by default that of the endpoint's performance
            monitor, if it has one.
        metric_by: By how much it may be worse.

    Raises:
        InvalidInputError: The share, the duration or the margin cannot be used.
    """
    if isinstance(metric_by, bool) or not isinstance(metric_by, int | float) or not metric_by >= 0:
        raise InvalidInputError(f"canary(metric_by={metric_by!r}) must be 0 or more")
    if isinstance(share, bool) or not isinstance(share, int | float):
        raise InvalidInputError(f"a canary's share must be a number, but {share!r} was given")
    return Stage(
        kind=StageKind.CANARY,
        share=float(share),
        duration=parse_duration(duration, what="a canary's duration"),
        metric=metric,
        metric_by=float(metric_by),
    )


def check_stages(stages: Sequence[Stage]) -> None:
    """Refuse stages that would take traffic away from the candidate again on its way to live.

    Raises:
        InvalidInputError: A stage has a smaller share than the one before it.
    """
    for before, after in pairwise(stages):
        if after.share < before.share:
            raise InvalidInputError(
                f"{after.name} follows {before.name}, but the traffic of a rollout may only grow",
                hint="Put shadows first and order canaries by their share.",
            )


class RolloutStatus(StrEnum):
    """Where a rollout stands."""

    RUNNING = "running"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled-back"


class StageRun(msgspec.Struct, frozen=True, kw_only=True):
    """A stage that was entered.

    Attributes:
        stage: Its number, from 0.
        started_at: When it began.
        ended_at: When it was left; None while it lasts.
        reason: Why it was left, in words.
    """

    stage: int
    started_at: datetime
    ended_at: datetime | None = None
    reason: str = ""


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """One version's way to live on one endpoint.

    Attributes:
        id: Identifies it.
        endpoint: Where it takes place.
        model: The model's name.
        candidate: The version that shall go live, such as ``credit-risk/4``.
        champion: The version that was live when it started; None when there was none.
        stages: The declared stages, in order.
        runs: The stages entered so far; the last one is the present.
        status: Where it stands.
        started_at: When it began.
        ended_at: When it was promoted or rolled back.
        drawn_share: The candidate's present share in a bandit's stage.
        drawn_at: When that was set.
    """

    id: str
    endpoint: str
    model: str
    candidate: str
    champion: str | None
    stages: tuple[Stage, ...]
    runs: tuple[StageRun, ...]
    status: RolloutStatus
    started_at: datetime
    ended_at: datetime | None = None
    drawn_share: float | None = None
    drawn_at: datetime | None = None

    @property
    def is_running(self) -> bool:
        """Whether it is still under way."""
        return self.status is RolloutStatus.RUNNING

    @property
    def stage(self) -> Stage | None:
        """The present stage; None once it has ended."""
        return self.stages[self.runs[-1].stage] if self.is_running else None

    @property
    def stage_started_at(self) -> datetime:
        """When the present stage began, or the last one did."""
        return self.runs[-1].started_at if self.runs else self.started_at

    @property
    def share(self) -> float:
        """The part of the traffic that the candidate answers: all once promoted, none once rolled back."""
        if self.status is RolloutStatus.PROMOTED:
            return 1.0
        stage = self.stage
        if stage is None:
            return 0.0
        if isinstance(stage.trial, Bandit):
            return min(stage.share, stage.trial.min_share if self.drawn_share is None else self.drawn_share)
        return stage.share

    @property
    def state(self) -> str:
        """The present state in words: the stage's name, ``promoted`` or ``rolled-back``."""
        stage = self.stage
        return stage.name if stage is not None else self.status.value


class Outcome(StrEnum):
    """What guards conclude from a stage so far."""

    PASS = "pass"
    WAIT = "wait"
    FAIL = "fail"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the guards of a rollout say; computed by monitoring, judged here.

    Attributes:
        outcome: ``pass``: no harm is seen; ``wait``: too little is seen to tell; ``fail``: harm.
        reasons: The findings in words.
    """

    outcome: Outcome
    reasons: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The findings in one line."""
        return (
            "; ".join(self.reasons)
            or {"pass": "no harm seen", "wait": "too little seen", "fail": "harm seen"}[self.outcome]
        )


class Move(StrEnum):
    """What happens to a rollout next."""

    STAY = "stay"
    ADVANCE = "advance"
    PROMOTE = "promote"
    ROLL_BACK = "roll-back"


class RolloutEndedError(ConflictError):
    """The rollout has ended, so it can neither go on nor go back."""

    code = "serving/rollout-ended"

    def __init__(self, rollout: Rollout) -> None:
        super().__init__(
            f"the rollout of {rollout.candidate} on {rollout.endpoint!r} is {rollout.status.value} already",
            hint=f"Return to the version before with: flyball rollback {rollout.endpoint}",
        )


def start_rollout(
    *,
    id: str,
    endpoint: str,
    model: str,
    candidate: str,
    champion: str | None,
    stages: Sequence[Stage],
    now: datetime,
) -> Rollout:
    """Return a rollout in its first stage; without stages, or a champion to compare with, it is promoted.

    Raises:
        InvalidInputError: The stages' shares shrink.
        ConflictError: The candidate is live already.
    """
    check_stages(stages)
    if candidate == champion:
        raise ConflictError(f"{candidate} is live on {endpoint!r} already")
    is_direct = not stages or champion is None
    return Rollout(
        id=id,
        endpoint=endpoint,
        model=model,
        candidate=candidate,
        champion=champion,
        stages=tuple(stages),
        runs=() if is_direct else (StageRun(stage=0, started_at=now),),
        status=RolloutStatus.PROMOTED if is_direct else RolloutStatus.RUNNING,
        started_at=now,
        ended_at=now if is_direct else None,
    )


def plan_move(rollout: Rollout, now: datetime, verdict: Verdict) -> Move:
    """Decide what happens next: harm ends it at once; a stage ends when its time is over and guards agree."""
    stage = rollout.stage
    if stage is None:
        return Move.STAY
    if verdict.outcome is Outcome.FAIL:
        return Move.ROLL_BACK
    if verdict.outcome is Outcome.WAIT or now - rollout.stage_started_at < stage.duration:
        return Move.STAY
    return Move.PROMOTE if rollout.runs[-1].stage + 1 == len(rollout.stages) else Move.ADVANCE


def apply_move(rollout: Rollout, move: Move, now: datetime, reason: str = "") -> Rollout:
    """Return the rollout after a move; `Move.STAY` returns it unchanged.

    Raises:
        RolloutEndedError: It has ended.
        ConflictError: It shall advance, but no stage follows.
    """
    if move is Move.STAY:
        return rollout
    if not rollout.is_running:
        raise RolloutEndedError(rollout)
    left = msgspec.structs.replace(rollout.runs[-1], ended_at=now, reason=reason)
    runs = (*rollout.runs[:-1], left)
    if move is Move.ADVANCE:
        following = left.stage + 1
        if following == len(rollout.stages):
            raise ConflictError(f"{rollout.stages[-1].name} is the last stage before live", hint="Promote it instead.")
        entered = StageRun(stage=following, started_at=now)
        return msgspec.structs.replace(rollout, runs=(*runs, entered), drawn_share=None, drawn_at=None)
    status = RolloutStatus.PROMOTED if move is Move.PROMOTE else RolloutStatus.ROLLED_BACK
    return msgspec.structs.replace(rollout, runs=runs, status=status, ended_at=now)


def draw_share(rollout: Rollout, share: float, now: datetime) -> Rollout:
    """Return the rollout with another share in its bandit's stage, never more than declared.

    Raises:
        RolloutEndedError: It has ended.
        ConflictError: Its stage is no bandit's.
    """
    stage = rollout.stage
    if stage is None:
        raise RolloutEndedError(rollout)
    if not isinstance(stage.trial, Bandit):
        raise ConflictError(f"{stage.name} has a share that is declared", hint="Only a bandit's share moves.")
    drawn = min(stage.share, max(stage.trial.min_share, share))
    return msgspec.structs.replace(rollout, drawn_share=drawn, drawn_at=now)


def state_at(rollout: Rollout, instant: datetime) -> str | None:
    """Return a rollout's state at an instant in words, or None when it had not started."""
    if instant < rollout.started_at:
        return None
    if rollout.ended_at is not None and instant >= rollout.ended_at:
        return rollout.status.value
    entered = [run for run in rollout.runs if run.started_at <= instant]
    return rollout.stages[entered[-1].stage].name if entered else rollout.status.value
