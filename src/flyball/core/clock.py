"""Time as an input: the only module that reads the system's clock."""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells what time it is; live and simulated time look the same to every caller."""

    def now(self) -> datetime:
        """Return the present instant, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """See `Clock.now`."""
        return datetime.now(UTC)


class SimulatedClock:
    """A clock that stands still until it is moved; it never goes back."""

    def __init__(self, start: datetime) -> None:
        self._now = start.astimezone(UTC)

    def now(self) -> datetime:
        """See `Clock.now`."""
        return self._now

    def advance_to(self, instant: datetime) -> None:
        """Move to ``instant``; an instant in the past leaves the clock where it is."""
        self._now = max(self._now, instant.astimezone(UTC))

    def advance(self, step: timedelta) -> None:
        """Move forward by ``step``."""
        self.advance_to(self._now + step)


def monotonic_s() -> float:
    """Return seconds for measuring durations, unrelated to any calendar."""
    return time.perf_counter()


def processor_s() -> float:
    """Return the processor time that this thread has used, in seconds."""
    return time.thread_time()


def sleep(duration_s: float) -> None:
    """Wait in real time; loops that simulate never call it."""
    time.sleep(duration_s)
