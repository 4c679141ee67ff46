"""What calls of one address cost alone and together: whether requests that wait shall share a call."""

from collections.abc import Callable

from flyball.core.clock import monotonic_s, processor_s

MOST_SHARED = 32
"""So many requests share a call at most."""
_TRIED_WITH = 8
_TRIED_EVERY = 100
_SEEN_EVERY = 1_000
# What others want of the machine makes calls seem longer and less busy, never shorter: the least and the busiest of
# late are believed, and are forgotten by this part with each call.
_FORGOTTEN = 0.02
# One more request in a call must cost less than this part of a call of its own.
_WORTH_SHARING = 0.6
# A call that spends so much of its time on the processor waits for nothing else.
_BOUND = 0.5


class Watch:
    """Measures a call: begin it and end it in the same thread.

    Args:
        waited_s: Tells how long a thread has waited for the disk in all. That does not count: who is answered together
            shares the wait, and an address is not slow for it.
    """

    __slots__ = ("_begun_processor_s", "_waited_s", "begun_s", "processor_s", "took_s")

    def __init__(self, waited_s: Callable[[], float] = lambda: 0.0) -> None:
        self._waited_s = waited_s
        self.begun_s = monotonic_s() - waited_s()
        self._begun_processor_s = processor_s()
        self.took_s = 0.0
        self.processor_s = 0.0

    def end(self) -> None:
        """Note how long it took."""
        self.took_s = monotonic_s() - self._waited_s() - self.begun_s
        self.processor_s = processor_s() - self._begun_processor_s


class Costs:
    """Learns from every call of one address.

    Most models take little more for several rows than for one, some take as much again for each: then those who come
    first would wait for those who come later, and nobody would gain.

    Attributes:
        is_bound: Whether a call keeps a processor busy, so that more calls at a time than processors gain nothing.
    """

    __slots__ = ("_added_s", "_alone_s", "_busy", "_since_seen", "_since_tried", "is_bound")

    def __init__(self) -> None:
        self.is_bound = False
        self._busy = 0.0
        self._since_seen = _SEEN_EVERY
        self._alone_s: float | None = None
        self._added_s: float | None = None
        self._since_tried = 0

    def note(self, requests: int, watch: Watch, *, is_undisturbed: bool) -> None:
        """Learn what a call cost.

        Args:
            requests: How many it answered.
            watch: What it took.
            is_undisturbed: Whether no other call was computed meanwhile.
        """
        self._since_seen = 0 if is_undisturbed else self._since_seen + 1
        if is_undisturbed and watch.took_s > 0:
            self._busy = max(watch.processor_s / watch.took_s, self._busy * (1 - _FORGOTTEN))
            if self.is_bound != (self._busy > _BOUND):
                self.is_bound = not self.is_bound
                self._alone_s = self._added_s = None
        # Its own processor time is the same however many others want the processor.
        cost_s = watch.processor_s if self.is_bound else watch.took_s
        if requests == 1:
            self._alone_s = _least(self._alone_s, cost_s)
            self._since_tried += 1
        elif self._alone_s is not None:
            self._added_s = _least(self._added_s, max(0.0, cost_s - self._alone_s) / (requests - 1))
            self._since_tried = 0

    @property
    def is_known(self) -> bool:
        """Whether `is_bound` was seen lately, of a call beside which no other was computed."""
        return self._since_seen < _SEEN_EVERY

    @property
    def is_worth_sharing(self) -> bool:
        """Whether it is known that requests gain when they share a call."""
        return (
            self._alone_s is not None and self._added_s is not None and self._added_s < _WORTH_SHARING * self._alone_s
        )

    @property
    def most(self) -> int:
        """How many requests may share the next call."""
        if self.is_worth_sharing:
            return MOST_SHARED
        if self._added_s is None or self._since_tried >= _TRIED_EVERY:
            return _TRIED_WITH
        return 1


def _least(before: float | None, found: float) -> float:
    return found if before is None else min(found, before * (1 + _FORGOTTEN))
