"""How processes of one system notice that another is there, or gone."""

import os
import threading
from collections.abc import Callable

from flyball.workspace.trainers import LIFELINE

HEARTBEAT = "loop.heartbeat"
"""A file of the home, written after every turn of the loop; absent until the loop turns."""


def when_supervisor_ends(leave: Callable[[], None]) -> None:
    """Call ``leave`` from a thread once the supervisor has ended, however it ended."""
    descriptor = os.environ.get(LIFELINE)
    if descriptor is None:
        return

    def wait() -> None:
        os.read(int(descriptor), 1)
        leave()

    threading.Thread(target=wait, daemon=True, name="lifeline").start()
