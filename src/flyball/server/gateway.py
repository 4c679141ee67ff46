"""The gateway: ``python -m flyball.server.gateway PROJECT HOME HOST PORT``; it listens at PORT + 1.

One process answers by itself. Several are started here, listen at the same address, and are started again when they
end: a model that brings its process down, or holds it up, does not stop the others.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from flyball.core.clock import monotonic_s
from flyball.core.settings import load_settings
from flyball.server.lifeline import when_supervisor_ends
from flyball.server.logs import set_up_logging
from flyball.workspace.trainers import LIFELINE

_POLL_S = 0.05
_STOP_GRACE_S = 12.0
_YOUNG_S = 5.0
_MOST_EARLY_ENDS = 5
_log = logging.getLogger("flyball.gateway")


class Workers:
    """Runs the gateway's processes until it is told to stop.

    Args:
        count: How many.
        arguments: Project, home, host and port.
    """

    def __init__(self, count: int, *arguments: str) -> None:
        self._count = count
        self._arguments = arguments
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._started_s: dict[int, float] = {}
        self._early_ends = 0
        self._is_stopping = False

    def run(self) -> int:
        """Stay until SIGTERM or SIGINT and return the exit status; not 0 where workers end again and again."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        # The other end is read by the workers: when this process is gone, however it ended, they leave.
        reading_end, writing_end = os.pipe()
        os.set_inheritable(reading_end, True)
        try:
            for worker in range(self._count):
                self._start(worker, reading_end)
            while not self._is_stopping and self._early_ends <= _MOST_EARLY_ENDS:
                self._replace(reading_end)
                time.sleep(_POLL_S)
        finally:
            os.close(writing_end)
            self._end()
        return 0 if self._is_stopping else 1

    def _start(self, worker: int, lifeline: int) -> None:
        self._running[worker] = subprocess.Popen(
            [sys.executable, "-m", "flyball.server.gateway_worker", *self._arguments, str(worker)],
            stdin=subprocess.DEVNULL,
            pass_fds=(lifeline,),
            env=os.environ | {LIFELINE: str(lifeline)},
        )
        self._started_s[worker] = monotonic_s()

    def _replace(self, lifeline: int) -> None:
        """Start those anew that ended."""
        for worker, process in list(self._running.items()):
            status = process.poll()
            if status is None or self._is_stopping:
                continue
            is_early = monotonic_s() - self._started_s[worker] < _YOUNG_S
            self._early_ends = self._early_ends + 1 if is_early else 0
            _log.warning("worker %d ended (status %d); another takes its place", worker, status)
            self._start(worker, lifeline)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._is_stopping = True

    def _end(self) -> None:
        for process in self._running.values():
            process.terminate()
        deadline_s = monotonic_s() + _STOP_GRACE_S
        for process in self._running.values():
            try:
                process.wait(max(0.1, deadline_s - monotonic_s()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def main(project: str, home: str, host: str, port: str) -> None:
    """Run until SIGTERM, or until the supervisor ends."""
    settings, _ = load_settings(Path(project))
    count = settings.gateway_processes or len(os.sched_getaffinity(0))
    if count == 1:
        from flyball.server.gateway_worker import work

        work(project, home, host, port)
        return
    when_supervisor_ends(lambda: os.kill(os.getpid(), signal.SIGTERM))
    set_up_logging(settings.log_format)
    sys.exit(Workers(count, project, home, host, port).run())


if __name__ == "__main__":
    main(*sys.argv[1:5])
