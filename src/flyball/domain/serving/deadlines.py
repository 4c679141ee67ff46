"""Runs work that may be given up: whoever waits gets an answer in time, the work itself cannot be stopped."""

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_MOST_WORKERS = 8


class LateError(Exception):
    """The work was not done in time, or nobody was free to begin it; never leaves the data plane."""


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
    callers nothing but its answers. Threads do not keep the process from ending.
    """

    def __init__(self, workers: int = _MOST_WORKERS) -> None:
        self._most = workers
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        self._busy = 0

    def run(self, work: Callable[[], T], limit_s: float) -> T:
        """Return what work gives.

        Raises:
            LateError: It takes longer than the limit, or all threads are kept.
            Exception: What the work raises.
        """
        job = _Job(work)
        with self._lock:
            if self._busy >= self._most:
                raise LateError
            self._busy += 1
            if self._busy > self._started:
                self._started += 1
                threading.Thread(target=self._work, name="deadline", daemon=True).start()
        self._jobs.put(job)
        if not job.done.wait(limit_s):
            job.is_given_up = True
            raise LateError
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

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
                    self._busy -= 1
                job.done.set()
