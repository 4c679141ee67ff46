"""The time machine: a project's past lived through by the same loop as live, under one policy after the other.

Only two things differ from live: the clock is simulated, and the requests come from the table that the model is
trained on, each at the time of its row. Labels, late rows and changes of the data become known when they did.
"""

import multiprocessing
import os
import random
import re
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import msgspec
import polars as pl

from flyball.core.clock import SimulatedClock, SystemClock, monotonic_s
from flyball.core.errors import BackendError, ConflictError, FlyballError, InvalidInputError
from flyball.domain.features.plans import TrainingSetPlan
from flyball.domain.loop.endpoints import Endpoint
from flyball.domain.loop.reactions import Reaction
from flyball.domain.loop.reports import PolicyResult, ReplayReport
from flyball.domain.loop.sources import TableReader
from flyball.domain.loop.triggers import Trigger, parse_policy
from flyball.domain.monitoring.metrics import find_metric
from flyball.domain.monitoring.monitors import Drift, Performance
from flyball.domain.pipelines.steps import Pipeline
from flyball.workspace.home import Home
from flyball.workspace.replay_results import gather_result
from flyball.workspace.trainers import InlineTrainer
from flyball.workspace.workspace import Workspace

DECLARED = "as declared"
STEP = timedelta(days=1)
# Lives run side by side, one to a core: threads of the libraries inside them would only wait for each other.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
_FIRST_SHARE = 0.25
_SEED = 20250101
_PROGRESS_EVERY = 20
_SLUG = re.compile(r"[^a-z0-9]+")


class ReplayPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to live through.

    Attributes:
        project: The project's folder.
        home: Each policy lives in a folder of its own under ``replays`` in it.
        endpoint: The endpoint; the only one by default.
        policies: As `parse_policy` reads them; the declared triggers by default.
        start: Where simulated life begins; by default after a quarter of the history.
        end: Where it ends; the history's end by default.
        step: How far the clock moves at most; shorter while a rollout is under way.
        into_home: Whether the first policy lives in the home itself, which must be empty.
    """

    project: Path
    home: Path
    endpoint: str | None = None
    policies: tuple[str, ...] = ()
    start: datetime | None = None
    end: datetime | None = None
    step: timedelta = STEP
    into_home: bool = False


class ReplayListener(Protocol):
    """Hears how far each policy has come."""

    def began(self, policies: Sequence[str]) -> None:
        """Hear which policies are lived through."""
        ...

    def moved(self, policy: str, share: float, now: datetime) -> None:
        """Hear how far one policy has come, from 0 to 1, and its simulated present."""
        ...


class ReplayRefusedError(InvalidInputError):
    """The project has no past that can be lived through."""

    code = "workspace/replay-refused"


class _Life(msgspec.Struct, frozen=True, kw_only=True):
    """One policy's life, as it is handed to a process of its own."""

    project: str
    home: str
    endpoint: str
    policy: str
    start: datetime
    end: datetime
    step: timedelta


def replay_policies(plan: ReplayPlan, listener: ReplayListener) -> ReplayReport:
    """Live through a project's past under each policy, side by side in processes of their own.

    Raises:
        ReplayRefusedError: The endpoint has no pipeline, or its table no time.
        InvalidInputError: A policy cannot be read, or the times leave nothing to live through.
        ConflictError: The home that shall be lived in is not empty.
        FlyballError: What one of the lives raised.
    """
    workspace = Workspace(plan.project, plan.home / "replays" / "reading")
    endpoint = workspace.project.endpoint_or_only(plan.endpoint)
    name = endpoint.name or ""
    policies = plan.policies or (DECLARED,)
    for policy in policies:
        _triggers(policy, endpoint)
    start, end = _span(workspace, endpoint, plan)
    shutil.rmtree(workspace.home, ignore_errors=True)
    lives = [
        _Life(
            project=str(plan.project),
            home=str(_prepare_home(plan, policy, is_first=number == 0)),
            endpoint=name,
            policy=policy,
            start=start,
            end=end,
            step=plan.step,
        )
        for number, policy in enumerate(policies)
    ]
    listener.began(policies)
    results = _live_side_by_side(lives, listener)
    return _report(workspace.project.root.name, endpoint, start, end, results)


