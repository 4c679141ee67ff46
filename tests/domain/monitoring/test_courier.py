"""Alerts reach notifiers at least once and in order, whatever fails or crashes in between."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.notifiers.receiver import receiving

from flyball.core.clock import SimulatedClock
from flyball.core.errors import BackendError, BackendUnavailableError
from flyball.domain.journal.service import Journal
from flyball.domain.monitoring.courier import (
    ALERT_RAISED,
    ALERT_RESOLVED,
    NOTIFICATION_FAILED,
    Courier,
)
from flyball.domain.monitoring.deliveries import Patience
from flyball.domain.monitoring.notifiers import Notification
from flyball.notifiers.webhook import WebhookNotifier
from flyball.storage.db import Database

HASTY = Patience(tries=2, first_wait_s=0.0, first_pause=timedelta(seconds=30), rounds=3)


class Mailbox:
    """A notifier that keeps what it is told, and fails as often as it is asked to."""

    def __init__(self, failures: int = 0, error: Exception | None = None) -> None:
        self.told: list[int] = []
        self.calls = 0
        self._failures = failures
        self._error = error or BackendUnavailableError("the mailbox is closed")

    def send(self, notification: Notification) -> None:
        self.calls += 1
        if self._failures:
            self._failures -= 1
            raise self._error
        self.told.append(notification.id)


class Home:
    def __init__(self, folder: Path) -> None:
        self.db = Database(f"sqlite:///{folder}/flyball.db")
        self.clock = SimulatedClock(datetime(2026, 3, 1, tzinfo=UTC))
        self.journal = Journal(self.db, self.clock)

    def raise_alert(self, kind: str = ALERT_RAISED) -> int:
        data = {"monitor": "drift", "family": "drift", "message": "income drifted", "value": 0.3}
        with self.db.begin() as tx:
            return self.journal.append(tx, kind, "endpoint/credit", data).seq

    def courier(self, **notifiers: Mailbox) -> Courier:
        return Courier(self.db, self.journal, self.clock, notifiers, HASTY)

    def failed(self) -> list[dict]:
        return [event.data for event in self.journal.list_events(kinds=[NOTIFICATION_FAILED])]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    found = Home(tmp_path)
    yield found
    found.db.close()


def test_alerts_and_their_ends_are_told_once_and_in_order(home: Home) -> None:
    first, second = home.raise_alert(), home.raise_alert(ALERT_RESOLVED)
    box = Mailbox()
    assert home.courier(box=box).deliver() == 2
    assert home.courier(box=box).deliver() == 0
    assert box.told == [first, second]


def test_other_events_are_not_told(home: Home) -> None:
    home.raise_alert("registry.alias.moved")
    box = Mailbox()
    assert home.courier(box=box).deliver() == 0
    assert box.calls == 0


def test_a_short_failure_is_overcome_at_once(home: Home) -> None:
    alert, box = home.raise_alert(), Mailbox(failures=1)
    home.courier(box=box).deliver()
    assert box.told == [alert]
    assert home.courier(box=box).failures() == []


def test_a_longer_failure_waits_for_its_next_round(home: Home) -> None:
    alert, box = home.raise_alert(), Mailbox(failures=2)
    courier = home.courier(box=box)
    assert courier.deliver() == 0
    [failure] = courier.failures()
    assert (failure.notifier, failure.event, failure.rounds) == ("box", alert, 1)
    assert failure.error == "the mailbox is closed"
    assert courier.deliver() == 0
    assert box.calls == 2
    home.clock.advance(timedelta(seconds=30))
    assert courier.deliver() == 1
    assert courier.failures() == []


def test_a_failing_notifier_does_not_hold_up_the_others(home: Home) -> None:
    first, second = home.raise_alert(), home.raise_alert()
    closed, open_ = Mailbox(failures=99), Mailbox()
    home.courier(closed=closed, open=open_).deliver()
    assert (closed.told, open_.told) == ([], [first, second])


def test_what_is_never_taken_is_given_up_and_the_next_one_told(home: Home) -> None:
    first, second = home.raise_alert(), home.raise_alert()
    box = Mailbox(failures=2 * HASTY.rounds)
    courier = home.courier(box=box)
    for _ in range(HASTY.rounds):
        courier.deliver()
        home.clock.advance(timedelta(hours=1))
    assert box.told == [second]
    assert home.failed() == [{"notifier": "box", "alert": first, "error": "the mailbox is closed"}]
    assert [(failure.event, failure.next_at) for failure in courier.failures()] == [(first, None)]


@pytest.mark.parametrize("error", [BackendError("refused"), ZeroDivisionError("a bug in a plugin")])
def test_a_refusal_or_a_bug_is_not_tried_again(home: Home, error: Exception) -> None:
    first, second = home.raise_alert(), home.raise_alert()
    box = Mailbox(failures=1, error=error)
    home.courier(box=box).deliver()
    assert box.told == [second]
    assert [failed["alert"] for failed in home.failed()] == [first]


def test_an_outage_longer_than_a_newcomers_memory_loses_nothing(home: Home) -> None:
    home.courier(box=Mailbox()).deliver()
    alert = home.raise_alert()
    home.clock.advance(timedelta(days=30))
    box = Mailbox()
    home.courier(box=box).deliver()
    assert box.told == [alert]


def test_a_new_notifier_is_spared_the_alerts_of_long_ago(home: Home) -> None:
    home.raise_alert()
    home.clock.advance(timedelta(days=2))
    recent = home.raise_alert()
    box = Mailbox()
    home.courier(box=box).deliver()
    assert box.told == [recent]


class _Killed(BaseException):
    """Stands for the end of the process."""


def test_a_crash_after_sending_tells_it_again_and_one_before_loses_none(home: Home) -> None:
    alert, box = home.raise_alert(), Mailbox()
    courier = home.courier(box=box)
    begin, calls = home.db.begin, 0

    def killed_on_the_second_commit() -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise _Killed
        return begin()

    home.db.begin = killed_on_the_second_commit  # type: ignore[method-assign,assignment]
    with pytest.raises(_Killed):
        courier.deliver()
    home.db.begin = begin  # type: ignore[method-assign]
    home.courier(box=box).deliver()
    assert box.told == [alert, alert]


def _wait_for(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not what() and time.monotonic() < end:
        time.sleep(0.005)
    assert what()


def test_nobody_waits_for_a_slow_receiver(home: Home) -> None:
    with receiving() as receiver:
        receiver.delay.clear()
        courier = Courier(home.db, home.journal, home.clock, {"webhook": WebhookNotifier(receiver.url)}, HASTY)
        courier.start()
        began = time.monotonic()
        alert = home.raise_alert()
        courier.wake()
        assert time.monotonic() - began < 1
        receiver.delay.set()
        _wait_for(lambda: len(receiver.bodies) == 1)
        courier.stop()
        assert receiver.bodies[0]["id"] == alert
