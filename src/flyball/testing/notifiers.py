"""What every notifier must do; ours and a plugin author's run the same checks.

A test parametrised with `NOTIFIER_CHECKS` calls each check with a `Rig` around the notifier::

    @pytest.mark.parametrize("check", NOTIFIER_CHECKS, ids=lambda check: check.__name__)
    def test_notifier(check, rig):
        check(rig)
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from flyball.core.errors import BackendError
from flyball.domain.monitoring.notifiers import Notification, Notifier


class Rig(Protocol):
    """A notifier and the place where its messages arrive."""

    def open(self) -> Notifier:
        """Return a notifier that works."""
        ...

    def open_broken(self) -> Notifier:
        """Return one whose receiver is gone or refuses."""
        ...

    def arrived(self) -> list[str]:
        """Return what has arrived so far, as text, oldest first."""
        ...


def _notification(number: int, message: str = "income drifted") -> Notification:
    return Notification(
        id=number,
        what="raised",
        endpoint="credit",
        monitor="drift",
        family="drift",
        at=datetime(2026, 3, 1, 14, 5, tzinfo=UTC),
        message=message,
        details={"value": 0.31, "limit": 0.2, "worst": "income"},
    )


def check_an_alert_arrives_with_its_words(rig: Rig) -> None:
    """Endpoint, monitor and message reach the receiver."""
    rig.open().send(_notification(1, "income drifted: Ähnlichkeit ≠ “0.2”"))
    [text] = rig.arrived()
    for part in ("credit", "drift", "income drifted: Ähnlichkeit ≠"):
        assert part in text, f"{part!r} is missing in {text!r}"


def check_each_alert_arrives_once_and_in_order(rig: Rig) -> None:
    """One call tells one thing, and calls do not overtake each other."""
    notifier = rig.open()
    for number in range(5):
        notifier.send(_notification(number + 1, f"message {number}"))
    texts = rig.arrived()
    assert len(texts) == 5
    assert all(f"message {number}" in text for number, text in enumerate(texts))


def check_the_same_alert_can_be_told_again(rig: Rig) -> None:
    """After a crash an alert may come a second time; that is no error."""
    notifier = rig.open()
    notifier.send(_notification(1))
    notifier.send(_notification(1))
    assert len(rig.arrived()) == 2


def check_resolutions_read_differently(rig: Rig) -> None:
    """Who reads it can tell the end of an alert from its beginning."""
    notifier = rig.open()
    notifier.send(_notification(1))
    notifier.send(msgspec.structs.replace(_notification(1), what="resolved"))
    first, second = rig.arrived()
    assert first != second


def check_a_failure_is_a_backend_error(rig: Rig) -> None:
    """What cannot be told raises, in the tree's own words, so that it is tried again."""
    try:
        rig.open_broken().send(_notification(1))
    except BackendError as error:
        assert error.message
    else:
        raise AssertionError("sending to a broken receiver raised nothing")


NOTIFIER_CHECKS: Sequence[Callable[[Rig], None]] = (
    check_an_alert_arrives_with_its_words,
    check_each_alert_arrives_once_and_in_order,
    check_the_same_alert_can_be_told_again,
    check_resolutions_read_differently,
    check_a_failure_is_a_backend_error,
)
"""All checks."""
