"""The one way into the pipelines."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from flyball.core.clock import Clock
from flyball.core.errors import NotFoundError
from flyball.domain.journal.service import Journal
from flyball.domain.pipelines import store
from flyball.domain.pipelines.certificates import params_text
from flyball.domain.pipelines.certifying import certify
from flyball.domain.pipelines.context import RunContext
from flyball.domain.pipelines.dependencies import KeyMaker
from flyball.domain.pipelines.engine import Engine
from flyball.domain.pipelines.fingerprints import LOADED_NS, FileDigests, clock_ns
from flyball.domain.pipelines.graph import Graph, build_graph
from flyball.domain.pipelines.ledger import Ledger
from flyball.domain.pipelines.materialisers import ValueStore, remove_unfinished
from flyball.domain.pipelines.results import NoProgress, Output, Progress, RunResult, StepResult, StepStatus
from flyball.domain.pipelines.scheduler import Scheduler
from flyball.domain.pipelines.steps import Pipeline, Step
from flyball.domain.pipelines.work import StepWorker
from flyball.domain.tracking.environment import EnvironmentProbe
from flyball.domain.tracking.runs import Run, RunStatus
from flyball.domain.tracking.service import TrackingService
from flyball.storage.blobs import LocalBlobStore
from flyball.storage.db import Database

_ABANDONED = "its process ended before the run did"


class PipelineService:
    """Runs pipelines: what has not changed is taken from earlier runs.

    Args:
        db: Where results and runs are kept.
        journal: Told of every run's start and end.
        clock: Tells when.
        tracking: Keeps what each run was given and measured.
        blobs: Where values lie.
        engine: Where steps run.
        services: What operations may ask for, by type; looked at when a run needs it, so it may be filled later.
        root: The project's folder.
        tables: Returns the files, folders and globs that the project's tables are read from, absolute; an
            unchanged run is only taken as it is while they hold what they held.
        loaded_ns: When the project's source files were read at the earliest, as file systems stamp it.
    """

    def __init__(
        self,
        db: Database,
        journal: Journal,
        clock: Clock,
        tracking: TrackingService,
        blobs: LocalBlobStore,
        engine: Engine,
        services: Mapping[type, Any],
        root: Path,
        *,
        tables: Callable[[], Iterable[str]] = tuple,
        loaded_ns: int = LOADED_NS,
    ) -> None:
        self._db = db
        self._journal = journal
        self._clock = clock
        self._tracking = tracking
        self._blobs = blobs
        self._engine = engine
        self._services = services
        self._root = root.resolve()
        self._tables = tables
        self._loaded_ns = loaded_ns

    def run(
        self,
        pipeline: Pipeline[..., Any],
        params: Mapping[str, Any] | None = None,
        *,
        cause: int | None = None,
        actor: str = "system",
        as_of: datetime | None = None,
        progress: Progress | None = None,
    ) -> RunResult:
        """Run a pipeline to its end, and record it.

        Every step that finishes is recorded with one commit, so that a later run takes it from there whatever
        happens to this one. A failed step fails the run; steps that do not need it still run. An interrupt (SIGINT,
        SIGTERM) cancels the run: workers are ended and nothing half-written stays.

        Args:
            pipeline: What to run.
            params: Parameters by ``STEP.NAME``, or ``NAME`` for the pipeline's own; text is read by the annotation.
            cause: The journal event that brings the run about.
            actor: Who or what asks.
            as_of: Nothing that became known later is used; now by default.
            progress: Is told how it goes.

        Returns:
            What it came to; a failed run is returned, not raised.

        Raises:
            InvalidInputError: The pipeline cannot be drawn, or a parameter is wrong; no run is recorded.
        """
        started_ns, seq = clock_ns(), self._journal.head()
        graph = build_graph(pipeline, params)
        self._tidy_up()
        run = self._start(graph, params or {}, cause, actor, as_of)
        files = self._known_files()
        ledger = Ledger(self._db, self._tracking, self._clock, run.id, graph)
        keys = KeyMaker(self._root, files, graph, ledger.windows)
        scheduler = Scheduler(graph, self._engine, ledger, keys, files, self._blobs, progress or NoProgress())
        probe = EnvironmentProbe(self._root)
        try:
            scheduler.run(
                StepWorker(graph, lambda: self._context(run), self._blobs, self._root, self._clock),
                before_start=self._db.close,
                while_working=lambda: self._tracking.set_facts(run.id, probe.facts(self._blobs)),
            )
        except BaseException as error:
            self._finish(run, RunStatus.FAILED, f"{type(error).__name__}: {error}", [])
            raise
        finally:
            probe.close()
        result = self._conclude(run, graph, scheduler, ledger)
        text = params_text(params or {})
        if result.status is RunStatus.SUCCEEDED and as_of is None and text is not None:
            if _made_something(graph, result.steps):
                seq = self._journal.head()
            self._certify(result, graph, scheduler, keys, files, text, seq=seq, started_ns=started_ns)
        with self._db.begin() as tx:
            store.put_stamps(tx, files.fresh.values())
        return result

    def load(self, result: RunResult, output: str | None = None) -> Any:
        """Return a value that a pipeline returned.

        Args:
            result: A run that succeeded.
            output: Which value, by its step's name; may be left out when there is only one.

        Raises:
            NotFoundError: The pipeline did not return it, or its bytes are gone.
        """
        if output is None and len(result.outputs) == 1:
            output = next(iter(result.outputs))
        if output not in result.outputs:
            known = ", ".join(result.outputs) or "nothing"
            raise NotFoundError(f"pipeline {result.pipeline!r} did not return {output!r}; it returned {known}")
        found = result.outputs[output]
        values = ValueStore(self._blobs, self._root, lambda path: FileDigests().digest(path))
        loaded = []
        for stored in found.values:
            content = None
            if stored.is_inline:
                with self._db.read() as tx:
                    content = store.find_value(tx, stored.digest)
                if content is None:
                    raise NotFoundError(f"the value of {output!r} is no longer stored", hint="Run the pipeline again.")
            loaded.append(values.get(stored, content))
        return tuple(loaded) if found.is_tuple else loaded[0]

    def list_steps(self, run_id: str) -> list[StepResult]:
        """Return the steps of a run in the order of the pipeline; none for an unknown run."""
        with self._db.read() as tx:
            return store.list_steps(tx, run_id)

    def _tidy_up(self) -> None:
        """Close the runs of processes that are gone, and remove what they were writing."""
        remove_unfinished(self._blobs)
        for run_id in self._tracking.list_abandoned():
            self._finish(self._tracking.get_run(run_id), RunStatus.FAILED, _ABANDONED, [])

    def _known_files(self) -> FileDigests:
        with self._db.read() as tx:
            return FileDigests(store.stamps(tx))

    def _start(
        self, graph: Graph, params: Mapping[str, Any], cause: int | None, actor: str, as_of: datetime | None
    ) -> Run:
        with self._db.begin() as tx:
            run = self._tracking.start_run(
                graph.pipeline, graph.parameters, cause=cause, actor=actor, as_of=as_of, tx=tx
            )
            data = {"pipeline": graph.pipeline, "params": sorted(params)}
            self._journal.append(tx, "pipelines.run.started", f"run/{run.id}", data, actor=actor, cause=cause)
        return run

    def _context(self, run: Run) -> RunContext:
        return RunContext(run.id, run.as_of or run.started_at, run.actor, self._services)

    def _conclude(self, run: Run, graph: Graph, scheduler: Scheduler, ledger: Ledger) -> RunResult:
        """Close the run and say what it came to."""
        steps = scheduler.results
        failed = [step for step in steps if step.status is StepStatus.FAILED]
        status = RunStatus.FAILED if failed else RunStatus.SUCCEEDED
        if scheduler.is_cancelled:
            status = RunStatus.CANCELLED
        error = f"step {failed[0].name}: {failed[0].error.partition(chr(10))[0]}" if failed else ""
        outputs = {}
        if status is RunStatus.SUCCEEDED:
            for label, node in graph.outputs.items():
                is_tuple = node.output is None and node.call.operation.outputs > 1
                outputs[label] = Output(values=tuple(scheduler.values_of(node)), is_tuple=is_tuple)
        finished = self._finish(run, status, error, [step.name for step in failed])
        return RunResult(
            run_id=run.id,
            pipeline=graph.pipeline,
            status=status,
            steps=steps,
            outputs=outputs,
            notes=ledger.notes,
            duration=(finished.finished_at or run.started_at) - run.started_at,
            error=error,
        )

    def _certify(
        self,
        result: RunResult,
        graph: Graph,
        scheduler: Scheduler,
        keys: KeyMaker,
        files: FileDigests,
        params: str,
        *,
        seq: int,
        started_ns: int,
    ) -> None:
        """Keep what must still hold for the run to be taken as it is; forget what held before if that is not known."""
        certificate = certify(
            result,
            root=self._root,
            graph=graph,
            files=files,
            paths=keys.paths,
            absent=keys.still_absent(),
            tables=self._tables(),
            values=scheduler.all_values,
            seq=seq,
            started_ns=started_ns,
            loaded_ns=self._loaded_ns,
        )
        with self._db.begin() as tx:
            if certificate is None:
                store.drop_certificate(tx, graph.pipeline, params)
            else:
                store.put_certificate(tx, graph.pipeline, params, certificate.encode())

    def _finish(self, run: Run, status: RunStatus, error: str, failed: Sequence[str]) -> Run:
        with self._db.begin() as tx:
            finished = self._tracking.finish_run(run.id, status, error, tx=tx)
            data = {"pipeline": run.pipeline, "status": status.value, "failed": sorted(failed)}
            self._journal.append(tx, "pipelines.run.finished", f"run/{run.id}", data, actor=run.actor, cause=run.cause)
        return finished


def _made_something(graph: Graph, steps: list[StepResult]) -> bool:
    """Tell whether a built-in operation ran, whose own events then came during the run."""
    return any(
        step.status is StepStatus.RAN and not isinstance(call.operation, Step)
        for call, step in zip(graph.calls, steps, strict=True)
    )
