"""Runs work that may be given up: whoever waits gets an answer in time, the work itself cannot be stopped."""

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from flyball.core.clock import monotonic_s

T = TypeVar("T")
_MOST_WORKERS = 8
# Work that takes so long will not come back: another thread takes its place.
_LOST_AFTER_S = 30.0
# Lost threads cost memory; so many times the workers are kept at most.
_MOST_TIMES = 8


class LateError(Exception):
    """The work was not done in time, or nobody was free to begin it; never leaves the data plane.

    Args:
        is_begun: Whether somebody was free.
    """

    def __init__(self, *, is_begun: bool) -> None:
        super().__init__()
        self.is_begun = is_begun


class _Job:
    """One piece of work and its outcome."""

    __slots__ = ("done", "error", "is_given_up", "result", "work")

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.done = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_given_up = False


class Deadlines:
    """A few threads, started as they are needed, that do work with a time limit. Safe to call from several threads.

    Work that hangs keeps its thread. When all are kept, everything is late at once: a model that hangs costs its
    callers nothing but its answers. What was kept too long is lost, and another thread takes its place. Threads do not
    keep the process from ending.

    Args:
        workers: How many work at once.
        lost_after_s: When work is taken for lost.
    """

    def __init__(self, workers: int = _MOST_WORKERS, lost_after_s: float = _LOST_AFTER_S) -> None:
        self._most = workers
        self._lost_after_s = lost_after_s
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        self._begun_s: dict[_Job, float] = {}

    def run(self, work: Callable[[], T], limit_s: float) -> T:
        """Return what work gives.

        Raises:
            LateError: It takes longer than the limit, or all threads are kept.
            Exception: What the work raises.
        """
        job = _Job(work)
        with self._lock:
            now_s = monotonic_s()
            if not self._has_room(now_s):
                raise LateError(is_begun=False)
            self._begun_s[job] = now_s
            if len(self._begun_s) > self._started:
                self._started += 1
                threading.Thread(target=self._work, name="deadline", daemon=True).start()
        self._jobs.put(job)
        if not job.done.wait(limit_s):
            job.is_given_up = True
            raise LateError(is_begun=True)
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    def _has_room(self, now_s: float) -> bool:
        if len(self._begun_s) < self._most:
            return True
        lost = sum(now_s - begun_s > self._lost_after_s for begun_s in self._begun_s.values())
        return len(self._begun_s) < min(self._most + lost, self._most * _MOST_TIMES)

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=3_600)
            except Empty:
                continue
            try:
                if not job.is_given_up:
                    job.result = job.work()
            except BaseException as error:  # noqa: BLE001 - handed to who waits
                job.error = error
            finally:
                with self._lock:
                    del self._begun_s[job]
                job.done.set()
