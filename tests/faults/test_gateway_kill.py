"""``kill -9`` of whichever process, while several gateway processes answer: no answered prediction is lost."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from flyball.workspace.workspace import Workspace
from tests.faults.test_kill import finish_the_log
from tests.stories.system import System, wait_for
from tests.stories.tiny import make_request, write_tiny
from tests.stories.traffic import Answered, Traffic

pytestmark = pytest.mark.slow
SEED = 20_261_121
TARGETS = ("gateway_worker", "control", "gateway_worker", "gateway")
STREAMS = 4
ENDPOINT = 'parcel = fb.Endpoint(model="lateness", gates=[fb.metric("auc") >= 0.2], retrain=training)'
SETTINGS = 'tick_seconds = 0.2\ngateway_processes = 2\ndurable = "disk"\n'


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    made = System(write_tiny(tmp_path / "tiny", endpoint=ENDPOINT, settings=SETTINGS))
    made.run("run", "training")
    yield made
    made.stop()


def test_two_gateway_processes_lose_no_answered_prediction(system: System) -> None:
    system.up()
    dice = random.Random(SEED)
    killed: Counter[str] = Counter()
    streams = [
        Traffic(system.port + 1, lambda number, first=1_000 * stream: make_request(first + number), pause_s=0.02)
        for stream in range(STREAMS)
    ]
    with ExitStack() as stack:
        for stream in streams:
            stack.enter_context(stream.flowing())
        for target in TARGETS:
            time.sleep(dice.uniform(0.2, 0.8))
            killed[system.kill(target)] += 1
            wait_until_answered(system, streams)
    answers = [answer for stream in streams for answer in stream.answers]
    answered = [answer for answer in answers if answer.status == 200]
    print(f"killed {dict(killed)}, {len(answered)} answered, {Counter(answer.status for answer in answers)}")
    assert killed == Counter(TARGETS)
    assert len(answered) > 50
    system.wait_until_ready()
    finish_the_log(system)
    check(system, answered)


def wait_until_answered(system: System, streams: list[Traffic]) -> None:
    began_s = time.monotonic()
    wait_for(
        lambda: any(answer.status == 200 for stream in streams for answer in stream.since(began_s)),
        f"requests are answered again\n{system.told()}",
        60,
    )


def check(system: System, answered: list[Answered]) -> None:
    logged = Workspace(system.project, system.home).predictions.scan("parcel").select("id", "prediction").collect()
    assert logged["id"].n_unique() == logged.height, "a prediction is in the log twice"
    found = dict(zip(logged["id"], logged["prediction"], strict=True))
    assert not [answer for answer in answered if answer.id not in found], "answered predictions are not in the log"
    assert all(found[answer.id] == answer.prediction for answer in answered)
