"""The process in which the loop turns: ``python -m flyball.server.loop PROJECT HOME HOST PORT``."""

import logging
import os
import signal
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

from flyball.core.clock import monotonic_s
from flyball.core.errors import ConflictError, FlyballError
from flyball.core.files import holding_lock, write_bytes
from flyball.server.lifeline import HEARTBEAT, when_supervisor_ends
from flyball.server.logs import set_up_logging
from flyball.workspace.workspace import Workspace

LOCK = "loop.lock"
"""Held by the one loop that turns: that of a killed supervisor may still be leaving when the next one starts."""
_LOCK_POLL_S = 0.1
_REPEATED_AFTER_S = 300.0
# A third of the weight of who answers requests; all of the machine where nobody else wants it.
_NICENESS = 5
_log = logging.getLogger("flyball.loop")


def turn(workspace: Workspace, is_stopping: threading.Event) -> None:
    """Let the loop turn until told to stop; an error of one turn is told and does not stop the next."""
    told, told_at_s = "", 0.0
    while not is_stopping.is_set():
        try:
            workspace.loop.tick()
        except Exception as error:  # noqa: BLE001  the process's edge: one bad turn must not end the loop
            # What stays as it is need not be written down at every turn.
            if repr(error) != told or monotonic_s() - told_at_s > _REPEATED_AFTER_S:
                _tell(error)
                told, told_at_s = repr(error), monotonic_s()
        write_bytes(workspace.home / HEARTBEAT, b"", durable=False)
        is_stopping.wait(workspace.settings.tick_seconds)


def _tell(error: Exception) -> None:
    if isinstance(error, FlyballError):
        _log.warning("%s: %s", error.code, error.message)
    else:
        _log.error("a turn of the loop failed", exc_info=error)


def main(project: str, home: str) -> None:
    """Run the process until SIGTERM, or until its supervisor ends."""
    # Sealing the log and training come after answering, on a machine that does both.
    os.nice(_NICENESS)
    is_stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: is_stopping.set())
    when_supervisor_ends(is_stopping.set)
    workspace = Workspace(Path(project), Path(home))
    set_up_logging(workspace.settings.log_format)
    with ExitStack() as stack:
        _become_the_only_one(stack, workspace.home, is_stopping)
        workspace.courier.start()
        turn(workspace, is_stopping)
        workspace.loop.trainer.stop()
        workspace.courier.stop()


def _become_the_only_one(stack: ExitStack, home: Path, is_stopping: threading.Event) -> None:
    while not is_stopping.is_set():
        with suppress(ConflictError):
            stack.enter_context(holding_lock(home / LOCK, held_message="another loop turns"))
            return
        is_stopping.wait(_LOCK_POLL_S)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
