"""How often versions were brought into memory, and how long that took."""

from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from flyball.core.clock import monotonic_s
from flyball.domain.serving.loaded import LoadedVersion, Loader

_MOST_KEPT = 1_000


class LoadRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to bring a version into memory."""

    version: str
    duration_s: float
    has_failed: bool


class ObservedLoader:
    """Implements `Loader` over another one, and notes what it did. Safe to call from several threads.

    Args:
        loader: Does the work.
        take_others: Gives what came back into memory by itself since the last call.
    """

    def __init__(self, loader: Loader, take_others: Callable[[], Sequence[LoadRecord]] = tuple) -> None:
        self._loader = loader
        self._take_others = take_others
        self._records: deque[LoadRecord] = deque(maxlen=_MOST_KEPT)

    def load(self, ref: str) -> LoadedVersion:
        """See `Loader.load`."""
        started_s = monotonic_s()
        has_failed = True
        try:
            loaded = self._loader.load(ref)
            has_failed = False
            return loaded
        finally:
            self._records.append(LoadRecord(version=ref, duration_s=monotonic_s() - started_s, has_failed=has_failed))

    def take_records(self) -> list[LoadRecord]:
        """Return what was noted since the last call."""
        found = [*self._take_others()]
        while self._records:
            found.append(self._records.popleft())
        return found
