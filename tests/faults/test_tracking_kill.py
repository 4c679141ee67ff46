"""``kill -9`` of the server while eight programs log at once: what it acknowledged is there, on either database."""

import multiprocessing
import random
import signal
import time
from http.client import HTTPException
from multiprocessing.synchronize import Event
from typing import Any

import psutil
import pytest

from tests.stories.system import System, send, wait_for

pytestmark = pytest.mark.slow
WRITERS = 8
KILLS = 6
SEED = 31
A = "/api/2.0/mlflow/"


def test_no_acknowledged_write_is_lost(tracking_server: System) -> None:
    tracking_server.up()
    runs = [make_run(tracking_server.port, f"writer {number}") for number in range(WRITERS)]
    context = multiprocessing.get_context("fork")
    stop, queue = context.Event(), context.Queue()
    writers = [
        context.Process(target=write, args=(tracking_server.port, run, stop, queue), daemon=True) for run in runs
    ]
    for writer in writers:
        writer.start()
    dice = random.Random(SEED)
    for number in range(KILLS):
        time.sleep(dice.uniform(0.3, 1.2))
        if number % 3 == 2:
            kill_everything(tracking_server)
            tracking_server.up()
        else:
            kill_server(tracking_server)
            tracking_server.wait_until_ready()
    time.sleep(0.5)
    stop.set()
    written: dict[str, tuple[int, set[int]]] = {}
    for _ in writers:
        run, refused, steps = queue.get(timeout=60)
        written[run] = refused, steps
    for writer in writers:
        writer.join(30)
    for run, (refused, steps) in written.items():
        assert len(steps) > 20
        assert refused > 0, "the writer did not notice that the server was killed"
        found = read_steps(tracking_server.port, run)
        assert not steps - found, "acknowledged, but not there"
        # What was not acknowledged may be there, but whole: each batch had a parameter of the same number.
        params = read_run(tracking_server.port, run)["data"]["params"]
        assert {int(param["key"]) for param in params} == found
    print({run: (refused, len(steps)) for run, (refused, steps) in written.items()})


def write(port: int, run: str, stop: Event, queue: Any) -> None:
    """Log batches one after the other and remember those that were acknowledged."""
    steps, refused = set(), 0
    step = 0
    while not stop.is_set():
        step += 1
        metric = {"key": "loss", "value": 0.5, "timestamp": step, "step": step}
        batch = {"run_id": run, "metrics": [metric], "params": [{"key": str(step), "value": "x"}]}
        try:
            reply = send(port, "POST", f"{A}runs/log-batch", batch)
        except (OSError, HTTPException):
            refused += 1
            time.sleep(0.02)
            continue
        assert reply.status == 200, reply
        steps.add(step)
    queue.put((run, refused, steps))


def make_run(port: int, name: str) -> str:
    body = send(port, "POST", f"{A}runs/create", {"experiment_id": "0", "run_name": name, "start_time": 1}).body
    run: str = body["run"]["info"]["run_id"]
    return run


def read_run(port: int, run: str) -> Any:
    return send(port, "GET", f"{A}runs/get?run_id={run}").body["run"]


def read_steps(port: int, run: str) -> set[int]:
    found, token = set(), ""
    while True:
        page = send(port, "GET", f"{A}metrics/get-history?run_id={run}&metric_key=loss&max_results=1000{token}").body
        found |= {metric["step"] for metric in page["metrics"]}
        if not page.get("next_page_token"):
            return found
        token = f"&page_token={page['next_page_token']}"


def kill_server(system: System) -> None:
    """Kill the process that serves; the supervisor starts it again."""
    assert system.process is not None
    [control] = psutil.Process(system.process.pid).children()
    control.send_signal(signal.SIGKILL)
    control.wait(10)


def kill_everything(system: System) -> None:
    assert system.process is not None
    family = [psutil.Process(system.process.pid), *psutil.Process(system.process.pid).children()]
    for process in family:
        process.send_signal(signal.SIGKILL)
    system.process.wait(10)
    wait_for(lambda: not any(one.is_running() and one.status() != "zombie" for one in family), "all have ended")
