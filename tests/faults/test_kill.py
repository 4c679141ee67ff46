"""Twenty times ``kill -9`` of a process at a random moment under load, while models are retrained and rolled out.

What must hold after it: every answered prediction is in the log, and counted once; no event is lost or doubled; each
rollout went on from where it was; the journal is whole.
"""

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from flyball.domain.journal.events import Event
from flyball.domain.loop import store as loop_store
from flyball.domain.predictions.records import PredictionStatus
from flyball.workspace.workspace import Workspace
from tests.stories.system import System, send, wait_for
from tests.stories.tiny import add_arrivals, make_request, write_tiny
from tests.stories.traffic import Answered, Traffic

pytestmark = pytest.mark.slow
SEED = 20_261_121
TARGETS = ("supervisor", "control", "gateway", "loop", "training") * 4
LONGEST_CALM_S = 1.5
STREAMS = 3
ENDPOINT = """
parcel = fb.Endpoint(
    model="lateness",
    gates=[fb.metric("auc") >= 0.2],
    rollout=[fb.shadow("1s"), fb.canary(0.3, "1s"), fb.canary(0.6, "1s")],
    monitors=[fb.prediction_mean(last=100, off_by=0.5)],
    retrain=training,
    retrain_on=[fb.every("3s")],
)
"""
_ENOUGH_EVENTS = 100_000


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    made = System(write_tiny(tmp_path / "tiny", endpoint=ENDPOINT, settings="tick_seconds = 0.2\n"))
    made.run("run", "training")
    yield made
    made.stop()


def test_nothing_is_lost_or_doubled_whatever_is_killed(system: System) -> None:
    system.up()
    dice = random.Random(SEED)
    killed: Counter[str] = Counter()
    with Life(system).flowing() as life:
        for target in dice.sample(TARGETS, len(TARGETS)):
            time.sleep(dice.uniform(0.1, LONGEST_CALM_S))
            killed[system.kill(target)] += 1
            wait_until_answered(system, life)
        system.wait_until_ready()
        seen = count_events(system, "serving.rollout.started")
        wait_for(lambda: count_events(system, "serving.rollout.started") > seen, "the loop goes on", 60)
        wait_for(lambda: count_events(system, "serving.rollout.promoted") > 1, "a rollout comes to its end", 60)
    answered = [answer for answer in life.answers() if answer.status == 200]
    print(f"killed {dict(killed)}, {len(answered)} answered, {len(life.answers()) - len(answered)} not")
    assert len(answered) > 500
    finish_the_log(system)
    workspace = Workspace(system.project, system.home)
    events = workspace.journal.list_events(limit=_ENOUGH_EVENTS)
    print(Counter(event.kind for event in events))
    check_log(workspace, answered)
    check_counts(workspace)
    check_labels(workspace, life.labelled)
    check_journal(workspace, events)
    check_reactions(workspace, events)
    check_rollouts(workspace, events)
    check_leftovers(workspace)
    assert "the journal is whole" in system.run("audit", "verify")


class Life:
    """Everything that keeps coming while processes die."""

    def __init__(self, system: System) -> None:
        self.labelled: dict[str, int] = {}
        self._system = system
        self._streams = [
            Traffic(system.port + 1, lambda number, first=100_000 * stream: make_request(first + number), pause_s=0.03)
            for stream in range(STREAMS)
        ]
        self._is_over = threading.Event()

    def answers(self) -> list[Answered]:
        """Return all answers so far."""
        return self.since(0)

    def since(self, at_s: float) -> list[Answered]:
        """Return all answers after a moment of the monotonic clock."""
        return [answer for stream in self._streams for answer in stream.since(at_s)]

    @contextmanager
    def flowing(self) -> Iterator["Life"]:
        """Ask, label, and change the data for as long as the block lasts."""
        others = [threading.Thread(target=work, daemon=True) for work in (self._label, self._bring_data)]
        for thread in others:
            thread.start()
        with ExitStack() as stack:
            for stream in self._streams:
                stack.enter_context(stream.flowing())
            try:
                yield self
            finally:
                self._is_over.set()
                for thread in others:
                    thread.join(30)

    def _label(self) -> None:
        for number in itertools.count():
            if self._is_over.wait(0.2):
                return
            answered = [answer for answer in self._streams[0].answers[-10:] if answer.status == 200]
            if not answered or answered[-1].id in self.labelled:
                continue
            with suppress(OSError, ValueError):
                body = {"prediction_id": answered[-1].id, "value": number % 2}
                if send(self._system.port, "POST", "/labels", body, timeout_s=5).status == 201:
                    self.labelled[answered[-1].id] = number % 2

    def _bring_data(self) -> None:
        for number in itertools.count():
            if self._is_over.wait(1.0):
                return
            add_arrivals(self._system.project, [(800_000 + number, number % 6, number % 2)])


def wait_until_answered(system: System, life: Life) -> None:
    began_s = time.monotonic()

    def answers() -> bool:
        assert system.process is not None
        assert system.process.poll() is None, system.told()
        return any(answer.status == 200 for answer in life.since(began_s))

    wait_for(answers, f"requests are answered again\n{system.told()}", 60)


def count_events(system: System, kind: str) -> int:
    with suppress(OSError):
        return len(system.events(kind))
    return 0


def finish_the_log(system: System) -> None:
    """End everything, which closes the log's last segments, and let a loop seal them."""
    system.stop()
    folder = system.home / "predictions" / "parcel" / "open"
    system.up()
    wait_for(lambda: not list(folder.glob("*.jsonl")), f"the log is sealed\n{system.told()}", 60)
    system.stop()


