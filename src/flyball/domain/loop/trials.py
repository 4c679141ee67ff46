"""Judges trials, A/B tests and bandits, by the labels that have come since their stage began.

Nothing is kept between two looks: figures are taken anew from the log and the labels, and a restart changes nothing.
"""

from collections.abc import Callable
from datetime import datetime

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from flyball.core.encoding import to_plain
from flyball.domain.loop.pace import pause_after
from flyball.domain.monitoring.distributions import Baseline, read_labelled
from flyball.domain.monitoring.row_scores import score_each
from flyball.domain.predictions.records import LIVE_FOR_CANARY, PredictionStatus
from flyball.domain.predictions.service import PredictionService
from flyball.domain.serving.ab_tests import ABResult, Decision, judge_ab_test
from flyball.domain.serving.bandits import BanditResult, judge_bandit
from flyball.domain.serving.rollouts import Outcome, Rollout, Stage, Verdict
from flyball.domain.serving.trials import ABTest, Arm, Trial, summarise

DECIDED = "loop.trial.decided"
"""The event that tells how a trial ended."""
_OUTCOMES = {
    Decision.BETTER: Outcome.PASS,
    Decision.WORSE: Outcome.FAIL,
    Decision.NO_GAIN: Outcome.FAIL,
    Decision.UNDECIDED: Outcome.FAIL,
    Decision.WAIT: Outcome.WAIT,
}
_WORDS = {
    Decision.BETTER: "the new version is better",
    Decision.WORSE: "the new version is worse",
    Decision.NO_GAIN: "the new version is not better by the least effect worth having",
    Decision.UNDECIDED: "the time is over without a decision, so the live version is kept",
    Decision.WAIT: "undecided so far",
}


class TrialLook(msgspec.Struct, frozen=True, kw_only=True):
    """A trial at one look.

    Attributes:
        stage: The trial's stage in words.
        live: The live version.
        candidate: The new one.
        result: The figures.
        verdict: What the rollout makes of them.
    """

    stage: str
    live: str
    candidate: str
    result: ABResult | BanditResult
    verdict: Verdict

    @property
    def data(self) -> dict[str, object]:
        """The look as an event tells it."""
        return {
            "stage": self.stage,
            "live": self.live,
            "candidate": self.candidate,
            "decision": self.result.decision.value,
            "result": to_plain(self.result),
        }


class _Seen(msgspec.Struct, frozen=True):
    """The figures of an endpoint's trial when they were last taken."""

    rollout: str
    seen: tuple[int, int, int]
    at: datetime
    arms: tuple[Arm, Arm]


class TrialJudge:
    """Looks at trials.

    Args:
        predictions: The log and the labels.
        baseline_of: Tells how a version's predictions and labels compare.
    """

    def __init__(self, predictions: PredictionService, baseline_of: Callable[[str], Baseline]) -> None:
        self._predictions = predictions
        self._baseline_of = baseline_of
        self._seen: dict[str, _Seen] = {}

    def look(self, rollout: Rollout, stage: Stage, now: datetime) -> TrialLook:
        """Return what is known of a rollout's trial.

        Raises:
            InvalidInputError: The metric does not fit the models.
        """
        trial = stage.trial
        assert trial is not None  # only trials are looked at
        live, new = self._read_arms(rollout, trial, now)
        elapsed = now - rollout.stage_started_at
        result: ABResult | BanditResult
        if isinstance(trial, ABTest):
            result = judge_ab_test(trial, live, new, elapsed)
        else:
            result = judge_bandit(stage, trial, live, new, elapsed)
        outcome = _OUTCOMES[result.decision]
        if outcome is Outcome.FAIL and elapsed < stage.duration:
            outcome = Outcome.WAIT
        reasons = (f"{_WORDS[result.decision]}: {result.message}",)
        return TrialLook(
            stage=stage.name,
            live=rollout.champion or "",
            candidate=rollout.candidate,
            result=result,
            verdict=Verdict(outcome=outcome, reasons=reasons),
        )

    def _read_arms(self, rollout: Rollout, trial: Trial, now: datetime) -> tuple[Arm, Arm]:
        # Labels and sealed predictions are all that figures depend on; both only grow.
        seen = (len(rollout.runs), self._predictions.last_label_seq(), self._predictions.count(rollout.endpoint))
        known = self._seen.get(rollout.endpoint)
        if known is not None and known.rollout == rollout.id:
            is_same_stage = known.seen[0] == seen[0]
            if known.seen == seen or (is_same_stage and now - known.at < pause_after(seen[2])):
                return known.arms
        arms = self._compute_arms(rollout, trial)
        self._seen[rollout.endpoint] = _Seen(rollout=rollout.id, seen=seen, at=now, arms=arms)
        return arms

    def _compute_arms(self, rollout: Rollout, trial: Trial) -> tuple[Arm, Arm]:
        since = rollout.stage_started_at
        labelled = self._predictions.labelled(rollout.endpoint, since)
        # Those that could have been answered by either: not the rows of the moments before the gateway knew.
        labelled = labelled.filter(pl.col("rollout") == rollout.id, pl.col("stage") == _name(rollout))
        facts = self._predictions.scan(rollout.endpoint, since).filter(
            pl.col("rollout") == rollout.id, pl.col("status") == PredictionStatus.OK.value
        )
        columns = ["id", "entity", "propensity", "node", *(["request"] if trial.by else [])]
        rows = labelled.join(facts.select(columns).collect(), on="id", how="inner", maintain_order="left")
        # Who is assigned to the new version counts for it, also where it failed and the live one answered instead.
        is_new = (pl.col("variant") == "canary") | (pl.col("node") == LIVE_FOR_CANARY).fill_null(False)
        return (
            self._summarise(rows.filter(~is_new), rollout.champion or "", trial),
            self._summarise(rows.filter(is_new), rollout.candidate, trial),
        )

    def _summarise(self, rows: pl.DataFrame, version: str, trial: Trial) -> Arm:
        if rows.is_empty():
            return Arm(rows=0, units=0)
        labels, predictions = read_labelled(self._baseline_of(version), rows)
        scores, present = score_each(trial.metric, labels, predictions)
        weights = None
        if not isinstance(trial, ABTest):
            weights = 1 / rows["propensity"].fill_null(1.0).to_numpy()[present]
        return summarise(scores[present], _number_units(rows, trial.by)[present], weights)


def _number_units(rows: pl.DataFrame, by: tuple[str, ...]) -> NDArray[np.int64]:
    """Return a number for each row's unit; a row about nobody is a unit of its own."""
    if by:
        fields = pl.Struct([pl.Field(name, pl.String) for name in by])
        keys = rows["request"].str.json_decode(fields).struct.json_encode()
        nobody = keys == pl.Series([dict.fromkeys(by)], dtype=fields).struct.json_encode()[0]
    else:
        keys, nobody = rows["entity"], rows["entity"] == "{}"
    named = pl.select(pl.when(nobody).then(rows["id"]).otherwise(keys).alias("unit"))["unit"]
    return named.rank("dense").cast(pl.Int64).to_numpy()


def _name(rollout: Rollout) -> str:
    stage = rollout.stage
    return stage.name if stage is not None else ""
