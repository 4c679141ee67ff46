"""Where steps run: what an engine offers, and what is sent to it and comes back."""

from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

import msgspec

from flyball.domain.pipelines.results import StoredValue
from flyball.domain.pipelines.store import Note

Work = Callable[[bytes], bytes]
"""Carries out one encoded `Task` and returns its encoded `Outcome`; never raises for what a step does."""


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """One task that came back.

    Attributes:
        number: The number it was submitted with.
        outcome: What the work returned; None when the worker was lost.
        lost: Why the worker was lost, for people.
    """

    number: int
    outcome: bytes | None
    lost: str = ""


class Session(Protocol):
    """An engine at work on one run. Used by one thread, except `wake`."""

    @property
    def free(self) -> int:
        """How many tasks can be submitted now without waiting for one to finish."""
        ...

    def submit(self, number: int, payload: bytes) -> None:
        """Start a task."""
        ...

    def wait(self) -> list[Finished]:
        """Wait until tasks finish or a worker is lost or `wake` is called; empty in the last case."""
        ...

    def wake(self) -> None:
        """Make `wait` return; may be called from a signal handler."""
        ...

    def close(self) -> None:
        """End all workers, also those at work."""
        ...


class Engine(Protocol):
    """Runs work in as many places as it has."""

    @property
    def is_inline(self) -> bool:
        """Tell whether work runs in the calling process, where an interrupt must end it at once."""
        ...

    def open(self, work: Work, *, before_start: Callable[[], None]) -> Session:
        """Begin.

        Args:
            work: Runs once for each task.
            before_start: Called each time before worker processes are made, to close what must not be shared
                with them.
        """
        ...


class Action(StrEnum):
    """What is asked of a worker."""

    IDENTIFY = "identify"
    RUN = "run"


class GivenValue(msgspec.Struct, frozen=True, kw_only=True):
    """A value that a task needs: which call made it, which of its outputs it is, where it lies."""

    call: int
    output: int
    value: StoredValue
    content: bytes | None = None


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to do for one call."""

    call: int
    action: Action
    seed: int = 0
    given: list[GivenValue] = []


class Point(msgspec.Struct, frozen=True, array_like=True):
    """A metric's value that a step logged."""

    name: str
    value: float
    step: int
    logged_at_us: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a task.

    Attributes:
        identity: What an operation depends on besides its inputs.
        outputs: Where each value that was returned lies.
        contents: The bytes of those that are to lie in the database.
        window: When it began and ended, in nanoseconds, as file systems stamp it.
        error: What went wrong, in short; empty when nothing did.
    """

    identity: str = ""
    outputs: list[StoredValue] = []
    contents: list[bytes | None] = []
    notes: list[Note] = []
    points: list[Point] = []
    attempts: int = 1
    duration: timedelta = timedelta()
    window: tuple[int, int] = (0, 0)
    error: str = ""
    traceback: str = ""
