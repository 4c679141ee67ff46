from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyball.core.clock import SimulatedClock
from flyball.core.errors import ConflictError, InvalidInputError
from flyball.domain.journal.service import Journal
from flyball.domain.serving.rollouts import (
    Move,
    Outcome,
    Rollout,
    RolloutStatus,
    Verdict,
    apply_move,
    canary,
    check_stages,
    plan_move,
    shadow,
    start_rollout,
    state_at,
)
from flyball.domain.serving.service import NoRolloutError, RolloutRunningError, RolloutService
from flyball.storage.db import Database, Transaction

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
PASS, WAIT, FAIL = (Verdict(outcome=outcome) for outcome in Outcome)


def begin(*stages: Any, champion: str | None = "m/1") -> Rollout:
    return start_rollout(
        id="r", endpoint="credit", model="m", candidate="m/2", champion=champion, stages=stages, now=START
    )


def test_stages_say_what_they_are() -> None:
    assert str(shadow("1h")) == "shadow for 1h"
    assert str(canary(0.05, "30m")) == "canary 5% for 30m"


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.1, "0.1", True, float("nan")])
def test_a_share_outside_its_range_is_refused(share: Any) -> None:
    with pytest.raises(InvalidInputError, match="a canary's share must"):
        canary(share, "1h")


@pytest.mark.parametrize("duration", ["soon", "", "0s"])
def test_a_duration_that_is_none_is_refused(duration: str) -> None:
    with pytest.raises(InvalidInputError):
        shadow(duration)


def test_shrinking_traffic_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="shadow follows canary 5%"):
        check_stages([canary(0.05, "1h"), shadow("1h")])


def test_a_version_walks_through_its_stages_to_live() -> None:
    rollout, now, states = begin(shadow("1h"), canary(0.05, "1h"), canary(0.5, "2h")), START, []
    while rollout.is_running:
        states.append((rollout.state, rollout.share))
        assert plan_move(rollout, now + timedelta(minutes=59), PASS) is Move.STAY
        now += HOUR if rollout.state != "canary 50%" else 2 * HOUR
        rollout = apply_move(rollout, plan_move(rollout, now, PASS), now, "no harm seen")
    assert states == [("shadow", 0.0), ("canary 5%", 0.05), ("canary 50%", 0.5)]
    assert (rollout.status, rollout.share, rollout.ended_at) == (RolloutStatus.PROMOTED, 1.0, START + 4 * HOUR)
    assert [state_at(rollout, START + offset * HOUR) for offset in (-1, 0, 1, 2, 3, 4, 9)] == [
        None,
        "shadow",
        "canary 5%",
        "canary 50%",
        "canary 50%",
        "promoted",
        "promoted",
    ]


def test_harm_ends_it_at_once_and_doubt_holds_it() -> None:
    rollout = begin(canary(0.05, "1h"))
    assert plan_move(rollout, START, FAIL) is Move.ROLL_BACK
    assert plan_move(rollout, START + 9 * HOUR, WAIT) is Move.STAY
    back = apply_move(rollout, Move.ROLL_BACK, START, "errors")
    assert (back.status, back.share, back.runs[-1].reason) == (RolloutStatus.ROLLED_BACK, 0.0, "errors")
    assert plan_move(back, START + 9 * HOUR, PASS) is Move.STAY
    with pytest.raises(ConflictError, match="is rolled-back already"):
        apply_move(back, Move.PROMOTE, START)


def test_the_first_version_and_one_without_stages_go_live_at_once() -> None:
    assert begin(shadow("1h"), champion=None).status is RolloutStatus.PROMOTED
    assert begin().status is RolloutStatus.PROMOTED


_stages = st.lists(st.floats(0.01, 0.99), max_size=4).map(
    lambda shares: [shadow("1h"), *(canary(share, "1h") for share in sorted(shares))]
)
_steps = st.lists(st.tuples(st.integers(0, 5_000), st.sampled_from([PASS, PASS, PASS, WAIT, FAIL])), max_size=30)


