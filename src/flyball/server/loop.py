"""The process in which the loop turns: ``python -m flyball.server.loop PROJECT HOME HOST PORT``."""

import logging
import signal
import sys
import threading
from pathlib import Path

from flyball.core.errors import FlyballError
from flyball.core.files import write_bytes
from flyball.server.lifeline import when_supervisor_ends
from flyball.workspace.workspace import Workspace

HEARTBEAT = "loop.heartbeat"
"""A file of the home, written after every turn of the loop."""
_log = logging.getLogger("flyball.loop")


def turn(workspace: Workspace, is_stopping: threading.Event) -> None:
    """Let the loop turn until told to stop; an error of one turn is told and does not stop the next."""
    while not is_stopping.is_set():
        try:
            workspace.loop.tick()
        except FlyballError as error:
            _log.warning("%s: %s", error.code, error.message)
        except Exception:  # noqa: BLE001  the process's edge: one bad turn must not end the loop
            _log.exception("a turn of the loop failed")
        write_bytes(workspace.home / HEARTBEAT, b"", durable=False)
        is_stopping.wait(workspace.settings.tick_seconds)


def main(project: str, home: str) -> None:
    """Run the process until SIGTERM, or until its supervisor ends."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    is_stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: is_stopping.set())
    when_supervisor_ends(is_stopping.set)
    workspace = Workspace(Path(project), Path(home))
    workspace.courier.start()
    turn(workspace, is_stopping)
    workspace.loop.trainer.stop()
    workspace.courier.stop()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
