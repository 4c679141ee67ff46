"""Carries out a graph: takes what is kept, hands out what is ready, records what comes back."""

import heapq
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum, auto
from pathlib import Path

import msgspec

from flyball.core.boots import boot_id
from flyball.core.errors import FlyballError
from flyball.core.hashing import digest_file
from flyball.domain.pipelines.dependencies import KeyMaker
from flyball.domain.pipelines.engine import Action, Engine, Finished, GivenValue, Outcome, Session, Task, Work
from flyball.domain.pipelines.fingerprints import FileDigests
from flyball.domain.pipelines.graph import Call, Graph, Node
from flyball.domain.pipelines.interrupts import watching_interrupts
from flyball.domain.pipelines.keys import KeyParts, compute_key, compute_seed, explain
from flyball.domain.pipelines.ledger import Ledger
from flyball.domain.pipelines.results import Progress, StepResult, StepStatus, StoredValue
from flyball.domain.pipelines.steps import Step
from flyball.domain.pipelines.store import KeptResult
from flyball.storage.blobs import LocalBlobStore


class _Phase(StrEnum):
    WAITING = auto()
    READY = auto()
    IDENTIFYING = auto()
    QUEUED = auto()
    RUNNING = auto()
    DONE = auto()


class _State:
    """One call on its way."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.phase = _Phase.WAITING
        self.missing = len(call.needs)
        self.identity = ""
        self.key = ""
        self.parts: KeyParts | None = None
        self.reason = ""
        self.outputs: list[StoredValue] = []
        self.result: StepResult | None = None

    @property
    def has_value(self) -> bool:
        return self.result is not None and self.result.status in (StepStatus.CACHED, StepStatus.RAN)


class Scheduler:
    """Carries out one run; used once.

    Args:
        graph: What to carry out.
        engine: Where steps run.
        ledger: What is known, and where what happens is recorded.
        keys: Gathers what a step depends on.
        files: Digests of files.
        blobs: Where values lie.
        progress: Is told how it goes.
    """

    def __init__(
        self,
        graph: Graph,
        engine: Engine,
        ledger: Ledger,
        keys: KeyMaker,
        files: FileDigests,
        blobs: LocalBlobStore,
        progress: Progress,
    ) -> None:
        self._graph = graph
        self._engine = engine
        self._ledger = ledger
        self._keys = keys
        self._files = files
        self._blobs = blobs
        self._progress = progress
        self._states = [_State(call) for call in graph.calls]
        self._dependents: dict[int, list[int]] = {}
        for call in graph.calls:
            for needed in call.needs:
                self._dependents.setdefault(needed, []).append(call.position)
        self._ready = [state.call.position for state in self._states if not state.missing]
        self._queue: list[int] = []
        self._in_flight: set[int] = set()
        self._by_key: dict[str, int] = {}
        self._twins: dict[int, list[int]] = {}
        self._contents: dict[str, bytes] = {}
        self.is_cancelled = False

    def run(self, work: Work, *, before_start: Callable[[], None], while_working: Callable[[], None]) -> None:
        """Carry out the graph.

        Args:
            work: Runs one task; called by the engine's workers.
            before_start: See `Engine.open`.
            while_working: Called once, when all workers have something to do.
        """
        self._progress.planned(self._ledger.run_id, [call.name for call in self._graph.calls])
        session = self._engine.open(work, before_start=before_start)
        try:
            with watching_interrupts(session.wake, at_once=self._engine.is_inline) as interrupt:
                self._advance(session)
                while_working()
                while self._in_flight and not interrupt.is_requested:
                    for finished in session.wait():
                        self._take(finished)
                    self._advance(session)
                self.is_cancelled = interrupt.is_requested
        except KeyboardInterrupt:
            self.is_cancelled = True
        finally:
            session.close()
        if self.is_cancelled:
            self._cancel()

    @property
    def results(self) -> list[StepResult]:
        """What each step came to, in the order of the graph."""
        return [state.result for state in self._states if state.result is not None]

    @property
    def all_values(self) -> list[StoredValue]:
        """What all steps returned."""
        return [stored for state in self._states for stored in state.outputs]

    def values_of(self, node: Node) -> list[StoredValue]:
        """Return the values that a node stands for; none if its call has not been done."""
        outputs = self._states[node.call.position].outputs
        if node.output is None or node.call.operation.outputs == 1:
            return outputs
        return outputs[node.output : node.output + 1]

    def _advance(self, session: Session) -> None:
        """Start all that can start now."""
        while self._ready:
            self._settle(self._states[heapq.heappop(self._ready)])
        while self._queue and session.free:
            self._submit(session, self._states[heapq.heappop(self._queue)])

    def _settle(self, state: _State) -> None:
        """Find out whether a call whose inputs are known has to run."""
        call = state.call
        if not isinstance(call.operation, Step) and state.phase is not _Phase.READY:
            state.phase = _Phase.IDENTIFYING
            heapq.heappush(self._queue, call.position)
            return
        try:
            state.parts = self._keys.gather(call, state.identity, self.values_of)
            state.key = compute_key(state.parts)
        except (OSError, FlyballError) as error:
            self._fail(state, str(error), reason="what it depends on cannot be read")
            return
        kept = self._ledger.find_result(state.key)
        if kept is not None and (outputs := self._available(kept)) is not None:
            self._take_kept(state, kept, outputs, f"cached since run {kept.run_id}")
            return
        twin = self._by_key.setdefault(state.key, call.position)
        if twin != call.position:
            self._twins.setdefault(twin, []).append(call.position)
            return
        state.reason = explain(call.name, state.parts, self._ledger.last_times.get(call.name))
        state.phase = _Phase.QUEUED
        heapq.heappush(self._queue, call.position)

    def _available(self, kept: KeptResult) -> list[StoredValue] | None:
        """Return the values of a kept result if all can be had and the files that they name are as they were."""
        inline = [stored.digest for stored in kept.outputs if stored.is_inline]
        contents = self._ledger.find_contents(inline)
        if len(contents) < len(set(inline)):
            return None
        outputs = []
        for stored in kept.outputs:
            if not all(self._blobs.has(digest) for digest in stored.blobs):
                return None
            if stored.boot != (boot_id() if stored.boot else ""):
                if any(digest_file(self._blobs.path(digest)) != digest for digest in stored.blobs):
                    return None
                stored = msgspec.structs.replace(stored, boot=boot_id())
            try:
                if any(self._files.digest(Path(path)) != digest for path, digest in stored.files):
                    return None
            except OSError:
                return None
            outputs.append(stored)
        if outputs != kept.outputs:
            self._ledger.confirm_outputs(kept.key, outputs)
        self._contents.update(contents)
        return outputs

    def _submit(self, session: Session, state: _State) -> None:
        call = state.call
        if state.phase is _Phase.IDENTIFYING:
            task = Task(call=call.position, action=Action.IDENTIFY)
        else:
            self._progress.started(call.name)
            state.phase = _Phase.RUNNING
            seed = compute_seed(state.key)
            task = Task(call=call.position, action=Action.RUN, seed=seed, given=self._given(call))
        self._in_flight.add(call.position)
        session.submit(call.position, msgspec.msgpack.encode(task))

    def _given(self, call: Call) -> list[GivenValue]:
        given: dict[tuple[int, int], GivenValue] = {}
        for node in call.nodes:
            position = node.call.position
            for output, stored in enumerate(self._states[position].outputs):
                if node.output is None or node.output == output:
                    content = self._contents[stored.digest] if stored.is_inline else None
                    given[(position, output)] = GivenValue(call=position, output=output, value=stored, content=content)
        return list(given.values())

    def _take(self, finished: Finished) -> None:
        """Record what a worker brought back."""
        state = self._states[finished.number]
        self._in_flight.discard(finished.number)
        if finished.outcome is None:
            self._fail(state, f"step {state.call.name!r} was lost: {finished.lost}")
            return
        outcome = msgspec.msgpack.decode(finished.outcome, type=Outcome)
        if outcome.error:
            self._fail(state, outcome.error, outcome=outcome)
        elif state.phase is _Phase.IDENTIFYING:
            state.identity = outcome.identity
            state.phase = _Phase.READY
            heapq.heappush(self._ready, state.call.position)
        else:
            self._take_outcome(state, outcome)

    def _take_outcome(self, state: _State, outcome: Outcome) -> None:
        assert state.parts is not None
        state.outputs = outcome.outputs
        for stored, content in zip(outcome.outputs, outcome.contents, strict=True):
            if content is not None:
                self._contents[stored.digest] = content
        result = StepResult(
            name=state.call.name,
            status=StepStatus.RAN,
            reason=state.reason,
            duration=outcome.duration,
            attempts=outcome.attempts,
        )
        self._ledger.windows[state.call.name] = outcome.window
        parts = self._keys.gather_after(state.call, state.parts, self.values_of)
        keys = list(dict.fromkeys([state.key, compute_key(parts)]))
        self._ledger.record_ran(state.call, result, keys, parts, outcome)
        self._finish(state, result)
        self._settle_twins(state)

    def _take_kept(self, state: _State, kept: KeptResult, outputs: list[StoredValue], reason: str) -> None:
        assert state.parts is not None
        state.outputs = outputs
        result = StepResult(name=state.call.name, status=StepStatus.CACHED, reason=reason)
        self._ledger.record_cached(state.call, result, kept, state.parts)
        self._finish(state, result)

    def _settle_twins(self, state: _State) -> None:
        """Give the calls that asked for the very same work its result, or let them fail in their turn."""
        for position in self._twins.pop(state.call.position, []):
            twin = self._states[position]
            if state.has_value:
                kept = self._ledger.find_result(state.key)
                assert kept is not None
                self._take_kept(twin, kept, state.outputs, f"same work as step {state.call.name}")
            else:
                assert state.result is not None
                self._fail(twin, state.result.error, reason=f"same work as step {state.call.name}")

    def _fail(self, state: _State, error: str, *, reason: str = "", outcome: Outcome | None = None) -> None:
        result = StepResult(
            name=state.call.name,
            status=StepStatus.FAILED,
            reason=reason or state.reason,
            error=error,
            traceback=outcome.traceback if outcome else "",
            attempts=outcome.attempts if outcome else 1,
            duration=outcome.duration if outcome else timedelta(),
        )
        self._ledger.record_failed(state.call, result, state.key or None, state.parts, outcome)
        self._finish(state, result)
        self._skip_dependents(state)
        self._settle_twins(state)

    def _skip_dependents(self, failed: _State, *, how: str = "failed") -> None:
        for position in self._dependents.get(failed.call.position, []):
            state = self._states[position]
            if state.result is None:
                self._end_without_running(state, StepStatus.SKIPPED, f"it needs {failed.call.name}, which {how}")
                self._skip_dependents(state, how="was skipped")

    def _end_without_running(self, state: _State, status: StepStatus, reason: str) -> None:
        result = StepResult(name=state.call.name, status=status, reason=reason)
        self._ledger.record_failed(state.call, result)
        state.phase = _Phase.DONE
        state.result = result
        self._progress.finished(result)

    def _finish(self, state: _State, result: StepResult) -> None:
        state.phase = _Phase.DONE
        state.result = result
        self._progress.finished(result)
        if state.has_value:
            for position in self._dependents.get(state.call.position, []):
                waiting = self._states[position]
                waiting.missing -= 1
                if not waiting.missing and waiting.result is None:
                    heapq.heappush(self._ready, position)

    def _cancel(self) -> None:
        for state in self._states:
            if state.result is None:
                is_running = state.call.position in self._in_flight or state.phase is _Phase.RUNNING
                status = StepStatus.CANCELLED if is_running else StepStatus.SKIPPED
                self._end_without_running(state, status, "the run was cancelled")
