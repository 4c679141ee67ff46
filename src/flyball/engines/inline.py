"""Runs steps in the calling process, one after the other: for replays, tests and debuggers."""

from collections.abc import Callable

from flyball.domain.pipelines.engine import Finished, Work


class InlineEngine:
    """Implements `Engine` without any other process."""

    is_inline = True

    def open(self, work: Work, *, before_start: Callable[[], None]) -> "InlineSession":
        """See `Engine.open`."""
        return InlineSession(work)


class InlineSession:
    """Implements `Session`: a task is done when `submit` returns."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._finished: list[Finished] = []

    @property
    def free(self) -> int:
        """See `Session.free`."""
        return 0 if self._finished else 1

    def submit(self, number: int, payload: bytes) -> None:
        """See `Session.submit`."""
        self._finished.append(Finished(number=number, outcome=self._work(payload)))

    def wait(self) -> list[Finished]:
        """See `Session.wait`."""
        finished, self._finished = self._finished, []
        return finished

    def wake(self) -> None:
        """See `Session.wake`."""

    def close(self) -> None:
        """See `Session.close`."""