@settings(deadline=None)
@given(_stages, _steps)
def test_law_a_rollout_never_exceeds_the_traffic_of_the_stages_it_earned(stages: Any, steps: Any) -> None:
    rollout, now, earned = begin(*stages), START, timedelta()
    for seconds, verdict in steps:
        now += timedelta(seconds=seconds)
        stored = msgspec.json.decode(msgspec.json.encode(rollout), type=Rollout)
        assert stored == rollout  # it survives a restart between any two steps
        rollout = apply_move(stored, plan_move(stored, now, verdict), now)
        earned = now - START
        entered = len(rollout.runs)
        # Every stage before the present one lasted at least as long as declared.
        assert earned >= (entered - 1) * HOUR
        if rollout.is_running:
            assert rollout.share == stages[entered - 1].share
        else:
            assert rollout.share == (1.0 if rollout.status is RolloutStatus.PROMOTED else 0.0)
            assert rollout.status is not RolloutStatus.PROMOTED or earned >= len(stages) * HOUR


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(START)


@pytest.fixture
def journal(tmp_path: Path, clock: SimulatedClock) -> Journal:
    return Journal(Database(f"sqlite:///{tmp_path / 'flyball.db'}"), clock)


@pytest.fixture
def service(tmp_path: Path, journal: Journal, clock: SimulatedClock) -> RolloutService:
    return RolloutService(Database(f"sqlite:///{tmp_path / 'flyball.db'}"), journal, clock)


def start(service: RolloutService, **changes: Any) -> Rollout:
    stages = [shadow("1h"), canary(0.05, "1h")]
    return service.start(
        "credit", **({"model": "m", "candidate": "m/2", "champion": "m/1", "stages": stages} | changes)
    )


def test_each_move_is_kept_with_its_event(service: RolloutService, journal: Journal, clock: SimulatedClock) -> None:
    start(service, cause=None)
    clock.advance(HOUR)
    assert service.judge("credit", PASS)[0] is Move.ADVANCE
    clock.advance(HOUR)
    promoted: list[str] = []

    def move_alias(tx: Transaction, rollout: Rollout) -> None:
        promoted.append(rollout.candidate)

    move, rollout = service.judge("credit", PASS, evidence={"errors": 0.0}, actor="loop", within=move_alias)
    assert (move, rollout.status, promoted) == (Move.PROMOTE, RolloutStatus.PROMOTED, ["m/2"])
    events = journal.list_events()
    assert [event.kind for event in events] == [
        "serving.rollout.started",
        "serving.rollout.advanced",
        "serving.rollout.promoted",
    ]
    assert events[0].data["stages"] == ["shadow for 1h", "canary 5% for 1h"]
    assert events[-1].data["evidence"] == {"errors": 0.0}
    assert service.find_running("credit") is None
    found = service.find_at("credit", START + HOUR / 2)
    assert found is not None and state_at(found, START + HOUR / 2) == "shadow"


def test_nothing_is_kept_when_what_belongs_to_it_fails(service: RolloutService, journal: Journal) -> None:
    start(service)

    def fail(tx: Transaction, rollout: Rollout) -> None:
        raise ValueError

    with pytest.raises(ValueError):
        service.apply("credit", Move.PROMOTE, reason="by hand", within=fail)
    running = service.find_running("credit")
    assert running is not None and running.state == "shadow"
    assert [event.kind for event in journal.list_events()] == ["serving.rollout.started"]


def test_a_guards_no_rolls_back_with_its_reasons(service: RolloutService, journal: Journal) -> None:
    start(service)
    service.judge("credit", Verdict(outcome=Outcome.FAIL, reasons=("20% errors against 0%",)))
    [event] = journal.list_events(kinds=["serving.rollout.rolled-back"])
    assert (event.data["reason"], event.data["from"], event.data["state"]) == (
        "20% errors against 0%",
        "shadow",
        "rolled-back",
    )


def test_only_one_version_at_a_time_is_on_its_way(service: RolloutService) -> None:
    start(service)
    with pytest.raises(RolloutRunningError, match="m/2 is on its way to live on 'credit' already"):
        start(service, candidate="m/3")


def test_judging_nothing_is_refused(service: RolloutService) -> None:
    with pytest.raises(NoRolloutError):
        service.judge("credit", PASS)


def test_the_live_version_cannot_be_rolled_out(service: RolloutService) -> None:
    with pytest.raises(ConflictError, match="m/1 is live on 'credit' already"):
        start(service, candidate="m/1")
