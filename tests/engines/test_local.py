"""Local workers: what is sent comes back, whoever dies on the way."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from flyball.core.errors import InvalidInputError
from flyball.domain.pipelines.engine import Engine, Finished, Session, Work
from flyball.engines.inline import InlineEngine
from flyball.engines.local import LocalEngine, LocalSession, can_fork


class Forking:
    """Forks whatever this process did before: other tests may have used Polars, which `work` does not."""

    is_inline = False

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def open(self, work: Work, *, before_start: Callable[[], None]) -> Session:
        return LocalSession(work, self.workers, before_start)


ENGINES = [InlineEngine(), LocalEngine(0), Forking(1), Forking(3)]


def work(payload: bytes) -> bytes:
    if payload == b"die":
        os.kill(os.getpid(), signal.SIGKILL)
    if payload == b"leave":
        os._exit(3)
    if payload == b"wait":
        time.sleep(60)
    return payload[::-1]


@pytest.fixture
def opened() -> list[Session]:
    return []


@pytest.fixture
def open_session(opened: list[Session]) -> object:
    def open_(engine: Engine, before_start: Callable[[], None] = lambda: None) -> Session:
        opened.append(engine.open(work, before_start=before_start))
        return opened[-1]

    yield open_
    for session in opened:
        session.close()


def drain(session: Session, payloads: list[bytes]) -> dict[int, Finished]:
    waiting = list(enumerate(payloads))
    back: dict[int, Finished] = {}
    while len(back) < len(payloads):
        while waiting and session.free:
            session.submit(*waiting.pop(0))
        back |= {finished.number: finished for finished in session.wait()}
    return back


@pytest.mark.parametrize("engine", ENGINES, ids=["inline", "local 0", "local 1", "local 3"])
def test_every_task_comes_back_once(engine: Engine, open_session: Callable[..., Session]) -> None:
    payloads = [bytes([number]) * (number * 50_000) for number in range(20)]
    back = drain(open_session(engine), payloads)
    assert {number: finished.outcome for number, finished in back.items()} == {
        number: payload[::-1] for number, payload in enumerate(payloads)
    }


@pytest.mark.parametrize(
    ("payload", "told"), [(b"die", "killed by SIGKILL"), (b"leave", "ended with exit status 3")], ids=["kill", "exit"]
)
def test_a_lost_worker_is_told_and_replaced(open_session: Callable[..., Session], payload: bytes, told: str) -> None:
    back = drain(open_session(Forking(2)), [b"ab", payload, b"cd", b"ef", payload, b"gh"])
    assert [back[number].outcome for number in (0, 2, 3, 5)] == [b"ba", b"dc", b"fe", b"hg"]
    assert back[1].outcome is None
    assert told in back[1].lost
    assert told in back[4].lost


def test_waiting_ends_when_somebody_wakes_it(open_session: Callable[..., Session]) -> None:
    session = open_session(Forking(1))
    session.submit(0, b"wait")
    session.wake()
    assert session.wait() == []
    assert session.free == 0


def test_closing_ends_workers_at_work(open_session: Callable[..., Session], opened: list[Session]) -> None:
    session = open_session(Forking(2))
    session.submit(0, b"wait")
    began = time.monotonic()
    session.close()
    opened.clear()
    assert time.monotonic() - began < 5


def test_workers_are_forked_only_when_there_is_something_to_do(open_session: Callable[..., Session]) -> None:
    told: list[str] = []
    session = open_session(Forking(2), lambda: told.append("starting"))
    assert told == []
    session.submit(0, b"a")
    assert told == ["starting"]
    session.wait()
    session.submit(1, b"a")
    assert told == ["starting"]
    session.submit(2, b"a")
    assert told == ["starting"] * 2
    while session.free < 2:
        session.wait()


def test_fewer_than_no_workers_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="-1 workers"):
        LocalEngine(-1)


def test_a_process_that_used_polars_is_not_forked() -> None:
    import polars as pl

    assert pl.DataFrame({"a": [1, 2]}).group_by("a").len().height == 2
    assert not can_fork()
    assert LocalEngine(2).is_inline


def test_importing_polars_is_no_reason_not_to_fork() -> None:
    code = "import polars; from flyball.engines.local import can_fork; print(can_fork())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True\n"
