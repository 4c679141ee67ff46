"""``kill -9`` of programs that log with ``fb.run()`` and of their server: everything arrives once and in order."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flyball.domain.tracking.runs import RunStatus
from flyball.workspace.home import Home
from tests.faults.test_tracking_kill import kill_everything, kill_server
from tests.stories.system import System, environment

pytestmark = pytest.mark.slow
PROGRAMS = 6
STEPS = 1_500
SEED = 7
PROGRAM = """
import sys, time
from datetime import timedelta
import flyball as fb
run = fb.run("it", experiment="e", server=sys.argv[1], home=sys.argv[2])
print(run.id, flush=True)
for step in range(int(sys.argv[3])):
    run.log_metric("loss", step * 0.5, step=step)
    run.log_metric("epoch", step // 100)  # many values at one step
    if step % 50 == 0:
        run.log_params({f"p{step}": step})
        run.log_artifact("newest.txt", str(step))
    time.sleep(float(sys.argv[4]))
    if step % 10 == 9:
        print(step, flush=True)
run.finish(timeout=timedelta(seconds=float(sys.argv[5])))
"""


def test_programs_and_their_server_are_killed_again_and_again(tracking_server: System, tmp_path: Path) -> None:
    tracking_server.up()
    # Every other one never comes to its end.
    counts = [STEPS if number % 2 else 10**6 for number in range(PROGRAMS)]
    programs = [start(tracking_server, tmp_path / "laptop", count, 0.002, 30) for count in counts]
    ids = [program.stdout.readline().strip() for program in programs if program.stdout]
    dice = random.Random(SEED)
    doomed = programs[::2]
    for number, program in enumerate(doomed):
        time.sleep(dice.uniform(0.3, 1.0))
        if number % 2:
            kill_everything(tracking_server)
            program.kill()
            tracking_server.up()
        else:
            kill_server(tracking_server)
            program.kill()
            tracking_server.wait_until_ready()
    told = [program.communicate(timeout=60) for program in programs]
    send(tracking_server, tmp_path / "laptop")
    for program, run_id, (said, _) in zip(programs, ids, told, strict=True):
        logged = int(said.split()[-1]) + 1
        is_doomed = program in doomed
        assert program.returncode == (-signal.SIGKILL if is_doomed else 0)
        assert is_doomed or logged == STEPS
        check(tracking_server, run_id, at_least=logged, status=RunStatus.FAILED if is_doomed else RunStatus.SUCCEEDED)


def test_a_server_that_was_away_for_the_whole_run_gets_all_of_it_later(tracking_server: System, tmp_path: Path) -> None:
    program = start(tracking_server, tmp_path / "laptop", 500, 0, 0.2)
    said, complaint = program.communicate(timeout=60)
    run_id = said.split()[0]
    assert program.returncode == 0
    assert "does not answer" in complaint and "flyball runs send" in complaint
    assert "waits" in send(tracking_server, tmp_path / "laptop", status=75)
    tracking_server.up()
    assert send(tracking_server, tmp_path / "laptop") == f"run {run_id} is kept\n"
    assert send(tracking_server, tmp_path / "laptop") == "nothing was left to send\n"
    check(tracking_server, run_id, at_least=500, status=RunStatus.SUCCEEDED)


def start(system: System, home: Path, steps: int, pause_s: float, timeout_s: float) -> "subprocess.Popen[str]":
    arguments = [f"http://127.0.0.1:{system.port}", str(home), str(steps), str(pause_s), str(timeout_s)]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def send(system: System, home: Path, *, status: int = 0) -> str:
    command = [sys.executable, "-m", "flyball.cli.main", "runs", "send", "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment())
    assert done.returncode == status, f"{done.stdout}\n{done.stderr}\n{system.told()}"
    return done.stdout


def check(system: System, run_id: str, *, at_least: int, status: RunStatus) -> None:
    """Compare what the server has with what the program logged."""
    home = Home(system.project, system.home)
    try:
        found = home.tracking.describe_run(run_id)
        loss = home.tracking.list_points(run_id, "loss")
        epochs = home.tracking.list_points(run_id, "epoch")
        assert found.run.status is status, found.run.error
        assert len(loss) >= at_least
        assert [(point.step, point.value) for point in loss] == [(step, step * 0.5) for step in range(len(loss))]
        assert [point.logged_at for point in loss] == sorted(point.logged_at for point in loss if point.logged_at)
        # A program may be killed between two calls.
        assert len(loss) - len(epochs) in (0, 1)
        assert [point.value for point in epochs] == [step // 100 for step in range(len(epochs))]
        logged = range(0, len(epochs), 50)
        assert set(found.params) >= {f"p{step}" for step in logged[:-1]}
        [file] = found.artifacts
        assert int(home.blobs.path(file.digest).read_text()) >= logged[-1] - 50
    finally:
        home.db.close()
