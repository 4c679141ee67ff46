"""The state machine of alerts."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flyball.domain.monitoring.alerts import CLEAR_AFTER, Alert, advance_alert
from flyball.domain.monitoring.findings import Finding

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
QUIET = Alert(endpoint="credit", monitor="drift", kind="drift", family="drift", version="credit-risk/1")


def _finding(hour: int, state: Any, version: str = "credit-risk/1", family: Any = "drift") -> Finding:
    return Finding(
        monitor="drift",
        kind="drift",
        family=family,
        state=state,
        version=version,
        at=START + hour * HOUR,
        message=f"{state} at {hour}",
    )


def _run(states: str, *, cool_down: timedelta = timedelta(days=1)) -> list[tuple[int, str]]:
    names = {"F": "firing", ".": "ok", "?": "not-enough-data"}
    alert, told = QUIET, []
    for hour, sign in enumerate(states):
        alert, changes = advance_alert(alert, _finding(hour, names[sign]), cool_down)
        told.extend((hour, change.what) for change in changes)
    return told


def test_an_alert_is_raised_once_while_it_fires() -> None:
    assert _run("..FFFFF") == [(2, "raised")]


def test_it_is_resolved_after_enough_good_evaluations() -> None:
    assert CLEAR_AFTER == 2
    assert _run("FF.F..") == [(0, "raised"), (5, "resolved")]


def test_too_little_data_neither_raises_nor_resolves() -> None:
    assert _run("??F????") == [(2, "raised")]
    assert _run("F.?.") == [(0, "raised"), (3, "resolved")]


def test_within_the_cool_down_it_is_not_raised_again() -> None:
    assert _run("F..FFFF", cool_down=5 * HOUR) == [(0, "raised"), (2, "resolved"), (5, "raised")]


def test_another_live_version_ends_the_alert_and_is_judged_anew() -> None:
    alert, _ = advance_alert(QUIET, _finding(0, "firing"), HOUR)
    alert, changes = advance_alert(alert, _finding(1, "not-enough-data", "credit-risk/2"), HOUR)
    assert [(change.what, change.reason) for change in changes] == [
        ("resolved", "credit-risk/2 is live in place of credit-risk/1")
    ]
    alert, changes = advance_alert(alert, _finding(2, "firing", "credit-risk/2"), HOUR)
    assert [change.what for change in changes] == ["raised"]
    assert alert.version == "credit-risk/2"


def test_the_alert_of_the_old_version_can_be_followed_at_once_by_the_new_ones() -> None:
    alert, _ = advance_alert(QUIET, _finding(0, "firing"), HOUR)
    _, changes = advance_alert(alert, _finding(1, "firing", "credit-risk/2"), HOUR)
    assert [change.what for change in changes] == ["resolved", "raised"]


def test_service_alerts_outlive_a_version() -> None:
    quiet = Alert(endpoint="credit", monitor="service", kind="service", family="service", version="a/1")
    alert, _ = advance_alert(quiet, _finding(0, "firing", "a/1", "service"), HOUR)
    alert, changes = advance_alert(alert, _finding(1, "firing", "a/2", "service"), HOUR)
    assert changes == []
    assert alert.is_raised


@settings(deadline=None)
@given(st.text(alphabet="F.?", max_size=60), st.integers(0, 20))
def test_raises_and_resolves_alternate_and_keep_the_cool_down(states: str, cool_down_h: int) -> None:
    told = _run(states, cool_down=cool_down_h * HOUR)
    assert [what for _, what in told] == (["raised", "resolved"] * len(told))[: len(told)]
    raised = [hour for hour, what in told if what == "raised"]
    assert all(later - earlier >= cool_down_h for earlier, later in pairwise(raised))
