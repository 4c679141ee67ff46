"""Takes approved versions to live: starts rollouts, lets guards judge them, promotes or rolls back."""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

import msgspec
import polars as pl

from flyball.core.clock import Clock
from flyball.core.encoding import to_plain
from flyball.core.errors import InvalidInputError
from flyball.domain.data.profiles import Profile
from flyball.domain.journal.service import Journal
from flyball.domain.loop.endpoints import Endpoint
from flyball.domain.loop.failures import Failures
from flyball.domain.loop.trials import DECIDED, TrialJudge, TrialLook
from flyball.domain.monitoring.distributions import Baseline, read_labelled
from flyball.domain.monitoring.guards import GuardLimits, GuardVerdict, VariantCounts, compare_variants
from flyball.domain.monitoring.monitors import Performance
from flyball.domain.monitoring.performance import compute_metric
from flyball.domain.monitoring.service import MonitoringService
from flyball.domain.predictions.figures import WHO
from flyball.domain.predictions.records import PredictionStatus
from flyball.domain.predictions.service import PredictionService
from flyball.domain.registry.aliases import CHALLENGER, CHAMPION
from flyball.domain.registry.packages import PackageDamagedError
from flyball.domain.registry.reference import sample_rows
from flyball.domain.registry.service import RegistryService
from flyball.domain.registry.versions import ModelVersion, Status, parse_ref
from flyball.domain.serving.bandits import BanditResult
from flyball.domain.serving.fleet import UNLOADABLE
from flyball.domain.serving.rollouts import Move, Outcome, Rollout, RolloutStatus, Stage, StageKind, Verdict
from flyball.domain.serving.service import RolloutService, Within
from flyball.domain.serving.trials import Bandit
from flyball.storage.db import Database, Transaction

APPROVED = "registry.version.approved"
ROLLED_BACK = "loop.endpoint.rolled-back"
_log = logging.getLogger("flyball.loop")
_SMALLEST_STEP = 0.01
"""A bandit's share that would move by less stays."""
_MOST_COMPARED = 5_000
_MOST_READ = 400_000
"""Of so many predictions those that are compared are chosen, so that a day of a busy canary fits into memory."""
_PATIENCE = 4
"""A stage that has seen too little traffic to judge ends after so many times its length, if nothing bad was seen."""


class RollbackResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a rollback changed.

    Attributes:
        endpoint: Where.
        was_live: The version that answered, or was on its way to.
        now_live: The version that answers from now on.
    """

    endpoint: str
    was_live: str
    now_live: str


class _TakenUpError(Exception):
    """Another process took the approvals up meanwhile."""


class Deployer:
    """Moves versions of the endpoints' models.

    Args:
        db: Keeps up to where approvals were acted on.
        journal: Tells which versions were approved.
        clock: The present.
        registry: Knows the versions and which one is champion.
        rollouts: Keeps the way of each to live.
        monitoring: Counts what each variant did.
        predictions: Knows how predictions of each turned out.
        baseline_of: Tells how a version's predictions and labels compare.
        prepare: Brings what a version needs online; called before it gets any traffic.
    """

    def __init__(
        self,
        db: Database,
        journal: Journal,
        clock: Clock,
        registry: RegistryService,
        rollouts: RolloutService,
        monitoring: MonitoringService,
        predictions: PredictionService,
        baseline_of: Callable[[str], Baseline],
        prepare: Callable[[str], None],
    ) -> None:
        self._db = db
        self._journal = journal
        self._clock = clock
        self._registry = registry
        self._rollouts = rollouts
        self._monitoring = monitoring
        self._predictions = predictions
        self._baseline_of = baseline_of
        self._prepare = prepare
        self._trials = TrialJudge(predictions, baseline_of)
        self._counted: dict[str, tuple[object, tuple[VariantCounts, VariantCounts]]] = {}

    def take_up(self, endpoints: Mapping[str, Endpoint]) -> None:
        """Start a rollout for the newest version approved since the last time, where none is under way."""
        failures = Failures()
        for name, endpoint in endpoints.items():
            # Another process may have read these approvals in the meantime, and acted on them.
            with failures.passing(), suppress(_TakenUpError):
                self._take_up_one(name, endpoint)
        failures.tell()

    def _take_up_one(self, name: str, endpoint: Endpoint) -> None:
        cursor = f"loop/approved/{name}"
        read_to = self._journal.cursor(cursor)
        events = self._journal.list_events(after=read_to, kinds=[APPROVED])
        if not events or self._rollouts.find_running(name) is not None:
            return
        found = None
        for event in events:
            version = self._find_approved(event.subject.removeprefix("version/"), endpoint.model)
            found = (version, event.seq) if version is not None else found
        moving = self._moving_cursor(cursor, read_to, events[-1].seq)
        if found is None:
            with self._db.begin() as tx:
                moving(tx)
            return
        try:
            self._start(name, endpoint, *found, moving)
        except PackageDamagedError as error:
            # No later turn makes it whole: it is told once, and what was live goes on.
            _log.warning("%s cannot go live: %s", found[0].ref, error.message)
            with self._db.begin() as tx:
                moving(tx)
                data = {"version": found[0].ref, "code": error.code, "reason": error.message}
                self._journal.append(tx, UNLOADABLE, f"version/{found[0].ref}", data, actor="loop")

    def take_up_first(self, endpoints: Mapping[str, Endpoint]) -> None:
        """Take approved versions up only where nothing is live, which disturbs nobody."""
        self.take_up({name: found for name, found in endpoints.items() if self._registry.champion(found.model) is None})

    def drive(self, endpoints: Mapping[str, Endpoint]) -> None:
        """Let the guards of every running rollout judge, and move it as they and the time demand."""
        failures = Failures()
        for name, endpoint in endpoints.items():
            rollout = self._rollouts.find_running(name)
            if rollout is None:
                continue
            with failures.passing():
                self._drive_one(name, endpoint, rollout)
        failures.tell()

    def _drive_one(self, name: str, endpoint: Endpoint, rollout: Rollout) -> None:
        verdict, evidence = self._judge(rollout, endpoint)
        stage = rollout.stage
        look = None
        if stage is not None and stage.trial is not None and verdict.outcome is not Outcome.FAIL:
            look, verdict = self._look(rollout, stage)
            evidence |= {"trial": look.data} if look is not None else {}
        self._rollouts.judge(name, verdict, evidence=evidence, within=self._ending(verdict.summary, look))

    def look(self, name: str) -> TrialLook | None:
        """Return how the trial that is under way stands, if there is one."""
        rollout = self._rollouts.find_running(name)
        stage = rollout.stage if rollout is not None else None
        if rollout is None or stage is None or stage.trial is None:
            return None
        return self._trials.look(rollout, stage, self._clock.now())

    def _look(self, rollout: Rollout, stage: Stage) -> tuple[TrialLook | None, Verdict]:
        """Look at a trial, and give a bandit's new version its share; one that cannot be judged ends."""
        try:
            look = self._trials.look(rollout, stage, self._clock.now())
        except InvalidInputError as error:
            return None, Verdict(outcome=Outcome.FAIL, reasons=(f"{stage.name} cannot be judged: {error.message}",))
        is_early = self._clock.now() - rollout.stage_started_at < stage.duration
        if isinstance(look.result, BanditResult) and (is_early or look.verdict.outcome is Outcome.WAIT):
            self._draw(rollout, stage, look.result)
        return look, look.verdict

    def roll_back(self, name: str, endpoint: Endpoint, *, reason: str, actor: str) -> RollbackResult:
        """End the rollout that is under way, or else return to the champion before; nothing is trained.

        Raises:
            NoEarlierVersionError: There is nothing to return to.
        """
        champion = self._registry.champion(endpoint.model)
        running = self._rollouts.find_running(name)
        if running is not None and champion is not None:
            moved = self._rollouts.apply(
                name, Move.ROLL_BACK, reason=reason, actor=actor, within=self._moving_aliases(reason)
            )
            return RollbackResult(endpoint=name, was_live=moved.candidate, now_live=champion.ref)
        return self.take_back(name, endpoint, reason=reason, actor=actor)

    def take_back(self, name: str, endpoint: Endpoint, *, reason: str, actor: str) -> RollbackResult:
        """Return from the champion to the one before; a rollout that is under way goes on beside it.

        Raises:
            NoEarlierVersionError: There is nothing to return to.
        """
        champion = self._registry.champion(endpoint.model)
        target = self._registry.previous_champion(endpoint.model)
        self._prepare(target.ref)
        with self._db.begin() as tx:
            was = champion.ref if champion else None
            data = {"endpoint": name, "model": endpoint.model, "from": was, "to": target.ref, "reason": reason}
            event = self._journal.append(tx, ROLLED_BACK, f"endpoint/{name}", data, actor=actor)
            why = f"rolled back: {reason}"
            self._registry.set_alias(
                endpoint.model, CHAMPION, target.ref, reason=why, actor=actor, cause=event.seq, tx=tx
            )
        return RollbackResult(endpoint=name, was_live=champion.ref if champion else "", now_live=target.ref)

    def _find_approved(self, ref: str, model: str) -> ModelVersion | None:
        if parse_ref(ref)[0] != model:
            return None
        version = self._registry.get(ref)
        champion = self._registry.champion(model)
        is_newer = champion is None or version.number > champion.number
        is_usable = version.status is Status.APPROVED and bool(version.package_digest)
        return version if is_newer and is_usable else None

    def _moving_cursor(self, cursor: str, read_to: int, until: int) -> Callable[[Transaction], None]:
        """Return what notes events as acted on, in the transaction that acts: no crash and no race acts twice."""

        def move(tx: Transaction) -> None:
            if self._journal.cursor(cursor) != read_to:
                raise _TakenUpError
            self._journal.move_cursor(tx, cursor, until)

        return move

    def _start(
        self,
        name: str,
        endpoint: Endpoint,
        version: ModelVersion,
        cause: int,
        moving_cursor: Callable[[Transaction], None],
    ) -> None:
        champion = self._registry.champion(endpoint.model)
        self._prepare(version.ref)
        move_aliases = self._moving_aliases("nothing was live before" if champion is None else "it has no stages")

        def move(tx: Transaction, rollout: Rollout) -> None:
            moving_cursor(tx)
            move_aliases(tx, rollout)

        self._rollouts.start(
            name,
            model=endpoint.model,
            candidate=version.ref,
            champion=champion.ref if champion is not None else None,
            stages=endpoint.rollout,
            cause=cause,
            within=move,
        )

    def _draw(self, rollout: Rollout, stage: Stage, result: BanditResult) -> None:
        """Give a bandit's new version its share, where it is time and changes anything."""
        now = self._clock.now()
        every = stage.trial.every if isinstance(stage.trial, Bandit) else timedelta()
        is_due = now - (rollout.drawn_at or rollout.stage_started_at) >= every
        if is_due and abs(result.share - rollout.share) >= _SMALLEST_STEP:
            evidence = {"result": to_plain(result)}
            self._rollouts.draw(rollout.endpoint, result.share, reason=result.message, evidence=evidence)

    def _ending(self, reason: str, look: TrialLook | None) -> Within:
        """Return what moves the aliases, and tells the journal how a trial ended."""
        move_aliases = self._moving_aliases(reason)
        if look is None:
            return move_aliases

        def end(tx: Transaction, rollout: Rollout) -> None:
            data = {"rollout": rollout.id, **look.data}
            self._journal.append(tx, DECIDED, f"endpoint/{rollout.endpoint}", data, actor="loop")
            move_aliases(tx, rollout)

        return end

    def _moving_aliases(self, reason: str) -> Within:
        """Return what moves the aliases in the transaction of a rollout's move: both hold, or neither."""

        def move(tx: Transaction, rollout: Rollout) -> None:
            challenger = rollout.candidate if rollout.is_running else None
            why = f"its rollout is at {rollout.state}"
            self._registry.set_alias(rollout.model, CHALLENGER, challenger, reason=why, actor="loop", tx=tx)
            if rollout.status is RolloutStatus.PROMOTED:
                why = f"promoted: {reason}"
                self._registry.set_alias(rollout.model, CHAMPION, rollout.candidate, reason=why, actor="loop", tx=tx)

        return move

    def _judge(self, rollout: Rollout, endpoint: Endpoint) -> tuple[Verdict, dict[str, object]]:
        candidate = self._registry.get(rollout.candidate)
        if candidate.status is not Status.APPROVED:
            return Verdict(outcome=Outcome.FAIL, reasons=(f"{rollout.candidate} is {candidate.status}",)), {}
        now = self._clock.now()
        stage = rollout.stage
        limits = _limits(stage, endpoint)
        metric = limits.metric
        role = "shadow" if stage is not None and stage.kind is StageKind.SHADOW else "canary"
        found = compare_variants(*self._compare(rollout, role, metric, now), limits)
        verdict = to_verdict(found, rollout, now)
        return verdict, {"comparisons": to_plain(found.comparisons)}

    def _compare(
        self, rollout: Rollout, role: str, metric: str | None, now: datetime
    ) -> tuple[VariantCounts, VariantCounts]:
        """Return what the live version and the new one did in the stage; counted again where something came since."""
        champion = self._registry.champion(rollout.model)
        ref = champion.ref if champion is not None else ""
        # Labels and sealed predictions are all that the counts depend on; both only grow.
        sealed = self._predictions.count_sealed(rollout.endpoint)
        seen = (rollout.id, rollout.stage_started_at, role, ref, metric, sealed, self._predictions.last_label_seq())
        known = self._counted.get(rollout.endpoint)
        if known is not None and known[0] == seen:
            return known[1]
        live = self._count(rollout, ref, "live", metric, now)
        new = self._count(rollout, rollout.candidate, role, metric, now)
        counted = self._add_cells(rollout, live, new, role)
        self._counted[rollout.endpoint] = (seen, counted)
        return counted

    def _add_cells(
        self, rollout: Rollout, live: VariantCounts, new: VariantCounts, role: str
    ) -> tuple[VariantCounts, VariantCounts]:
        """Add how both variants' predictions of the stage are spread, over cells of the live ones.

        A canary shares out entities, not requests, so each entity counts once: what a few of them ask again and again
        says who they are, not how the versions differ.
        """
        since, is_split = rollout.stage_started_at, role == "canary"
        read = partial(self._predictions.sample_figures, rollout.endpoint, since, most=_MOST_READ)
        before = _sample(read(version=rollout.champion, variant="live"), is_split=is_split)
        now = _sample(read(version=rollout.candidate, variant=role), is_split=is_split)
        if before.is_empty() or now.is_empty():
            return live, new
        column = Profile.of(before).columns["prediction"]
        counted = column.count(now["prediction"]).cells
        replace = msgspec.structs.replace
        return replace(live, cells=column.cells), replace(new, cells=counted)

    def _count(self, rollout: Rollout, version: str, variant: str, metric: str | None, now: datetime) -> VariantCounts:
        since = rollout.stage_started_at
        estimate = None
        if metric is not None:
            rows = self._predictions.labelled(rollout.endpoint, since, version=version, variant=variant)
            estimate = compute_metric(metric, *read_labelled(self._baseline_of(version), rows))
        return self._monitoring.variant_counts(rollout.endpoint, version, variant, since, now, metric=estimate)


