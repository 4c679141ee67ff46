"""Requests that would hold up others are answered in threads, for so long as somebody waits for them.

The event loop answers what takes microseconds itself. What takes long, because its model does or because it holds many
rows, is answered apart; how long an address takes is learnt from what it took.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from flyball.core.clock import monotonic_s
from flyball.server.problems import TimedOutError, TooBusyError

T = TypeVar("T")
THREADS = 4
MOST_WAITING = 64
_SLOW_S, _QUICK_S = 0.02, 0.01
_LONG_BODY_BYTES = 64_000
_NEWEST_COUNTS = 0.3
_MOST_KNOWN = 1_000


class Apart:
    """Knows which addresses are slow, and answers their requests in threads. Used by the event loop's thread.

    Args:
        timeout_s: A request is told so when it took this long; its thread goes on until the model returns.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="apart")
        self._took_s: dict[str, float] = {}
        self._slow: set[str] = set()
        self._begun_s: dict[int, float] = {}
        self._waiting = 0
        self._count = 0

    def is_slow(self, path: str) -> bool:
        """Tell whether an address holds up others."""
        return path in self._slow

    def is_quick(self, path: str) -> bool:
        """Tell whether an address is known not to hold up others."""
        return path in self._took_s and path not in self._slow

    def note(self, path: str, took_s: float) -> None:
        """Learn how long an address takes."""
        before = self._took_s.get(path)
        if before is None and len(self._took_s) >= _MOST_KNOWN:
            self._took_s.clear()
            self._slow.clear()
        usual_s = took_s if before is None else before + _NEWEST_COUNTS * (took_s - before)
        self._took_s[path] = usual_s
        if usual_s > _SLOW_S:
            self._slow.add(path)
        elif usual_s < _QUICK_S:
            self._slow.discard(path)

    def oldest_s(self) -> float:
        """Return for how long the oldest request has been computed."""
        return monotonic_s() - min(self._begun_s.values()) if self._begun_s else 0.0

    async def answer(self, path: str, size_bytes: int, work: Callable[[], T]) -> T:
        """Answer a request here, or apart where it may take long: it is long, its address is slow or not known yet.

        Raises:
            TooBusyError: Too many wait for a thread.
            TimedOutError: It took too long.
        """
        is_long = size_bytes > _LONG_BODY_BYTES
        if not is_long and self.is_quick(path):
            begun_s = monotonic_s()
            try:
                return work()
            finally:
                self.note(path, monotonic_s() - begun_s)
        if self._waiting >= MOST_WAITING:
            raise TooBusyError(self._waiting)
        self._waiting += 1
        self._count += 1
        number = self._count

        took_s: list[float] = []

        def run() -> T:
            begun_s = self._begun_s[number] = monotonic_s()
            try:
                return work()
            finally:
                del self._begun_s[number]
                took_s.append(monotonic_s() - begun_s)

        future = asyncio.get_running_loop().run_in_executor(self._pool, run)
        future.add_done_callback(self._end)
        try:
            return await asyncio.wait_for(asyncio.shield(future), self._timeout_s or None)
        except TimeoutError as error:
            took_s.append(self._timeout_s)
            raise TimedOutError(self._timeout_s) from error
        finally:
            if took_s and not is_long:
                self.note(path, took_s[0])

    def do_later(self, work: Callable[[], None]) -> None:
        """Do work apart for which nobody waits."""
        self._pool.submit(work)

    def _end(self, future: "asyncio.Future[T]") -> None:
        self._waiting -= 1
        if not future.cancelled():
            future.exception()  # it was told, or nobody waits for it any more

    def close(self) -> None:
        """Wait for nobody."""
        self._pool.shutdown(wait=False, cancel_futures=True)
