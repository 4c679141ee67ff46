"""The process in which the loop turns."""

import os
import subprocess
import sys
import time
from pathlib import Path

from flyball.server.lifeline import HEARTBEAT
from tests.stories.tiny import write_tiny


def test_the_loop_gives_way_to_who_answers(tmp_path: Path) -> None:
    project, home = write_tiny(tmp_path / "tiny"), tmp_path / "home"
    command = [sys.executable, "-m", "flyball.server.loop", str(project), str(home), "127.0.0.1", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not (home / HEARTBEAT).exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        own = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) > own
    finally:
        process.terminate()
        process.wait(30)
