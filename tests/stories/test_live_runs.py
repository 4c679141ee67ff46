"""``fb.run()`` beside a server of the same home, which takes up what a killed program left."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from flyball.domain.tracking.runs import RunStatus
from flyball.workspace.home import Home
from tests.stories.system import System, environment

pytestmark = pytest.mark.slow

PROGRAM = """
import sys, time, flyball as fb
with fb.run("long", server=sys.argv[1], home=sys.argv[2]) as run:
    print(run.id, flush=True)
    for step in range(300):
        fb.log_metric("loss", step, step=step)
        time.sleep(0.01)
    run.log_artifact("big.bin", bytes(20_000_000))
    import os
    os.kill(os.getpid(), 9)
"""


def test_a_run_outlives_its_server_and_its_program(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    system = System(tmp_path / "project")
    system.up()
    try:
        # Its own home is the server's, so what it leaves behind is taken up there.
        arguments = [f"http://127.0.0.1:{system.port}", str(system.home)]
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, text=True, env=environment()
        )
        assert program.stdout is not None
        with program.stdout:
            run_id = program.stdout.readline().strip()
        time.sleep(0.5)
        assert system.process is not None
        system.process.kill()
        system.process.wait()
        time.sleep(1.0)
        system.up()
        assert program.wait(60) == -9
        home = Home(system.project, system.home)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and (
            run_id not in [run.id for run in home.tracking.list_runs()]
            or home.tracking.get_run(run_id).status is RunStatus.RUNNING
        ):
            time.sleep(0.1)
        found = home.tracking.describe_run(run_id)
        assert found.run.status is RunStatus.FAILED
        assert [point.value for point in home.tracking.list_points(run_id, "loss")] == [float(i) for i in range(300)]
        assert found.artifacts[0].size_bytes == 20_000_000
        home.db.close()
    finally:
        system.stop()