def _report(
    project: str, endpoint: Endpoint, start: datetime, end: datetime, results: list[PolicyResult]
) -> ReplayReport:
    performance = next((found for found in endpoint.monitors if isinstance(found, Performance)), None)
    drift = next((found for found in endpoint.monitors if isinstance(found, Drift)), None)
    metric = performance.metric if performance is not None else ""
    return ReplayReport(
        project=project,
        endpoint=endpoint.name or "",
        start=start,
        end=end,
        metric=metric,
        better="lower" if metric and find_metric(metric).better != "higher" else "higher",
        limit=(performance.at_least if performance.at_least is not None else performance.at_most)
        if performance is not None
        else None,
        drift_threshold=drift.threshold if drift is not None and drift.threshold is not None else 0.2,
        policies=results,
    )


def _span(workspace: Workspace, endpoint: Endpoint, plan: ReplayPlan) -> tuple[datetime, datetime]:
    training = workspace.packages.plan(endpoint)
    if endpoint.retrain is None or training is None:
        raise ReplayRefusedError(
            f"the endpoint {endpoint.name!r} has no past to live through: it declares no retrain pipeline "
            "that makes a training set",
            hint="Give the endpoint retrain=PIPELINE.",
        )
    spine = training.spine
    if spine.time is None:
        raise ReplayRefusedError(
            f"the table {spine.required_name!r} has no time, so there is no telling when each request came",
            hint="Declare it: fb.Table(..., time=COLUMN).",
        )
    snapshot = workspace.data.snapshot(spine)
    first, last = snapshot.time_from, snapshot.time_to
    if first is None or last is None:
        raise ReplayRefusedError(f"the table {spine.required_name!r} has no times")
    start = plan.start or first + _FIRST_SHARE * (last - first)
    end = min(plan.end or last, last)
    if not first < start < end:
        raise InvalidInputError(
            f"nothing of {spine.required_name!r} lies between {start} and {end}: its rows are of {first} to {last}, "
            "and some must lie before the start to train on",
            hint="Choose other times with --from and --to.",
        )
    return start, end


def _prepare_home(plan: ReplayPlan, policy: str, *, is_first: bool) -> Path:
    if plan.into_home and is_first:
        if Home(plan.project, plan.home).journal.head():
            raise ConflictError(f"the home {str(plan.home)!r} has a life of its own already")
        return plan.home
    home = plan.home / "replays" / (_SLUG.sub("-", policy.lower()).strip("-") or "policy")
    shutil.rmtree(home, ignore_errors=True)
    return home


def _live_side_by_side(lives: Sequence[_Life], listener: ReplayListener) -> list[PolicyResult]:
    """Run each life in a fresh process, as many at a time as there are cores."""
    os.environ.update(_ONE_THREAD)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    waiting = list(enumerate(lives))
    running: dict[int, Any] = {}
    results: dict[int, PolicyResult] = {}
    try:
        while waiting or running:
            while waiting and len(running) < (os.cpu_count() or 1):
                number, life = waiting.pop(0)
                running[number] = context.Process(target=_live_apart, args=(number, msgspec.json.encode(life), queue))
                running[number].start()
            message = _next_message(queue, running)
            number, kind = message[0], message[1]
            if kind == "moved":
                listener.moved(lives[number].policy, message[2], message[3])
                continue
            running.pop(number).join()
            if kind == "failed":
                raise _TRANSPORT.get(message[2], BackendError)(
                    f"the replay under {lives[number].policy!r} stopped: {message[3]}", hint=message[4]
                )
            results[number] = msgspec.json.decode(message[2], type=PolicyResult)
    finally:
        for process in running.values():
            process.terminate()
            process.join()
    return [results[number] for number in range(len(lives))]


_TRANSPORT: dict[str, type[FlyballError]] = {"invalid": InvalidInputError, "other": BackendError}


def _next_message(queue: Any, running: Mapping[int, Any]) -> Any:
    import queue as queues

    while True:
        try:
            return queue.get(timeout=1.0)
        except queues.Empty:
            for number, process in running.items():
                if not process.is_alive() and queue.empty():
                    reason = f"its process ended with status {process.exitcode}"
                    return (number, "failed", "other", reason, "")


