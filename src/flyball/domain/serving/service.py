"""The one way to start, move and look up rollouts."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from flyball.core.clock import Clock
from flyball.core.durations import to_us
from flyball.core.errors import ConflictError, NotFoundError
from flyball.core.ids import IdSource
from flyball.domain.journal.service import Journal
from flyball.domain.serving import store
from flyball.domain.serving.rollouts import (
    Move,
    Rollout,
    RolloutStatus,
    Stage,
    Verdict,
    apply_move,
    draw_share,
    plan_move,
    start_rollout,
)
from flyball.storage.db import Database, Transaction

Within = Callable[[Transaction, Rollout], None]
"""Changes something else in the transaction of a rollout's move, such as an alias on promotion."""
SHARE_DRAWN = "serving.rollout.share-drawn"
"""The event that tells of a bandit's new share."""
_EVENTS = {
    Move.ADVANCE: "serving.rollout.advanced",
    Move.PROMOTE: "serving.rollout.promoted",
    Move.ROLL_BACK: "serving.rollout.rolled-back",
}


class RolloutRunningError(ConflictError):
    """Another version is on its way to live on the endpoint."""

    code = "serving/rollout-running"

    def __init__(self, rollout: Rollout) -> None:
        super().__init__(
            f"{rollout.candidate} is on its way to live on {rollout.endpoint!r} already ({rollout.state})",
            hint=f"Wait for its end, or end it with: flyball rollback {rollout.endpoint}",
        )


class NoRolloutError(NotFoundError):
    """No version is on its way to live on the endpoint."""

    code = "serving/no-rollout"

    def __init__(self, endpoint: str) -> None:
        super().__init__(f"no rollout is under way on {endpoint!r}")


