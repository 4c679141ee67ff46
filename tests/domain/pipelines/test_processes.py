"""Steps in processes of their own: side by side, killed, interrupted."""

import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from .lab import Project, finish

WAITING = """
import os
import signal
import time
from pathlib import Path
from flyball.domain.pipelines.steps import pipeline, step

@step
def quick() -> list[int]:
    return list(range(10_000))

@step
def slow(values: list[int], name: str) -> int:
    Path(f"{name}.pid").write_text(str(os.getpid()))
    while not Path("go").exists():
        time.sleep(0.01)
    return os.getpid()

@step
def both(pids: list[int]) -> list[int]:
    return pids

@step
def fallen(values: list[int]) -> int:
    if not Path("go").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return 1

@pipeline
def training():
    values = quick()
    return both([slow(values, "a"), slow(values, "b")])

@pipeline
def falling():
    values = quick()
    return both([fallen(values)]), both([7])
"""


@pytest.fixture
def waiting(project: Project) -> Project:
    project.write("project.py", WAITING)
    return project


def wait_for(*paths: Path, timeout_s: float = 20) -> list[int]:
    """Return the numbers that files hold, once all hold one."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        texts = [path.read_text() if path.exists() else "" for path in paths]
        if all(texts):
            return [int(text) for text in texts]
        time.sleep(0.01)
    raise AssertionError(f"nothing came: {paths}")


def wait_until_gone(*pids: int, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while any(psutil.pid_exists(pid) for pid in pids):
        assert time.monotonic() < deadline, f"still there: {pids}"
        time.sleep(0.01)


def statuses_of(project: Project, run: int = 0) -> tuple[str, dict[str, str]]:
    """Return what the database says of the newest run."""
    with sqlite3.connect(project.home / "flyball.db") as db:
        run_id, status = db.execute("SELECT id, status FROM tracking_run ORDER BY id DESC").fetchall()[run]
        rows = db.execute("SELECT name, status FROM pipelines_step WHERE run_id = ? ORDER BY position", (run_id,))
        steps = dict(rows.fetchall())
    db.close()
    return status, steps


def test_independent_steps_run_side_by_side(waiting: Project) -> None:
    process = waiting.start("training", workers=2)
    pids = wait_for(waiting.root / "a.pid", waiting.root / "b.pid")
    assert len({process.pid, *pids}) == 3
    assert all(psutil.Process(pid).ppid() == process.pid for pid in pids)
    (waiting.root / "go").touch()
    assert finish(process).result["status"] == "succeeded"
    wait_until_gone(*pids)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupt_cancels_the_run_and_the_next_goes_on_from_there(waiting: Project, number: int) -> None:
    process = waiting.start("training", workers=2)
    pids = wait_for(waiting.root / "a.pid", waiting.root / "b.pid")
    process.send_signal(number)
    cancelled = finish(process)
    assert cancelled.result["status"] == "cancelled"
    assert cancelled.statuses == {"quick": "ran", "slow": "cancelled", "slow_2": "cancelled", "both": "skipped"}
    assert statuses_of(waiting) == ("cancelled", cancelled.statuses)
    wait_until_gone(*pids)
    assert list((waiting.home / "blobs" / "unfinished").iterdir()) == []

    (waiting.root / "go").touch()
    again = waiting.run(workers=2)
    assert again.statuses == {"quick": "cached", "slow": "ran", "slow_2": "ran", "both": "ran"}


def test_an_interrupt_ends_an_inline_run_too(waiting: Project) -> None:
    process = waiting.start("training", workers=0)
    wait_for(waiting.root / "a.pid")
    process.send_signal(signal.SIGINT)
    cancelled = finish(process)
    assert cancelled.result["status"] == "cancelled"
    assert cancelled.statuses == {"quick": "ran", "slow": "cancelled", "slow_2": "skipped", "both": "skipped"}


def test_a_killed_worker_fails_its_step_and_nothing_hangs(waiting: Project) -> None:
    failed = waiting.run("falling", workers=2)
    assert failed.result["status"] == "failed"
    assert failed.statuses == {"quick": "ran", "fallen": "failed", "both": "skipped", "both_2": "ran"}
    error = failed.step("fallen")["error"]
    assert error == (
        "step 'fallen' was lost: its worker process was killed by SIGKILL; the kernel does so when memory runs out"
    )
    (waiting.root / "go").touch()
    again = waiting.run("falling", workers=2)
    assert again.ran == {"fallen", "both"}
    assert again.reasons["fallen"] == f"failed in run {failed.result['run_id']}"


def test_a_worker_killed_from_outside_is_noticed(waiting: Project) -> None:
    process = waiting.start("training", workers=1)
    (pid,) = wait_for(waiting.root / "a.pid")
    os.kill(pid, signal.SIGKILL)
    (waiting.root / "go").touch()
    failed = finish(process)
    assert failed.statuses == {"quick": "ran", "slow": "failed", "slow_2": "ran", "both": "skipped"}


def test_workers_do_not_outlive_a_killed_run_and_it_can_be_resumed(waiting: Project) -> None:
    process = waiting.start("training", workers=2)
    pids = wait_for(waiting.root / "a.pid", waiting.root / "b.pid")
    process.kill()
    process.communicate()
    wait_until_gone(*pids)
    assert statuses_of(waiting) == ("running", {"quick": "ran"})
    (waiting.root / "go").touch()
    again = waiting.run(workers=2)
    assert again.statuses == {"quick": "cached", "slow": "ran", "slow_2": "ran", "both": "ran"}
    assert statuses_of(waiting, run=1)[0] == "failed"


def test_what_a_step_started_ends_with_it(project: Project) -> None:
    project.write(
        "project.py",
        """
        import subprocess
        import time
        from pathlib import Path
        from flyball.domain.pipelines.steps import pipeline, step

        @step
        def start() -> int:
            child = subprocess.Popen(["sleep", "60"])
            Path("child.pid").write_text(str(child.pid))
            time.sleep(60)
            return 1

        @pipeline
        def training():
            return start()
        """,
    )
    process = project.start("training", workers=1)
    (child,) = wait_for(project.root / "child.pid")
    process.send_signal(signal.SIGINT)
    assert finish(process).result["status"] == "cancelled"
    wait_until_gone(child)


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_step_prints_does_not_mix_with_results(project: Project, workers: int) -> None:
    project.write(
        "project.py",
        """
        import os
        from flyball.domain.pipelines.steps import pipeline, step

        @step
        def say() -> str:
            print("hello from the step")
            return os.getcwd()

        @pipeline
        def training():
            return say()
        """,
    )
    outcome = project.run(workers=workers)
    assert "hello from the step" in outcome.stderr


def test_polars_works_in_workers_and_hands_frames_on(project: Project) -> None:
    project.write(
        "project.py",
        """
        import polars as pl
        from flyball.domain.pipelines.steps import pipeline, step

        @step
        def make(rows: int = 100_000) -> pl.DataFrame:
            return pl.select(a=pl.int_range(rows), b=pl.int_range(rows) % 7).group_by("b").agg(pl.col("a").sum())

        @step
        def total(frame: pl.DataFrame) -> int:
            return frame["a"].sum()

        @step
        def lazily(frame: pl.DataFrame) -> pl.LazyFrame:
            return frame.lazy().filter(pl.col("b") > 2)

        @step
        def count(rows: pl.LazyFrame) -> int:
            return rows.collect().height

        @pipeline
        def training():
            frame = make()
            return total(frame), count(lazily(frame))
        """,
    )
    outcome = project.run(workers=2)
    assert outcome.result["status"] == "succeeded", outcome.result
    assert project.run(workers=2).result["is_unchanged"]


def test_a_run_outside_the_main_thread_works(waiting: Project) -> None:
    (waiting.root / "go").touch()
    waiting.write(
        "threaded.py",
        f"""
        import sys, threading
        sys.argv[1:] = [sys.argv[1]]
        thread = threading.Thread(target=lambda: exec(open({str(Path(__file__).parent / "runner.py")!r}).read(), {{}}))
        thread.start()
        thread.join()
        """,
    )
    process = waiting.start("training")
    first = finish(process)
    assert first.result["status"] == "succeeded"
    again = subprocess.run(
        [*process.args[:3], str(waiting.root / "threaded.py"), process.args[-1].replace('"training"', '"falling"')],  # type: ignore
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"status": "succeeded"' in again.stdout, again.stderr
