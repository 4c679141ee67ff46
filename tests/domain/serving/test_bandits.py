"""A bandit follows the labels within its limits, and each answer knows how likely it was."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyball.core.clock import SimulatedClock
from flyball.core.errors import ConflictError, FlyballError
from flyball.domain.serving.ab_tests import Decision, ab_test
from flyball.domain.serving.bandits import bandit, judge_bandit, limit_share
from flyball.domain.serving.plan import Variant, plan_serving
from flyball.domain.serving.rollouts import (
    Outcome,
    Rollout,
    Verdict,
    apply_move,
    canary,
    draw_share,
    plan_move,
    shadow,
    start_rollout,
)
from flyball.domain.serving.routing import pick_variant
from flyball.domain.serving.service import SHARE_DRAWN
from flyball.domain.serving.trials import Arm, Bandit

from .conftest import REQUEST, START, House, breaks, fixed

DAY = timedelta(days=1)
STAGE = bandit("accuracy", max_share=0.8, min_share=0.1, at_most="14d")
POLICY = STAGE.trial
assert isinstance(POLICY, Bandit)


def arm(mean: float, rows: int = 1_000) -> Arm:
    return Arm(rows=rows, units=rows, mean=mean, variance=mean * (1 - mean) / rows)


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda: bandit("auc"), "others, such as auc, are not means"),
        (lambda: bandit("accuracy", max_share=1.0), "bandit(max_share=1.0) must lie between 0 and 1"),
        (lambda: bandit("accuracy", min_share=0), "bandit(min_share=0) must lie between 0 and 1"),
        (lambda: bandit("accuracy", min_share=0.6), "must not exceed max_share=0.5"),
        (lambda: bandit("accuracy", sure=0.4), "must lie between 0.5 and 1"),
        (lambda: bandit("accuracy", every="often"), "bandit's every 'often' is not a duration"),
        (lambda: bandit("label"), "must say which labels are good"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_plain_words(declare: Callable[[], object], words: str) -> None:
    with pytest.raises(FlyballError) as caught:
        declare()
    assert words in f"{caught.value} {caught.value.hint}"


def test_the_share_is_the_probability_of_being_better_within_the_limits() -> None:
    equal = judge_bandit(STAGE, POLICY, arm(0.7), arm(0.7), DAY)
    assert (equal.probability, equal.share, equal.decision) == (0.5, 0.5, Decision.WAIT)
    ahead = judge_bandit(STAGE, POLICY, arm(0.7), arm(0.72), DAY)
    assert ahead.probability is not None and 0.8 < ahead.probability < 0.99
    assert ahead.share == 0.8
    behind = judge_bandit(STAGE, POLICY, arm(0.72), arm(0.69), DAY)
    assert (behind.share, behind.decision) == (0.1, Decision.WAIT)


def test_what_is_almost_sure_decides_and_the_end_of_the_time_does() -> None:
    assert judge_bandit(STAGE, POLICY, arm(0.6), arm(0.7), DAY).decision is Decision.BETTER
    assert judge_bandit(STAGE, POLICY, arm(0.7), arm(0.6), DAY).decision is Decision.WORSE
    assert judge_bandit(STAGE, POLICY, arm(0.7), arm(0.7), 14 * DAY).decision is Decision.UNDECIDED
    few = judge_bandit(STAGE, POLICY, arm(0.7, 20), arm(0.9, 20), DAY)
    assert (few.decision, few.share, few.probability) == (Decision.WAIT, 0.1, None)


def test_traffic_follows_the_better_version() -> None:
    """Simulated: labels come after each step, the share is set anew, and regret stays under an even split's."""
    dice = np.random.default_rng(2)
    share, asked_new, hits = POLICY.min_share, [], {"live": [], "new": []}
    for _ in range(60):
        is_new = dice.random(50) < share
        asked_new.append(is_new.mean())
        hits["new"] += (dice.random(int(is_new.sum())) < 0.75).tolist()
        hits["live"] += (dice.random(int((~is_new).sum())) < 0.65).tolist()
        arms = [
            Arm(rows=len(h), units=len(h), mean=float(np.mean(h)), variance=float(np.var(h)) / len(h))
            for h in (hits["live"], hits["new"])
        ]
        share = judge_bandit(STAGE, POLICY, *arms, DAY).share
    assert np.mean(asked_new[-20:]) > 0.7


def begin(*stages: Any) -> Rollout:
    return start_rollout(
        id="r", endpoint="credit", model="m", candidate="m/2", champion="m/1", stages=stages, now=START
    )


_shares = st.floats(-1, 2)
_walk = st.lists(st.one_of(_shares, st.sampled_from(["advance", "fail", "wait", "restart"])), max_size=40)


