"""Who is told of events, and what they could not be told."""

from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from flyball.domain.journal.events import Event


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How hard to try to tell an alert.

    Attributes:
        tries: Times to send at once, with growing waits between.
        first_wait_s: The first of these waits; they double, give or take some chance.
        first_pause: After all tries failed, how long until the next round; it doubles after each round,
        longest_pause: but is never longer than this.
        rounds: After so many rounds the alert is given up, which the journal tells.
        newcomer_reads: A notifier that was never used before is told what happened in this time.
    """

    tries: int = 3
    first_wait_s: float = 0.5
    first_pause: timedelta = timedelta(seconds=30)
    longest_pause: timedelta = timedelta(hours=1)
    rounds: int = 24
    newcomer_reads: timedelta = timedelta(days=1)

    def pause_after(self, rounds: int) -> timedelta:
        """Return how long to wait after so many failed rounds."""
        doublings: int = 2 ** min(rounds - 1, 30)
        return min(self.first_pause * doublings, self.longest_pause)


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that a notifier could not be told yet, or ever.

    Attributes:
        notifier: What the settings call it.
        event: The alert's event.
        rounds: How many rounds of tries failed.
        next_at: When the next round is due; None when it was given up.
        error: What the last try said.
    """

    notifier: str
    event: int
    rounds: int
    next_at: datetime | None
    error: str


class Receiver(Protocol):
    """Somebody who is told of events."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of events."""
        ...

    def send(self, event: Event) -> None:
        """Tell one event, or raise; it may be called again with the same one.

        Raises:
            BackendUnavailableError: It could not be told now; trying again may help.
            BackendError: It was refused; trying again as it is will not help.
        """
        ...


def cursor_of(name: str) -> str:
    """Return the name of a receiver's cursor."""
    return f"notifier/{name}"
