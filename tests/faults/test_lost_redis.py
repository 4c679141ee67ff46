"""A Redis with the online features goes away under load, hangs, and comes back empty; predictions go on as declared.

What must hold: requests wait for a bounded time, and are told what ``online_fallback`` says; every answered prediction
is in the log, once; the loop goes on, and brings the features back by itself.
"""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import pytest
from redis import Redis

from flyball.workspace.workspace import Workspace
from tests.faults.test_kill import check_log, count_events, finish_the_log
from tests.servers import RedisServer, redis
from tests.stories.system import Reply, System, wait_for
from tests.stories.tiny import add_arrivals, make_request, write_tiny
from tests.stories.traffic import Answered, Traffic

pytestmark = pytest.mark.slow
STREAMS = 3
AWAY_S = 1.5
TIMEOUT_S = 0.2
SETTINGS = """
tick_seconds = 0.2
online = "{url}"
online_timeout_seconds = {timeout_s}
online_fallback = "{fallback}"
"""
ENDPOINT = """
parcel = fb.Endpoint(
    model="lateness",
    gates=[fb.metric("auc") >= 0.2],
    rollout=[],
    retrain=training,
    retrain_on=[fb.new_data(arrivals, rows=1)],
)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "redis").mkdir()
    with redis(tmp_path / "redis") as server:
        yield server


@pytest.mark.parametrize("fallback", ["refuse", "null"])
def test_a_lost_redis_costs_features_and_no_answered_prediction(
    tmp_path: Path, server: RedisServer, fallback: str
) -> None:
    settings = SETTINGS.format(url=server.url, timeout_s=TIMEOUT_S, fallback=fallback)
    system = System(write_tiny(tmp_path / "tiny", endpoint=ENDPOINT, settings=settings))
    system.run("run", "training")
    system.up()
    try:
        streams = [
            Traffic(system.port + 1, lambda number, first=100_000 * stream: make_request(first + number), pause_s=0.02)
            for stream in range(STREAMS)
        ]
        wait_for(lambda: system.predict(make_request(1)).status == 200, "predictions", 60)
        wait_until_features_are_used(system)
        with ExitStack() as stack:
            for stream in streams:
                stack.enter_context(stream.flowing())
            time.sleep(1.0)
            server.stop()
            check_what_is_told(system, streams, fallback)
            check_that_the_loop_goes_on(system)
            server.start()  # it comes back with nothing
            wait_until_features_are_used(system)
            hang(server, lambda: check_what_is_told(system, streams, fallback))
            wait_until_features_are_used(system)
        assert count_lookups(system, "unavailable") > 10
        answers = [answer for stream in streams for answer in stream.since(0)]
        assert {answer.status for answer in answers} == ({200} if fallback == "null" else {200, 503})
        answered = [answer for answer in answers if answer.status == 200]
        assert len(answered) > 100
        finish_the_log(system)
        check_log(Workspace(system.project, system.home), answered)
    finally:
        system.stop()


def check_what_is_told(system: System, streams: Sequence[Traffic], fallback: str) -> None:
    """The first request waits for the store; those of the next second are told at once."""
    time.sleep(0.5)
    began_s = time.monotonic()
    longest_s, told = 0.0, set()
    while time.monotonic() - began_s < AWAY_S:
        asked_s = time.monotonic()
        reply = system.predict(make_request(1))
        longest_s = max(longest_s, time.monotonic() - asked_s)
        told.add(reply.status)
        if fallback == "null":
            assert not uses_features(reply)
        else:
            assert "did not answer" in str(reply.body) or "could not be used" in str(reply.body), reply.body
        time.sleep(0.02)
    assert told == ({200} if fallback == "null" else {503})
    assert longest_s < 3 * TIMEOUT_S + 1.0
    found: list[Answered] = [answer for stream in streams for answer in stream.since(began_s)]
    assert len(found) > 20
    assert 0 not in {answer.status for answer in found}


def check_that_the_loop_goes_on(system: System) -> None:
    seen = count_events(system, "loop.retraining.started")
    add_arrivals(system.project, [(700_000, 1, 1)])
    wait_for(lambda: count_events(system, "loop.retraining.started") > seen, "a retraining", 30)


def wait_until_features_are_used(system: System) -> None:
    wait_for(lambda: uses_features(system.predict(make_request(1))), f"features are back\n{system.told()}", 60)


def uses_features(reply: Reply) -> bool:
    return reply.status == 200 and reply.body["features"]["shop_record"].get("event_time") is not None


def hang(server: RedisServer, work: Callable[[], None]) -> None:
    with Redis.from_url(server.url) as client:
        pid = client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        work()
    finally:
        os.kill(pid, signal.SIGCONT)


def count_lookups(system: System, outcome: str) -> int:
    with urlopen(f"http://127.0.0.1:{system.port + 1}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    found = re.findall(rf'flyball_online_lookups_total{{[^}}]*outcome="{outcome}"[^}}]*}} (\d+)', text)
    return sum(map(int, found))
