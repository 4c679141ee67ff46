"""Runs steps in processes of this machine, forked from the one that asked.

A fork costs some milliseconds and brings the project's functions along; nothing needs to be imported or pickled
again. It is only safe while the parent has no threads at work that hold locks: the parent of a session schedules and
records, and never touches a dataframe. Where it already has (Polars' threads exist), steps run inline instead.
"""

import contextlib
import ctypes
import os
import selectors
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

from flyball.core.clock import monotonic_s, sleep
from flyball.core.errors import InvalidInputError
from flyball.domain.pipelines.engine import Finished, Session, Work
from flyball.engines.inline import InlineSession

_LENGTH_BYTES = 8
_CHECK_S = 0.5
"""How often lost workers are looked for, besides being told by a closed pipe."""
_GRACE_S = 1.0
"""How long workers get to end by themselves before they are killed."""
_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


class LocalEngine:
    """Implements `Engine` with forked worker processes.

    Args:
        workers: How many processes at most; None for one a core, 0 to run in the calling process.

    Raises:
        InvalidInputError: A negative number is asked for.
    """

    def __init__(self, workers: int | None = None) -> None:
        if workers is not None and workers < 0:
            raise InvalidInputError(f"{workers} workers cannot be", hint="Ask for 1 or more, or 0 to run inline.")
        self._workers = len(os.sched_getaffinity(0)) if workers is None else workers

    @property
    def is_inline(self) -> bool:
        """See `Engine.is_inline`."""
        return self._workers == 0 or not can_fork()

    def open(self, work: Work, *, before_start: Callable[[], None]) -> Session:
        """See `Engine.open`. Workers are forked when the first task is submitted, so a cached run forks none."""
        if self.is_inline:
            return InlineSession(work)
        return LocalSession(work, self._workers, before_start)


def can_fork() -> bool:
    """Tell whether this process may be forked: Polars' thread pool, once started, does not survive it."""
    with contextlib.suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            name = (task / "comm").read_text(encoding="utf-8", errors="replace")
            if name.startswith(("polars-", "tokio-")) and not name.startswith("polars-ooc"):
                return False
    return True


class _Worker:
    """A worker process as its parent sees it."""

    def __init__(self, pid: int, tasks: int, outcomes: int) -> None:
        self.pid = pid
        self.tasks = tasks
        self.outcomes = outcomes
        self.number: int | None = None

    def close(self) -> None:
        os.close(self.tasks)
        os.close(self.outcomes)


class LocalSession:
    """Implements `Session`: one pipe to and one from each worker."""

    def __init__(self, work: Work, workers: int, before_start: Callable[[], None]) -> None:
        self._work = work
        self._limit = workers
        self._before_start = before_start
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)

    @property
    def free(self) -> int:
        """See `Session.free`."""
        return self._limit - sum(worker.number is not None for worker in self._workers)

    def submit(self, number: int, payload: bytes) -> None:
        """See `Session.submit`."""
        idle = next((worker for worker in self._workers if worker.number is None), None)
        if idle is None:
            idle = self._start_worker()
        idle.number = number
        # A worker that died meanwhile is found by `wait`.
        with contextlib.suppress(BrokenPipeError):
            _send(idle.tasks, payload)

    def wait(self) -> list[Finished]:
        """See `Session.wait`."""
        while True:
            ready = [key.data for key, _ in self._selector.select(_CHECK_S)]
            finished = [self._receive(worker) for worker in ready if worker is not None]
            finished += self._find_lost() if not ready else []
            if None in ready:
                os.read(self._wake_read, 1 << 10)
            if finished or None in ready:
                return [one for one in finished if one is not None]

    def wake(self) -> None:
        """See `Session.wake`."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"!")

    def close(self) -> None:
        """See `Session.close`. Idle workers end as their pipe closes; others, and what they started, are killed."""
        for worker in self._workers:
            self._selector.unregister(worker.outcomes)
            worker.close()
            if worker.number is not None:
                _signal_group(worker.pid, signal.SIGTERM)
        deadline = monotonic_s() + _GRACE_S
        for worker in self._workers:
            _reap(worker.pid, deadline)
        self._workers.clear()
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _start_worker(self) -> _Worker:
        self._before_start()
        task_read, task_write = os.pipe()
        outcome_read, outcome_write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        with warnings.catch_warnings():
            # Python 3.12 warns of any thread; the idle ones of allocators and BLAS libraries are prepared for a fork.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            mine = {task_read, outcome_write}
            theirs = {task_write, outcome_read, self._wake_read, self._wake_write}
            for worker in self._workers:
                theirs |= {worker.tasks, worker.outcomes}
            _serve(self._work, task_read, outcome_write, theirs - mine, parent)
        os.close(task_read)
        os.close(outcome_write)
        worker = _Worker(pid, task_write, outcome_read)
        self._workers.append(worker)
        self._selector.register(outcome_read, selectors.EVENT_READ, worker)
        return worker

    def _receive(self, worker: _Worker) -> Finished | None:
        try:
            outcome = _read(worker.outcomes)
        except EOFError:
            return self._bury(worker)
        number, worker.number = worker.number, None
        assert number is not None
        return Finished(number=number, outcome=outcome)

    def _find_lost(self) -> list[Finished | None]:
        """Find workers whose pipe stays open although they are gone, because a child of theirs still holds it."""
        lost = []
        for worker in list(self._workers):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                lost.append(self._bury(worker, status))
        return lost

    def _bury(self, worker: _Worker, status: int | None = None) -> Finished | None:
        if status is None:
            _, status = os.waitpid(worker.pid, 0)
        self._selector.unregister(worker.outcomes)
        worker.close()
        self._workers.remove(worker)
        _signal_group(worker.pid, signal.SIGKILL)
        if worker.number is None:
            return None
        return Finished(number=worker.number, outcome=None, lost=_describe_end(status))


def _serve(work: Work, tasks: int, outcomes: int, unused: set[int], parent: int) -> None:
    """Be a worker until the pipe of tasks closes; never returns."""
    try:
        os.setpgid(0, 0)  # so that what a step starts can be ended with it, and Ctrl-C reaches the parent alone
        _end_with(parent)
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signal_number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        for descriptor in unused:
            os.close(descriptor)
        # A thread of the parent may have held this file's lock while it forked.
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
        while True:
            outcome = work(_read(tasks))
            sys.stderr.flush()
            _send(outcomes, outcome)
    except (EOFError, BrokenPipeError):
        os._exit(0)
    except BaseException:  # noqa: BLE001  the process's edge
        traceback.print_exc()
        os._exit(1)


def _end_with(parent: int) -> None:
    """Ask the kernel to end this process when its parent ends, however it ends (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _send(descriptor: int, payload: bytes) -> None:
    data = memoryview(len(payload).to_bytes(_LENGTH_BYTES, "big") + payload)
    while data:
        data = data[os.write(descriptor, data) :]


def _read(descriptor: int) -> bytes:
    length = int.from_bytes(_read_exactly(descriptor, _LENGTH_BYTES), "big")
    return _read_exactly(descriptor, length)


def _read_exactly(descriptor: int, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        piece = os.read(descriptor, min(length - len(data), 1 << 20))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _reap(pid: int, deadline: float) -> None:
    while True:
        found, _ = os.waitpid(pid, os.WNOHANG)
        if found:
            return
        if monotonic_s() > deadline:
            _signal_group(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return
        sleep(0.002)


def _describe_end(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"its worker process ended with exit status {code}"
    name = signal.Signals(-code).name
    hint = "; the kernel does so when memory runs out" if -code == signal.SIGKILL else ""
    return f"its worker process was killed by {name}{hint}"
