"""Requests that would hold up others are answered in threads, for so long as somebody waits for them.

The event loop answers what takes microseconds itself. What takes long, because its model does or because it holds many
rows, is answered apart; how long an address takes is learnt from what it took. Each address has few threads, so that a
model that hangs keeps them and no others. Requests that wait for a thread share a call of the model where it is known
that they gain by it.
"""

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar, cast

from flyball.core.clock import monotonic_s
from flyball.core.errors import FlyballError
from flyball.server.inference.costs import Costs, Watch
from flyball.server.inference.messages import DisconnectedError
from flyball.server.inference.together import Asked
from flyball.server.problems import TimedOutError, TooBusyError

T = TypeVar("T")
MOST_WAITING = 64
"""So many requests to one address may wait for a thread, or be in one."""
_THREADS = 16
_THREADS_OF_ONE = 4
_SLOW_S, _QUICK_S = 0.02, 0.01
_LONG_BODY_BYTES = 64_000
_STUCK_S = 1.0
_NEWEST_COUNTS = 0.3
_MOST_KNOWN = 1_000

_Outcome = tuple[Any, BaseException | None]
AnswerTogether = Callable[[Sequence[Asked], Callable[[Callable[[], None]], None]], list[Any]]
"""Answers requests by one call; None for each that must be asked alone. See `together.answer_together`."""


class _Job:
    """A request on its way through the threads."""

    __slots__ = ("asked", "future", "is_long", "is_taken", "work")

    def __init__(
        self, work: Callable[[], Any], asked: Asked | None, future: "asyncio.Future[Any]", *, is_long: bool
    ) -> None:
        self.work = work
        self.asked = None if is_long else asked
        self.future = future
        self.is_long = is_long
        self.is_taken = False


class _Address:
    """What is known of one address, and who waits for it."""

    __slots__ = ("costs", "is_alone", "is_slow", "newest", "running", "took_s", "waiting")

    def __init__(self) -> None:
        self.took_s: float | None = None
        self.is_slow = False
        self.is_alone = False
        self.costs = Costs()
        self.waiting: deque[_Job] = deque()
        self.running: dict[int, int] = {}
        self.newest = 0


