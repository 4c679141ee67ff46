"""The one way into the runs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from flyball.core.clock import Clock
from flyball.core.encoding import to_json
from flyball.core.errors import ConflictError
from flyball.core.ids import IdSource
from flyball.domain.journal.service import Journal
from flyball.domain.tracking import store
from flyball.domain.tracking.params import param_text
from flyball.domain.tracking.processes import is_alive, this_process
from flyball.domain.tracking.receiving import receive
from flyball.domain.tracking.records import Batch
from flyball.domain.tracking.runs import (
    Artifact,
    Link,
    MetricPoint,
    Run,
    RunClosedError,
    RunDetail,
    RunFacts,
    RunNotFoundError,
    RunStatus,
    as_points,
)
from flyball.storage.blobs import BlobStore
from flyball.storage.db import Database, Transaction


class TrackingService:
    """Opens runs, logs to them and closes them once.

    Every method that writes takes ``tx``: an open write transaction to join, so that a room above can record a
    finished step with one commit.

    Args:
        db: Where runs are kept.
        journal: Unused for points and parameters, which are rows rather than events.
        clock: Tells start, end and the time of points.
        blobs: Where artifacts' bytes are kept.
    """

    def __init__(self, db: Database, journal: Journal, clock: Clock, blobs: BlobStore) -> None:
        self._db = db
        self._journal = journal
        self._clock = clock
        self._blobs = blobs
        self._ids = IdSource(clock)

    def start_run(
        self,
        pipeline: str,
        params: Mapping[str, Any] | None = None,
        *,
        cause: int | None = None,
        actor: str = "system",
        as_of: datetime | None = None,
        tx: Transaction | None = None,
    ) -> Run:
        """Open a run."""
        run = Run(
            id=self._ids.new(),
            pipeline=pipeline,
            status=RunStatus.RUNNING,
            actor=actor,
            cause=cause,
            as_of=as_of,
            started_at=self._clock.now(),
        )
        with self._db.joining(tx) as tx:
            store.insert_run(tx, run, this_process())
            store.put_params(tx, run.id, _texts(params or {}))
        return run

    def log_params(self, run_id: str, params: Mapping[str, Any], *, tx: Transaction | None = None) -> None:
        """Keep parameters by name; values are JSON or shown as text.

        Raises:
            RunNotFoundError: There is no such run.
            RunClosedError: The run has ended.
        """
        with self._open(run_id, tx) as tx:
            store.put_params(tx, run_id, _texts(params))

    def log_metrics(
        self,
        run_id: str,
        metrics: Mapping[str, float] | Sequence[MetricPoint],
        *,
        step: int = 0,
        source: str = "",
        tx: Transaction | None = None,
    ) -> None:
        """Add metric points, all or none; the same point twice is kept once.

        Raises:
            RunNotFoundError: There is no such run.
            RunClosedError: The run has ended.
        """
        points = as_points(metrics, step=step, source=source) if isinstance(metrics, Mapping) else metrics
        with self._open(run_id, tx) as tx:
            store.put_points(tx, run_id, points, self._clock.now())

    def log_artifact(self, run_id: str, name: str, content: bytes | Path, *, tx: Transaction | None = None) -> Artifact:
        """Keep a named file of a run.

        Raises:
            RunNotFoundError: There is no such run.
            RunClosedError: The run has ended.
        """
        digest = self._blobs.put_file(content) if isinstance(content, Path) else self._blobs.put_bytes(content)
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        artifact = Artifact(name=name, digest=digest, size_bytes=size)
        self.log_kept_artifact(run_id, artifact, tx=tx)
        return artifact

    def log_kept_artifact(self, run_id: str, artifact: Artifact, *, tx: Transaction | None = None) -> None:
        """Name a file of a run whose bytes are among the blobs already."""
        with self._open(run_id, tx) as tx:
            store.put_artifact(tx, run_id, artifact)

    def log_input(self, run_id: str, kind: str, ref: str, *, tx: Transaction | None = None) -> None:
        """Keep what a run read, such as ``("snapshot", id)``."""
        with self._open(run_id, tx) as tx:
            store.put_link(tx, run_id, "in", Link(kind=kind, ref=ref))

    def log_output(self, run_id: str, kind: str, ref: str, *, tx: Transaction | None = None) -> None:
        """Keep what a run made, such as ``("version", "credit-risk/3")``."""
        with self._open(run_id, tx) as tx:
            store.put_link(tx, run_id, "out", Link(kind=kind, ref=ref))

    def log_note(self, run_id: str, kind: str, value: Any, *, source: str = "", tx: Transaction | None = None) -> None:
        """Keep any other fact that a step noted; ``value`` must be JSON."""
        with self._open(run_id, tx) as tx:
            store.put_note(tx, run_id, source, kind, to_json(value).decode())

    def set_tags(self, run_id: str, tags: Mapping[str, str], *, tx: Transaction | None = None) -> None:
        """Keep tags; unlike all else, a run that has ended can still be tagged.

        Raises:
            RunNotFoundError: There is no such run.
        """
        with self._db.joining(tx) as tx:
            if store.run_status(tx, run_id) is None:
                raise RunNotFoundError(run_id)
            store.put_tags(tx, run_id, tags)

    def set_facts(self, run_id: str, facts: RunFacts, *, tx: Transaction | None = None) -> None:
        """Keep where and with what a run is made."""
        with self._open(run_id, tx) as tx:
            store.set_facts(tx, run_id, facts)

    def finish_run(self, run_id: str, status: RunStatus, error: str = "", *, tx: Transaction | None = None) -> Run:
        """Close a run, once.

        Raises:
            RunNotFoundError: There is no such run.
            RunClosedError: The run has ended already.
            ConflictError: ``status`` is not an end.
        """
        if status is RunStatus.RUNNING:
            raise ConflictError(f"run {run_id!r} cannot end as running")
        with self._open(run_id, tx) as tx:
            store.close_run(tx, run_id, status, error, self._clock.now())
            run = store.find_run(tx, run_id)
        if run is None:  # pragma: no cover - it was open a moment ago
            raise RunNotFoundError(run_id)
        return run

    def copy_points(
        self, from_run: str, from_source: str, run_id: str, source: str, *, tx: Transaction | None = None
    ) -> None:
        """Log to a run the points that a step of another run logged: its result was taken, so they hold here too."""
        with self._open(run_id, tx) as tx:
            store.copy_points(tx, from_run, from_source, run_id, source)

    def receive(self, batch: Batch) -> int:
        """Keep records that a program spooled, each once and in order, however often they are sent.

        Returns:
            How many of the run's records are kept now. Fewer than the number of the first of these say that they were
            not kept, since records before them have not come yet.

        Raises:
            NotFoundError: A file's bytes have not come yet, or the run has not.
            RunClosedError: The run has ended.
        """
        with self._db.begin() as tx:
            kept = store.received(tx, batch.run_id)
            if batch.first > kept:
                return kept
            new = batch.records[kept - batch.first :]
            if new:
                receive(tx, self._blobs, batch.run_id, new)
                kept += len(new)
                store.set_received(tx, batch.run_id, kept)
        return kept

    def list_abandoned(self) -> list[str]:
        """Return the open runs whose process is gone, such as after ``kill -9`` or a power cut."""
        with self._db.read() as tx:
            running = store.running_processes(tx)
        return [run_id for run_id, process in running.items() if process and not is_alive(process)]

    def get_run(self, run_id: str) -> Run:
        """Return one run.

        Raises:
            RunNotFoundError: There is no such run.
        """
        with self._db.read() as tx:
            run = store.find_run(tx, run_id)
        if run is None:
            raise RunNotFoundError(run_id)
        return run

    def list_runs(
        self,
        *,
        pipeline: str | None = None,
        status: RunStatus | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> list[Run]:
        """Return runs, the newest first; ``before`` is the last id of the page before."""
        with self._db.read() as tx:
            return store.list_runs(tx, pipeline=pipeline, status=status, before=before, limit=limit)

    def describe_run(self, run_id: str) -> RunDetail:
        """Return a run with everything logged to it.

        Raises:
            RunNotFoundError: There is no such run.
        """
        with self._db.read() as tx:
            run = store.find_run(tx, run_id)
            if run is None:
                raise RunNotFoundError(run_id)
            return RunDetail(
                run=run,
                params=store.params(tx, run_id),
                metrics=store.latest(tx, run_id),
                artifacts=store.artifacts(tx, run_id),
                inputs=store.links(tx, run_id, "in"),
                outputs=store.links(tx, run_id, "out"),
                tags=store.tags(tx, run_id),
                notes=store.notes(tx, run_id),
            )

    def list_points(self, run_id: str, name: str) -> list[MetricPoint]:
        """Return one metric's points in the order of their steps."""
        with self._db.read() as tx:
            return store.points(tx, run_id, name)

    def list_runs_that_read(self, kind: str, ref: str) -> list[str]:
        """Return the ids of the runs that read something, the oldest first."""
        with self._db.read() as tx:
            return store.runs_of_link(tx, "in", Link(kind=kind, ref=ref))

    def list_runs_that_made(self, kind: str, ref: str) -> list[str]:
        """Return the ids of the runs that made something, the oldest first."""
        with self._db.read() as tx:
            return store.runs_of_link(tx, "out", Link(kind=kind, ref=ref))

    @contextmanager
    def _open(self, run_id: str, tx: Transaction | None) -> Iterator[Transaction]:
        with self._db.joining(tx) as joined:
            status = store.run_status(joined, run_id)
            if status is None:
                raise RunNotFoundError(run_id)
            if status is not RunStatus.RUNNING:
                raise RunClosedError(run_id, status)
            yield joined


def _texts(params: Mapping[str, Any]) -> dict[str, str]:
    return {name: param_text(value) for name, value in params.items()}
