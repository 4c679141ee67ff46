from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyball.core.errors import InvalidInputError
from flyball.domain.data.tables import Table
from flyball.domain.loop.reactions import Circumstances, FiringAlert, find_call
from flyball.domain.loop.triggers import (
    Trigger,
    degraded,
    drifted,
    every,
    new_data,
    parse_policy,
    schedule,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
DRIFT = FiringAlert(kind="drift", monitor="drift", raised_by=7, message="income has drifted")
DECAY = FiringAlert(kind="performance", monitor="auc", raised_by=9, message="auc is 0.6")


def reason(triggers: Sequence[Trigger], after: timedelta, **given: object) -> str | None:
    call = find_call(triggers, Circumstances(now=START + after, last_started_at=START, **given))  # type: ignore[arg-type]
    return call.reason if call else None


@given(st.integers(1, 200), st.integers(0, 400))
def test_a_period_calls_exactly_when_it_is_over(period_h: int, after_h: int) -> None:
    called = reason([every(f"{period_h}h")], timedelta(hours=after_h)) is not None
    assert called == (after_h >= period_h)


def test_a_schedule_calls_once_its_time_has_come() -> None:
    trigger = schedule("0 3 * * *")
    assert reason([trigger], timedelta(hours=2, minutes=59)) is None
    assert reason([trigger], timedelta(hours=3)) == "schedule 0 3 * * *, due 2026-01-01 03:00"
    assert reason([trigger], timedelta(days=9)) is not None


def test_alerts_call_by_kind_with_the_event_that_raised_them() -> None:
    assert reason([drifted()], timedelta(days=2), alerts=[DECAY]) is None
    call = find_call(
        [degraded()], Circumstances(now=START + timedelta(days=2), last_started_at=START, alerts=[DRIFT, DECAY])
    )
    assert call is not None and call.cause == 9 and "auc is 0.6" in call.reason


def test_an_alert_does_not_call_again_during_the_cool_down() -> None:
    assert reason([drifted(cooldown="3d")], timedelta(days=2), alerts=[DRIFT]) is None
    assert reason([drifted(cooldown="3d")], timedelta(days=3), alerts=[DRIFT]) is not None


def test_new_rows_call_when_there_are_enough() -> None:
    table = Table("payments.csv", name="payments")
    assert reason([new_data(table, rows=10)], timedelta(), new_rows={"payments": 9}) is None
    assert reason([new_data(table, rows=10)], timedelta(), new_rows={"payments": 10}) == "10 new rows in payments"


def test_policies_are_read_as_they_are_written() -> None:
    assert parse_policy("never") == ()
    assert [str(trigger) for trigger in parse_policy("every 30d + degraded")] == ["every 30d", "degraded"]
    assert str(parse_policy("schedule 0 3 * * 1")[0]) == "schedule 0 3 * * 1"
    with pytest.raises(InvalidInputError, match="'sometimes' is not a policy"):
        parse_policy("sometimes")


def test_declarations_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="is not a schedule"):
        schedule("every morning")
    with pytest.raises(InvalidInputError, match="must be at least 1"):
        new_data(Table("x.csv"), rows=0)