def _sample(rows: pl.DataFrame, *, is_split: bool) -> pl.DataFrame:
    ok = rows.filter(pl.col("status") == PredictionStatus.OK.value, pl.col("prediction").is_finite())
    if is_split:
        ok = ok.filter(pl.col(WHO).is_null() | pl.col(WHO).is_last_distinct())
    return sample_rows(ok.select("prediction"), _MOST_COMPARED)


def _limits(stage: Stage | None, endpoint: Endpoint) -> GuardLimits:
    """Return what counts as worse in a stage; in a trial, its own test judges the metric."""
    if stage is not None and stage.trial is not None:
        return GuardLimits()
    if stage is not None and stage.metric is not None:
        return GuardLimits(metric=stage.metric, metric_by=stage.metric_by)
    return GuardLimits(
        metric=next((found.metric for found in endpoint.monitors if isinstance(found, Performance)), None)
    )


def to_verdict(found: GuardVerdict, rollout: Rollout, now: datetime) -> Verdict:
    """Turn what guards found into what a rollout does: too little traffic waits, but not for ever."""
    stage = rollout.stage
    reasons = tuple(found.reasons)
    if found.state == "worse":
        return Verdict(outcome=Outcome.FAIL, reasons=reasons)
    if found.state == "ok" or stage is None:
        return Verdict(outcome=Outcome.PASS, reasons=reasons)
    waited: timedelta = now - rollout.stage_started_at
    if waited >= _PATIENCE * stage.duration:
        return Verdict(outcome=Outcome.PASS, reasons=("too little traffic to judge, nothing bad seen", *reasons))
    return Verdict(outcome=Outcome.WAIT, reasons=reasons)