class Apart:
    """Knows which addresses are slow, and answers their requests in threads. Used by the event loop's thread.

    Args:
        timeout_s: A request is told so when it took this long; its thread goes on until the model returns.
        together: Answers several requests by one call; each is answered alone without it.
        processors: How many this process may keep busy.
        waited_s: Tells how long a thread has waited for the disk in all; see `Watch`.
    """

    def __init__(
        self,
        timeout_s: float,
        together: AnswerTogether | None = None,
        processors: int = 0,
        waited_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._waited_s = waited_s
        self._timeout_s = timeout_s
        self._together = together
        self._processors = max(1, processors or len(os.sched_getaffinity(0)))
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="apart")
        self._addresses: dict[str, _Address] = {}
        self._begun_s: dict[int, float] = {}
        self._count = 0

    def is_slow(self, path: str) -> bool:
        """Tell whether an address holds up others."""
        found = self._addresses.get(path)
        return found is not None and found.is_slow

    def is_quick(self, path: str) -> bool:
        """Tell whether an address is known not to hold up others."""
        found = self._addresses.get(path)
        return found is not None and found.took_s is not None and not found.is_slow

    def note(self, path: str, took_s: float) -> None:
        """Learn how long an address takes."""
        address = self._find(path)
        before = address.took_s
        usual_s = address.took_s = took_s if before is None else before + _NEWEST_COUNTS * (took_s - before)
        if usual_s > _SLOW_S:
            address.is_slow = True
        elif usual_s < _QUICK_S:
            address.is_slow = False

    def forget(self) -> None:
        """Take no address for quick any more: what it asks may have to be brought into memory first."""
        for address in self._addresses.values():
            address.took_s = None

    def costs(self, path: str) -> Costs:
        """Return what is learnt of calls of an address."""
        return self._find(path).costs

    def _find(self, path: str) -> _Address:
        found = self._addresses.get(path)
        if found is None:
            if len(self._addresses) >= _MOST_KNOWN:
                used = {path: known for path, known in self._addresses.items() if known.running or known.waiting}
                self._addresses = used
            found = self._addresses[path] = _Address()
        return found

    def watch(self) -> Watch:
        """Begin to measure a call."""
        return Watch(self._waited_s)

    def oldest_s(self) -> float:
        """Return for how long the oldest request has been computed."""
        return monotonic_s() - min(self._begun_s.values()) if self._begun_s else 0.0

    @property
    def waiting(self) -> int:
        """How many requests wait for a thread."""
        return sum(len(address.waiting) for address in self._addresses.values())

    async def answer(
        self,
        path: str,
        size_bytes: int,
        work: Callable[[], T],
        asked: Asked | None = None,
        until: Callable[[], Awaitable[object]] | None = None,
        *,
        is_alone: bool = False,
    ) -> T:
        """Answer a request here, or apart where it may take long: it is long, its address is slow or not known yet.

        Who waits no longer, having left or waited too long, is not computed any more if it was not begun.

        Args:
            path: The request's address.
            size_bytes: How long its body is.
            work: Answers it alone.
            asked: The same request, where it may be answered together with others of the address.
            until: Returns when nobody waits for the answer any more.
            is_alone: Whether requests of this address are always answered apart, each by itself.

        Raises:
            TooBusyError: Too many wait for a thread.
            TimedOutError: It took too long.
            DisconnectedError: Nobody waits for it any more.
        """
        is_long = is_alone or size_bytes > _LONG_BODY_BYTES
        if not is_long and self.is_quick(path):
            watch = self.watch()
            try:
                return work()
            finally:
                watch.end()
                self.note(path, watch.took_s)
        address = self._find(path)
        address.is_alone = is_alone
        count = len(address.waiting) + sum(address.running.values())
        if count >= MOST_WAITING:
            raise TooBusyError(count)
        job = _Job(work, asked, asyncio.get_running_loop().create_future(), is_long=is_long)
        address.waiting.append(job)
        self._start(path, address)
        try:
            return cast(T, await self._wait(job.future, until))
        except TimeoutError as error:
            if not is_long:
                self.note(path, self._timeout_s)
            raise TimedOutError(self._timeout_s) from error
        finally:
            if not job.is_taken:
                with suppress(ValueError):
                    address.waiting.remove(job)

    async def _wait(self, future: "asyncio.Future[Any]", until: Callable[[], Awaitable[object]] | None) -> Any:
        if until is None:
            return await asyncio.wait_for(future, self._timeout_s or None)
        leaving = asyncio.ensure_future(until())
        try:
            await asyncio.wait({future, leaving}, timeout=self._timeout_s or None, return_when=asyncio.FIRST_COMPLETED)
            if future.done():
                return future.result()
            if leaving.done():
                raise DisconnectedError
            raise TimeoutError
        finally:
            leaving.cancel()
            future.cancel()

    def _start(self, path: str, address: _Address) -> None:
        """Begin what waits for an address, as far as there are threads for it."""
        loop = asyncio.get_running_loop()
        while address.waiting and self._has_thread(address):
            jobs = self._take(address)
            number = self._count = self._count + 1
            is_first = not address.running
            address.running[number] = len(jobs)
            address.newest = number
            self._begun_s[number] = monotonic_s()

            def run(number: int = number, jobs: Sequence[_Job] = jobs, is_first: bool = is_first) -> None:
                watch, outcomes = self._compute(jobs)
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(self._end, path, number, jobs, outcomes, watch, is_first)

            self._pool.submit(run)

    def _has_thread(self, address: _Address) -> bool:
        """Tell whether another call of an address may begin; one that takes for ever does not stop others at once."""
        if len(self._begun_s) >= _THREADS or len(address.running) >= _THREADS_OF_ONE:
            return False
        now_s = monotonic_s()
        moving = sum(now_s - self._begun_s[number] < _STUCK_S for number in address.running)
        return moving < self._threads_of(address)

    def _threads_of(self, address: _Address) -> int:
        """Return how many calls of an address should be computed at a time."""
        if self._together is None or address.is_alone:
            return _THREADS_OF_ONE
        if not address.costs.is_known:
            return 1
        is_shared = address.costs.is_bound and address.costs.is_worth_sharing
        return min(_THREADS_OF_ONE, self._processors) if is_shared else _THREADS_OF_ONE

    def _take(self, address: _Address) -> list[_Job]:
        """Return the request whose turn it is, and those that share its call."""
        jobs = [address.waiting.popleft()]
        most = address.costs.most if self._together is not None and jobs[0].asked is not None else 1
        while address.waiting and len(jobs) < most and address.waiting[0].asked is not None:
            jobs.append(address.waiting.popleft())
        for job in jobs:
            job.is_taken = True
        return jobs

    def _compute(self, jobs: Sequence[_Job]) -> tuple[Watch, list[_Outcome]]:
        """Answer requests, in a thread; an outcome is an answer or an error."""
        watch = self.watch()
        replies: list[Any] = [None] * len(jobs)
        asked = [job.asked for job in jobs if job.asked is not None]
        if len(jobs) > 1 and self._together is not None:
            replies = list(self._together(asked, self.do_later))
        watch.end()
        outcomes: list[_Outcome] = []
        for job, reply in zip(jobs, replies, strict=True):
            if isinstance(reply, FlyballError):
                outcomes.append((None, reply))
                continue
            try:
                outcomes.append((job.work() if reply is None else reply, None))
            except BaseException as error:  # noqa: BLE001 - handed to who waits
                outcomes.append((None, error))
        if len(jobs) == 1:
            watch.end()
        return watch, outcomes

    def _end(
        self,
        path: str,
        number: int,
        jobs: Sequence[_Job],
        outcomes: Sequence[_Outcome],
        watch: Watch,
        is_first: bool,
    ) -> None:
        """Tell who waits, learn from it, and begin what waited for the thread."""
        del self._begun_s[number]
        address = self._find(path)
        address.running.pop(number, None)
        if not jobs[0].is_long:
            is_undisturbed = is_first and address.newest == number
            address.costs.note(len(jobs), watch, is_undisturbed=is_undisturbed)
            self.note(path, watch.took_s)
        for job, (answer, error) in zip(jobs, outcomes, strict=True):
            if job.future.done():
                continue
            if error is None:
                job.future.set_result(answer)
            else:
                job.future.set_exception(error)
        for other, found in list(self._addresses.items()):
            if found.waiting:
                self._start(other, found)

    def do_later(self, work: Callable[[], None]) -> None:
        """Do work apart for which nobody waits."""
        self._pool.submit(work)

    def close(self) -> None:
        """Wait for nobody."""
        self._pool.shutdown(wait=False, cancel_futures=True)