class RolloutService:
    """Keeps rollouts; each change and its event are one transaction.

    Args:
        db: Where they are kept.
        journal: Is told of every change.
        clock: The present.
        ids: Names rollouts.
    """

    def __init__(self, db: Database, journal: Journal, clock: Clock, ids: IdSource | None = None) -> None:
        self._db = db
        self._journal = journal
        self._clock = clock
        self._ids = ids or IdSource(clock)

    def start(
        self,
        endpoint: str,
        *,
        model: str,
        candidate: str,
        champion: str | None,
        stages: Sequence[Stage],
        actor: str = "loop",
        cause: int | None = None,
        within: Within | None = None,
    ) -> Rollout:
        """Send a version on its way; without stages, or without a champion to compare with, it is promoted at once.

        Args:
            endpoint: Where.
            model: The model's name.
            candidate: The version, such as ``credit-risk/4``.
            champion: The version that is live now.
            stages: As the endpoint declares them.
            actor: Who or what does it.
            cause: The event behind it.
            within: Called in the same transaction; moves the alias when the rollout is promoted at once.

        Raises:
            RolloutRunningError: Another one is under way.
            ConflictError: The candidate is live already.
            InvalidInputError: The stages' shares shrink.
        """
        with self._db.begin() as tx:
            running = store.find_running_rollout(tx, endpoint)
            if running is not None:
                raise RolloutRunningError(running)
            rollout = start_rollout(
                id=self._ids.new(),
                endpoint=endpoint,
                model=model,
                candidate=candidate,
                champion=champion,
                stages=stages,
                now=self._clock.now(),
            )
            store.put_rollout(tx, rollout)
            data = _describe(rollout) | {"stages": [str(stage) for stage in stages]}
            event = self._journal.append(
                tx, "serving.rollout.started", f"endpoint/{endpoint}", data, actor=actor, cause=cause
            )
            if rollout.status is RolloutStatus.PROMOTED:
                reason = "it has no stages" if not stages else "nothing was live before"
                data = _describe(rollout) | {"reason": reason, "evidence": {}}
                self._journal.append(
                    tx, _EVENTS[Move.PROMOTE], f"endpoint/{endpoint}", data, actor=actor, cause=event.seq
                )
            if within is not None:
                within(tx, rollout)
        return rollout

    def judge(
        self,
        endpoint: str,
        verdict: Verdict,
        *,
        evidence: Mapping[str, Any] | None = None,
        actor: str = "loop",
        cause: int | None = None,
        within: Within | None = None,
    ) -> tuple[Move, Rollout]:
        """Move the endpoint's rollout as its guards' verdict and the time demand; see `rollouts.plan_move`.

        Args:
            endpoint: Where.
            verdict: What the guards say now.
            evidence: The figures behind it; kept in the event.
            actor: Who or what does it.
            cause: The event behind it.
            within: Called in the same transaction when the rollout moves.

        Returns:
            What happened, and the rollout after it.

        Raises:
            NoRolloutError: None is under way.
        """
        with self._db.begin() as tx:
            rollout = self._get_running(tx, endpoint)
            move = plan_move(rollout, self._clock.now(), verdict)
            if move is Move.STAY:
                return move, rollout
            return move, self._apply(tx, rollout, move, verdict.summary, evidence or {}, actor, cause, within)

    def apply(
        self,
        endpoint: str,
        move: Move,
        *,
        reason: str,
        evidence: Mapping[str, Any] | None = None,
        actor: str = "system",
        cause: int | None = None,
        within: Within | None = None,
    ) -> Rollout:
        """Move the endpoint's rollout whatever its guards and the time say.

        Raises:
            NoRolloutError: None is under way.
            ConflictError: It shall advance, but no stage follows.
        """
        with self._db.begin() as tx:
            rollout = self._get_running(tx, endpoint)
            return self._apply(tx, rollout, move, reason, evidence or {}, actor, cause, within)

    def draw(
        self,
        endpoint: str,
        share: float,
        *,
        reason: str,
        evidence: Mapping[str, Any] | None = None,
        actor: str = "loop",
    ) -> Rollout:
        """Give the candidate another share in a bandit's stage, never more than declared.

        Raises:
            NoRolloutError: None is under way.
            ConflictError: Its stage is no bandit's.
        """
        with self._db.begin() as tx:
            rollout = self._get_running(tx, endpoint)
            moved = draw_share(rollout, share, self._clock.now())
            store.put_rollout(tx, moved)
            if moved.share != rollout.share:
                data = _describe(moved) | {
                    "from_share": rollout.share,
                    "share": moved.share,
                    "reason": reason,
                    "evidence": dict(evidence or {}),
                }
                self._journal.append(tx, SHARE_DRAWN, f"endpoint/{endpoint}", data, actor=actor)
        return moved

    def find_running(self, endpoint: str) -> Rollout | None:
        """Return the rollout that is under way."""
        with self._db.read() as tx:
            return store.find_running_rollout(tx, endpoint)

    def find(self, rollout_id: str) -> Rollout | None:
        """Return a rollout by its id."""
        with self._db.read() as tx:
            return store.find_rollout(tx, rollout_id)

    def find_at(self, endpoint: str, instant: datetime) -> Rollout | None:
        """Return the rollout that had started last at an instant; `rollouts.state_at` tells its state then."""
        with self._db.read() as tx:
            return store.find_rollout_at(tx, endpoint, to_us(instant))

    def list_rollouts(self, endpoint: str) -> list[Rollout]:
        """Return all rollouts of an endpoint, oldest first."""
        with self._db.read() as tx:
            return store.list_rollouts(tx, endpoint)

    def _get_running(self, tx: Transaction, endpoint: str) -> Rollout:
        rollout = store.find_running_rollout(tx, endpoint)
        if rollout is None:
            raise NoRolloutError(endpoint)
        return rollout

    def _apply(
        self,
        tx: Transaction,
        rollout: Rollout,
        move: Move,
        reason: str,
        evidence: Mapping[str, Any],
        actor: str,
        cause: int | None,
        within: Within | None,
    ) -> Rollout:
        moved = apply_move(rollout, move, self._clock.now(), reason)
        if moved == rollout:
            return rollout
        store.put_rollout(tx, moved)
        data = _describe(moved) | {"from": rollout.state, "reason": reason, "evidence": dict(evidence)}
        self._journal.append(tx, _EVENTS[move], f"endpoint/{rollout.endpoint}", data, actor=actor, cause=cause)
        if within is not None:
            within(tx, moved)
        return moved


def _describe(rollout: Rollout) -> dict[str, Any]:
    return {
        "rollout": rollout.id,
        "endpoint": rollout.endpoint,
        "model": rollout.model,
        "candidate": rollout.candidate,
        "champion": rollout.champion,
        "state": rollout.state,
    }