def check_log(workspace: Workspace, answered: Sequence[Answered]) -> None:
    logged = workspace.predictions.scan("parcel").select("id", "version", "variant").collect()
    assert logged["id"].n_unique() == logged.height, "a prediction is in the log twice"
    known = {row["id"]: row for row in logged.iter_rows(named=True)}
    missing = [answer for answer in answered if answer.id not in known]
    assert not missing, f"{len(missing)} answered predictions are not in the log"
    assert all((known[found.id]["version"], known[found.id]["variant"]) == (found.version, found.variant)
               for found in answered)  # fmt: skip
    for answer in answered[:: max(1, len(answered) // 10)]:
        assert workspace.predictions.find(answer.id) is not None


def check_counts(workspace: Workspace) -> None:
    """What monitoring counted as each thing was sealed is what the log holds."""
    logged = workspace.predictions.scan("parcel").collect()
    first, last = logged["at"].min(), logged["at"].max()
    kinds = logged.group_by("version", "variant", "status").len().rows()
    # Over less than six hours tiles of minutes are added up, over more those of hours.
    for begin, end in ((first, last), (first - timedelta(hours=7), last)):  # type: ignore[operator]
        for version, variant, status, rows in kinds:
            tile = workspace.monitoring.window("parcel", begin, end, version=version, variant=variant)  # type: ignore[arg-type]
            assert tile.ended(PredictionStatus(status)) == rows, (version, variant, status)


def check_labels(workspace: Workspace, labelled: dict[str, int]) -> None:
    kept = workspace.predictions.labelled("parcel").filter(pl.col("label_source") == "api")
    found = dict(zip(kept["id"], kept["label"], strict=True))
    assert {name: found.get(name) for name in labelled} == labelled
    assert len(labelled) > 10


def check_journal(workspace: Workspace, events: Sequence[Event]) -> None:
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert workspace.journal.verify().broken_at is None
    once = Counter((event.kind, event.subject) for event in events if event.kind in ONCE)
    assert not [thing for thing, count in once.items() if count > 1]
    versions = [version.number for version in workspace.registry.list_versions("lateness")]
    assert versions == list(range(1, len(versions) + 1))
    created = [event for event in events if event.kind == "registry.version.created"]
    assert len(created) == len(versions)


ONCE = {
    "pipelines.run.started",
    "pipelines.run.finished",
    "registry.version.created",
    "registry.version.approved",
}


def check_reactions(workspace: Workspace, events: Sequence[Event]) -> None:
    with workspace.db.read() as tx:
        reactions = loop_store.list_reactions(tx, "parcel")
    started = [event for event in events if event.kind == "loop.retraining.started"]
    ended = [event for event in events if event.kind in ("loop.retraining.finished", "loop.retraining.failed")]
    assert len(reactions) > 3
    assert sorted(event.seq for event in started) == sorted(reaction.event_seq or 0 for reaction in reactions)
    assert len({event.cause for event in started}) == len(started), "a cause started two reactions"
    assert len({event.cause for event in ended}) == len(ended), "a reaction ended twice"
    assert {event.cause for event in ended} <= {event.seq for event in started}
    is_open = [reaction for reaction in reactions if reaction.finished_at is None]
    assert len(ended) == len(reactions) - len(is_open)
    assert len(is_open) <= 1


def check_rollouts(workspace: Workspace, events: Sequence[Event]) -> None:
    """Each went from stage to stage in order, ended at most once, and only then the next one began."""
    told: dict[str, list[str]] = {}
    running: str | None = None
    for event in events:
        if not event.kind.startswith("serving.rollout."):
            continue
        rollout, what = event.data["rollout"], event.kind.rpartition(".")[2]
        if what == "started":
            assert running is None, f"{rollout} began while {running} was under way"
            running = rollout
        assert running == rollout
        told.setdefault(rollout, []).append(what if what != "advanced" else event.data["state"])
        running = None if what in ("promoted", "rolled-back") else running
    orders = Counter(tuple(steps) for steps in told.values())
    print(orders)
    whole = ("started", "canary 30%", "canary 60%", "promoted")
    for steps in orders:
        assert steps == ("started", "promoted") or steps == whole[: len(steps)] or steps[-1] == "rolled-back", steps
        assert steps[:-1] == whole[: len(steps) - 1], steps
    assert orders[whole] >= 1
    rollouts = workspace.rollouts.list_rollouts("parcel")
    assert len({rollout.candidate for rollout in rollouts}) == len(rollouts), "a version was rolled out twice"
    assert {rollout.id for rollout in rollouts} == set(told)
    moves = [event for event in events if event.kind == "registry.alias.moved" and event.data["alias"] == "champion"]
    promoted = [rollout for rollout in rollouts if rollout.status.value == "promoted"]
    assert len(moves) == len(promoted), "a promotion and the champion do not agree"
    champion = workspace.registry.champion("lateness")
    assert champion is not None
    assert champion.ref == promoted[-1].candidate


def check_leftovers(workspace: Workspace) -> None:
    """What was being written when its writer died is not mistaken for anything whole."""
    for package in (workspace.home / "packages").iterdir():
        if not package.name.startswith("."):
            assert (package / "manifest.json").is_file()
    for version in workspace.registry.list_versions("lateness"):
        workspace.registry.open(version.ref)