def _leave_with_parent() -> None:
    """End this process once the one that asked for the replay has ended, however it ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _live_apart(number: int, encoded: bytes, queue: Any) -> None:
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    life = msgspec.json.decode(encoded, type=_Life)
    try:
        result = live(life, lambda share, now: queue.put((number, "moved", share, now)))
    except FlyballError as error:
        kind = "invalid" if isinstance(error, InvalidInputError) else "other"
        queue.put((number, "failed", kind, error.message, error.hint))
    else:
        queue.put((number, "done", msgspec.json.encode(result)))


def live(life: _Life, tell: Callable[[float, datetime], None]) -> PolicyResult:
    """Live through one policy in this process and return what came of it."""
    clock = SimulatedClock(life.start)
    training_s = [0.0]

    def train(reaction: Reaction | None, pipeline: Pipeline[..., Any]) -> tuple[str | None, str | None]:
        began = monotonic_s()
        result = workspace.run(
            str(pipeline.name), cause=reaction.event_seq if reaction else None, actor="loop", is_inline=True
        )
        training_s[0] += monotonic_s() - began
        return result.run_id, result.error or None

    workspace = Workspace(
        Path(life.project),
        Path(life.home),
        clock=clock,
        entropy=random.Random(_SEED).randbytes,
        trainer=InlineTrainer(train),
        is_durable=False,
    )
    endpoint = workspace.project.endpoint(life.endpoint)
    endpoint.retrain_on = _triggers(life.policy, endpoint)
    workspace.project.endpoints = {life.endpoint: endpoint}
    plan = workspace.packages.plan(endpoint)
    assert plan is not None and plan.spine.time is not None and endpoint.retrain is not None  # `_span` has checked it
    _, error = train(None, endpoint.retrain)
    if error is not None:
        raise ReplayRefusedError(f"the first training failed: {error}")
    workspace.loop.tick()
    reader = TableReader(workspace.data)
    _live_on(workspace, plan, reader, life, clock, tell)
    # What was predicted last turns out only later: judging waits for it, while nothing else happens any more.
    label = endpoint.label or plan.label
    clock.advance_to(reader.last_known(label.table) or life.end)
    workspace.loop.ingest_labels()
    return gather_result(workspace, endpoint, life.policy, life.start, life.end, training_s[0])


def _live_on(
    workspace: Workspace,
    plan: TrainingSetPlan,
    reader: TableReader,
    life: _Life,
    clock: SimulatedClock,
    tell: Callable[[float, datetime], None],
) -> None:
    requests = _Requests(reader, plan)
    endpoint = workspace.endpoints[life.endpoint]
    shortest = min((stage.duration for stage in endpoint.rollout), default=life.step)
    turns = 0
    while clock.now() < life.end:
        before = clock.now()
        is_rolling = workspace.rollouts.find_running(life.endpoint) is not None
        step = min(life.step, shortest / 2) if is_rolling else life.step
        clock.advance_to(min(before + step, life.end))
        rows = requests.between(before, clock.now(), _request_fields(workspace, endpoint))
        if rows:
            workspace.data_plane.predict(life.endpoint, rows)
        workspace.predictions.log.rotate()
        workspace.loop.tick()
        turns += 1
        if turns % _PROGRESS_EVERY == 0:
            tell((clock.now() - life.start) / (life.end - life.start), clock.now())
    tell(1.0, clock.now())


class _Requests:
    """The rows of the spine, as live requests at the time of each."""

    def __init__(self, reader: TableReader, plan: TrainingSetPlan) -> None:
        self._time = plan.spine.time or ""
        whole = reader.rows_known(plan.spine, None, SystemClock().now())
        self._rows = whole.sort(self._time, maintain_order=True)

    def between(self, after: datetime, until: datetime, fields: Sequence[str]) -> list[dict[str, Any]]:
        """Return the requests of (after, until], with only the fields that the live model asks for."""
        times = self._rows[self._time]
        begin = times.search_sorted(after, side="right")
        end = times.search_sorted(until, side="right")
        return self._rows.slice(begin, end - begin).select(pl.col(name) for name in fields).to_dicts()


def _request_fields(workspace: Workspace, endpoint: Endpoint) -> Sequence[str]:
    line = workspace.fleet.line(endpoint.name or "")
    return line.live.request.schema.names if line.live is not None else ()


def _triggers(policy: str, endpoint: Endpoint) -> tuple[Trigger, ...]:
    """Return a policy's triggers; one that the endpoint declares, too, keeps its declared cool-down."""
    if policy == DECLARED:
        return endpoint.retrain_on
    declared = {str(trigger): trigger for trigger in endpoint.retrain_on}
    return tuple(declared.get(str(trigger), trigger) for trigger in parse_policy(policy))