@settings(deadline=None)
@given(_walk, st.floats(0.05, 0.9), st.integers(0, 1_000_000))
def test_law_trials_never_exceed_their_declared_traffic(walk: Any, most: float, key: int) -> None:
    """Whatever labels say, and over restarts: the share stays within the stage's, and so does each entity's place."""
    stages = [
        shadow("1h"),
        bandit("accuracy", max_share=most, min_share=0.01),
        ab_test("accuracy", min_effect=0.1, share=0.95),
    ]
    rollout, now = begin(*stages), START
    for step in walk:
        now += 2 * DAY
        if step == "restart":
            rollout = msgspec.json.decode(msgspec.json.encode(rollout), type=Rollout)
        elif isinstance(step, float):
            try:
                rollout = draw_share(rollout, step, now)
            except ConflictError:
                assert rollout.stage is None or rollout.stage.trial is None or rollout.share in (0.95, 0.0, 1.0)
        else:
            outcome = {"advance": Outcome.PASS, "fail": Outcome.FAIL, "wait": Outcome.WAIT}[step]
            rollout = apply_move(rollout, plan_move(rollout, now, Verdict(outcome=outcome)), now)
        stage = rollout.stage
        if stage is None:
            return
        assert 0 <= rollout.share <= stage.share
        plan = plan_serving("credit", "m", "m/1", rollout)
        assert plan.share == rollout.share
        if pick_variant(plan, [key]) is Variant.CANARY:
            widest = msgspec.structs.replace(plan, share=stage.share)
            assert pick_variant(widest, [key]) is Variant.CANARY, "who is asked lies within the declared traffic"


def test_only_a_bandits_share_moves() -> None:
    with pytest.raises(ConflictError, match="has a share that is declared"):
        draw_share(begin(canary(0.5, "1h")), 0.7, START)


def test_a_bandits_share_is_kept_told_and_followed(house: House) -> None:
    house.go_live(house.add(1, fixed(0.25)))
    house.start(house.add(2, fixed(0.75)), bandit("accuracy", max_share=0.6, min_share=0.1))
    rows = [{**REQUEST, "customer_id": number} for number in range(2_000)]

    def asked() -> float:
        return sum(answer.variant == "canary" for answer in house.plane.predict("credit", rows)) / len(rows)

    assert asked() == pytest.approx(0.1, abs=0.03)
    house.rollouts.draw("credit", 0.99, reason="it is better")
    assert asked() == pytest.approx(0.6, abs=0.04)
    [event] = house.journal.list_events(kinds=[SHARE_DRAWN])
    assert (event.data["from_share"], event.data["share"]) == (0.1, 0.6)
    frame = house.sealed()
    canaries = frame.filter(pl.col("variant") == "canary")["propensity"].unique().sort().to_list()
    others = frame.filter(pl.col("variant") == "live")["propensity"].unique().sort().to_list()
    assert canaries == [0.1, 0.6]
    assert others == pytest.approx([0.4, 0.9])


def test_a_trial_may_be_divided_by_other_fields_than_the_entity(house: House) -> None:
    house.go_live(house.add(1, fixed(0.25)))
    house.start(house.add(2, fixed(0.75)), ab_test("accuracy", min_effect=0.1, by=["term"]))
    rows = [{**REQUEST, "customer_id": n % 9 + 1, "term": n // 10 + 1} for n in range(500)]
    answers = house.plane.predict("credit", rows)
    by_term: dict[int, set[str]] = {}
    for row, answer in zip(rows, answers, strict=True):
        by_term.setdefault(row["term"], set()).add(answer.variant)
    assert all(len(variants) == 1 for variants in by_term.values())
    assert {"live", "canary"} == {variant for variants in by_term.values() for variant in variants}


def test_an_answer_given_in_place_of_a_failed_candidate_says_so(house: House) -> None:
    house.go_live(house.add(1, fixed(0.25)))
    house.start(house.add(2, breaks("it is broken")), ab_test("accuracy", min_effect=0.1))
    house.plane.predict("credit", [{**REQUEST, "customer_id": number} for number in range(50)])
    frame = house.sealed()
    failed = frame.filter(pl.col("status") == "error").height
    assert failed > 10
    assert frame.filter(pl.col("node") == "live-for-canary", pl.col("variant") == "live").height == failed


@given(st.floats(0, 1) | st.none())
def test_the_limits_hold(probability: float | None) -> None:
    assert 0.1 <= limit_share(STAGE, POLICY, probability) <= 0.8


def test_a_new_stage_begins_with_its_own_share(tmp_path: Path) -> None:
    second = bandit("accuracy", max_share=0.9, min_share=0.5)
    rollout = draw_share(begin(STAGE, second), 0.7, START)
    assert rollout.share == 0.7
    clock = SimulatedClock(START + 2 * DAY)
    moved = apply_move(rollout, plan_move(rollout, clock.now(), Verdict(outcome=Outcome.PASS)), clock.now())
    assert moved.share == 0.5
