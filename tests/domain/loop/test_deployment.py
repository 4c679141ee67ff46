"""What guards find becomes what a rollout does."""

from datetime import UTC, datetime, timedelta

import pytest

from flyball.domain.loop.deployment import to_verdict
from flyball.domain.monitoring.guards import Comparison, GuardVerdict, State
from flyball.domain.serving.rollouts import Outcome, canary, start_rollout

START = datetime(2026, 1, 1, tzinfo=UTC)
ROLLOUT = start_rollout(
    id="r", endpoint="credit", model="m", candidate="m/2", champion="m/1", stages=[canary(0.1, "1h")], now=START
)


def found(state: State) -> GuardVerdict:
    comparison = Comparison(what="errors", state=state, live=0.0, new=0.5, p_value=0.0, message="half of them failed")
    return GuardVerdict(state=state, comparisons=[comparison])


@pytest.mark.parametrize(
    ("state", "after_h", "outcome"),
    [
        ("worse", 0, Outcome.FAIL),
        ("worse", 100, Outcome.FAIL),
        ("ok", 0, Outcome.PASS),
        ("not-enough-data", 1, Outcome.WAIT),
        ("not-enough-data", 3.9, Outcome.WAIT),
        ("not-enough-data", 4, Outcome.PASS),
    ],
)
def test_harm_ends_at_once_and_little_traffic_waits_but_not_for_ever(
    state: State, after_h: float, outcome: Outcome
) -> None:
    verdict = to_verdict(found(state), ROLLOUT, START + timedelta(hours=after_h))
    assert verdict.outcome is outcome
    assert "half of them failed" in verdict.summary
