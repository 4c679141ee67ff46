"""Records a run as it goes: one commit for each step that comes to its end."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from flyball.core.clock import Clock
from flyball.core.durations import from_us
from flyball.domain.pipelines import store
from flyball.domain.pipelines.engine import Outcome
from flyball.domain.pipelines.graph import Call, Graph
from flyball.domain.pipelines.keys import KeyParts, LastTime, compute_seed
from flyball.domain.pipelines.results import StepResult, StepStatus, StoredValue
from flyball.domain.pipelines.store import KeptResult, Note
from flyball.domain.tracking.runs import Artifact, MetricPoint
from flyball.domain.tracking.service import TrackingService
from flyball.storage.db import Database, Transaction


class Ledger:
    """What is known of earlier runs, and what becomes known in this one.

    Args:
        run_id: The run.
        graph: Its graph.

    Attributes:
        last_times: How each step went in the runs before.
        windows: When each step last really ran, also in this run.
        notes: What operations noted in this run, by kind.
    """

    def __init__(self, db: Database, tracking: TrackingService, clock: Clock, run_id: str, graph: Graph) -> None:
        self._db = db
        self._tracking = tracking
        self._clock = clock
        self._pipeline = graph.pipeline
        self._uses = Counter(call.base_name for call in graph.calls)
        self.run_id = run_id
        self.notes: dict[str, list[Any]] = {}
        with db.read() as tx:
            self.last_times = store.last_times(tx, graph.pipeline)
        self.windows = {name: last.window for name, last in self.last_times.items() if last.window is not None}

    def find_result(self, key: str) -> KeptResult | None:
        """Return what an earlier run kept under a key."""
        with self._db.read() as tx:
            return store.find_result(tx, key)

    def find_contents(self, digests: list[str]) -> dict[str, bytes]:
        """Return the bytes of values that lie in the database, as far as they are there."""
        with self._db.read() as tx:
            found = {digest: store.find_value(tx, digest) for digest in digests}
        return {digest: content for digest, content in found.items() if content is not None}

    def confirm_outputs(self, key: str, outputs: list[StoredValue]) -> None:
        """Keep that a result's blobs were checked after the machine started anew."""
        with self._db.begin() as tx:
            store.set_outputs(tx, key, outputs)

    def record_ran(
        self, call: Call, result: StepResult, keys: Sequence[str], parts: KeyParts, outcome: Outcome
    ) -> None:
        """Record a step that ran and what it returned.

        Args:
            call: The step.
            result: What came of it.
            keys: The key it ran under; then, where it differs, the one under which it is looked for from now on.
            parts: Of the last of ``keys``.
            outcome: What the worker brought back.
        """
        kept = KeptResult(
            key=keys[0],
            step=call.name,
            run_id=self.run_id,
            outputs=outcome.outputs,
            notes=outcome.notes,
            seed=compute_seed(keys[0]),
            duration=result.duration,
            created_at=self._clock.now(),
        )
        contents = {
            stored.digest: content
            for stored, content in zip(outcome.outputs, outcome.contents, strict=True)
            if content is not None
        }
        with self._db.begin() as tx:
            store.put_values(tx, contents)
            for key in keys:
                store.put_result(tx, msgspec.structs.replace(kept, key=key))
            self._put_step(tx, call, result, keys[0], parts)
            self._put_points(tx, call, outcome)
            self._put_notes(tx, call, outcome.notes)

    def record_cached(self, call: Call, result: StepResult, kept: KeptResult, parts: KeyParts) -> None:
        """Record a step whose result was taken from an earlier run; what it logged then holds for this run too."""
        with self._db.begin() as tx:
            self._put_step(tx, call, result, kept.key, parts)
            if kept.run_id != self.run_id or kept.step != call.name:
                self._tracking.copy_points(kept.run_id, kept.step, self.run_id, call.name, tx=tx)
            self._put_notes(tx, call, kept.notes)

    def record_failed(
        self,
        call: Call,
        result: StepResult,
        key: str | None = None,
        parts: KeyParts | None = None,
        outcome: Outcome | None = None,
    ) -> None:
        """Record a step that failed, was skipped or cancelled, with what it had logged."""
        with self._db.begin() as tx:
            self._put_step(tx, call, result, key, parts)
            if outcome is not None:
                self._put_points(tx, call, outcome)
                self._put_notes(tx, call, outcome.notes)

    def _put_step(
        self,
        tx: Transaction,
        call: Call,
        result: StepResult,
        key: str | None,
        parts: KeyParts | None,
    ) -> None:
        seed = compute_seed(key) if key else None
        store.put_step(tx, self.run_id, call.position, result, key=key, seed=seed)
        if parts is not None:
            status = StepStatus.RAN if result.status is StepStatus.CACHED else result.status
            window = self.windows.get(call.name)
            last = LastTime(run_id=self.run_id, status=status.value, parts=parts, window=window)
            store.put_last_time(tx, self._pipeline, call.name, last)

    def _put_points(self, tx: Transaction, call: Call, outcome: Outcome) -> None:
        if outcome.points:
            points = [
                MetricPoint(
                    name=self._metric_name(call, point.name),
                    value=point.value,
                    step=point.step,
                    source=call.name,
                    logged_at=from_us(point.logged_at_us),
                )
                for point in outcome.points
            ]
            self._tracking.log_metrics(self.run_id, points, tx=tx)

    def _put_notes(self, tx: Transaction, call: Call, notes: list[Note]) -> None:
        for note in notes:
            self._put_note(tx, call, note)

    def _put_note(self, tx: Transaction, call: Call, note: Note) -> None:
        """Put a fact where it belongs: metrics, artifacts and tags to their own; what was read or made is linked."""
        kind, value, run_id = note.kind, note.value, self.run_id
        if kind == "metric":
            figures = {self._metric_name(call, name): float(figure) for name, figure in value.items()}
            self._tracking.log_metrics(run_id, figures, source=call.name, tx=tx)
            return
        if kind == "artifact":
            self._tracking.log_kept_artifact(run_id, msgspec.convert(value, Artifact), tx=tx)
            return
        if kind == "tag":
            self._tracking.set_tags(run_id, {value["name"]: value["value"]}, tx=tx)
            return
        if kind == "snapshot":
            self._tracking.log_input(run_id, kind, _reference(value, kind), tx=tx)
        elif kind == "version":
            self._tracking.log_output(run_id, kind, _reference(value, kind), tx=tx)
        self._tracking.log_note(run_id, kind, value, source=call.name, tx=tx)
        self.notes.setdefault(kind, []).append(value)

    def _metric_name(self, call: Call, name: str) -> str:
        """Return a metric's own name, or ``STEP.NAME`` where the same step is used more than once."""
        return name if self._uses[call.base_name] == 1 else f"{call.name}.{name}"


def _reference(value: Any, kind: str) -> str:
    return str(value[kind]) if isinstance(value, Mapping) else str(value)
