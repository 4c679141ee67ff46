"""Scores whole tables: part by part in bounded memory, only what is new, taken up where a killed run stopped."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from flyball.core.clock import Clock, monotonic_s
from flyball.core.errors import InvalidInputError
from flyball.core.files import holding_lock
from flyball.core.hashing import digest_bytes, shorten
from flyball.core.ids import IdSource
from flyball.domain.data.service import DataService
from flyball.domain.data.snapshots import Snapshot
from flyball.domain.data.tables import Table
from flyball.domain.journal.service import Journal
from flyball.domain.serving import score_store as store
from flyball.domain.serving.loaded import LoadedVersion
from flyball.domain.serving.row_scoring import NODE, RowScorer
from flyball.domain.serving.score_jobs import (
    JobStatus,
    Part,
    ScoreJob,
    cut_parts,
    find_new_rows,
    number_predictions,
)
from flyball.domain.serving.score_requests import (
    OutputTakenError,
    ScoreRequest,
    ScoreResult,
    check_output,
    check_same,
    make_result,
)
from flyball.domain.serving.score_store import PartResult
from flyball.domain.serving.table_requests import TableRequests, Verdict
from flyball.domain.serving.table_scoring import TableScorer, rejects_frame
from flyball.storage.db import Database
from flyball.storage.tables.outputs import open_output

OpenScorer = Callable[[LoadedVersion, TableRequests, ScoreJob], TableScorer | RowScorer]
"""Makes what scores a job's rows: by its version, from the table's rows as requests."""
Listener = Callable[[int, int], None]
"""Told how many rows are done, of how many."""
_OURS = ("prediction_id", "model_version", "prediction", "scores", "scored_at", "status", "reasons")
_NUMBER = "__number"


class TableScoreService:
    """Scores tables for one home.

    Every row of one run has one version. A run that was killed is finished by the version with which it began, on
    the rows that the table had then; what has come since is left to the next run.

    Args:
        db: Where jobs are kept.
        journal: Told when one begins and ends.
        clock: The present.
        ids: Names jobs.
        data: Reads tables.
        locks: The folder of locks: one run at a time for a folder.
        load: Brings a version into memory, with its features online up to now.
        open_scorer: Makes what scores.
    """

    def __init__(
        self,
        db: Database,
        journal: Journal,
        clock: Clock,
        ids: IdSource,
        data: DataService,
        locks: Path,
        load: Callable[[str], LoadedVersion],
        open_scorer: OpenScorer,
    ) -> None:
        self._db = db
        self._journal = journal
        self._clock = clock
        self._ids = ids
        self._data = data
        self._locks = locks
        self._load = load
        self._open_scorer = open_scorer

    def score(self, request: ScoreRequest, listener: Listener | None = None) -> ScoreResult:
        """Score the rows of a table that are new since the last time, or what a killed run had left.

        Raises:
            OutputTakenError: The folder belongs to something else.
            ScoreUnfinishedError: A stopped run waits to be finished, and other things are asked for.
            TableUnfitError: The table lacks columns, or has other types.
            TableRewrittenError: What is new cannot be told.
            ConflictError: Another process scores into the same folder.
            DiskFullError: No space is left; what was complete is kept.
        """
        started_s = monotonic_s()
        with self._holding(request.out):
            job, taken_up = self._open(request)
            if job is None:
                return self._nothing_new(request, monotonic_s() - started_s)
            self._run(job, request, listener or (lambda done, of: None))
            parts = self._finish(job)
        note = ""
        if taken_up and job.version != request.version:
            note = (
                f"a run that began with {job.version} was brought to its end; {request.version} scores what is new next"
            )
        return make_result(job, parts, taken_up=taken_up, duration_s=monotonic_s() - started_s, note=note)

    def find_job_of(self, prediction_id: str) -> ScoreJob | None:
        """Return the scoring that gave a prediction its id, or None."""
        with self._db.read() as tx:
            return store.find_job_of(tx, prediction_id)

    @contextmanager
    def _holding(self, out: Path) -> Iterator[None]:
        lock = self._locks / f"{shorten(digest_bytes(str(out).encode()))}.lock"
        with holding_lock(
            lock, held_message=f"another process scores into {str(out)!r}", hint="Wait for its end, or name another."
        ):
            yield

    def _open(self, request: ScoreRequest) -> tuple[ScoreJob | None, bool]:
        out = str(request.out)
        with self._db.read() as tx:
            last, complete = store.find_last_job(tx, out), store.find_last_complete(tx, out)
        check_output(request, last)
        is_unfinished = last is not None and last.status is JobStatus.RUNNING
        if last is not None and is_unfinished and not request.all_rows:
            check_same(request, last)
            return last, True
        before = None if request.all_rows else complete
        if before is not None and not request.out.exists():
            raise OutputTakenError(out, "the predictions that were written there are gone; --all scores all rows again")
        if before is not None and request.keep is not None and request.keep != before.keep:
            raise InvalidInputError(
                f"{before.out!r} keeps the columns {', '.join(before.keep)}", hint="Change them with --all."
            )
        snapshot = self._data.snapshot(request.table, actor="user")
        ranges, known_after = self._find_rows(request, snapshot, before)
        if not ranges:
            return None, False
        job = self._describe(request, snapshot, ranges, known_after, before, last)
        # A table that does not fit is refused before anything is kept.
        TableRequests(self._load(job.version), _columns(self._data, snapshot), job.table, request.on_violation)
        self._begin(job, last if is_unfinished else None)
        return job, False

    def _find_rows(
        self, request: ScoreRequest, snapshot: Snapshot, before: ScoreJob | None
    ) -> tuple[list[Part], datetime | None]:
        if before is None:
            return [Part(0, snapshot.rows)], None
        columns = [name for name in self._needed(request, before) if name in snapshot.schema]
        return find_new_rows(
            self._data, self._data.get(before.snapshot), snapshot, columns, request.table.known, before.out
        )

    def _needed(self, request: ScoreRequest, before: ScoreJob) -> list[str]:
        fields = self._load(request.version).request.schema.names
        return list(dict.fromkeys([*before.keep, *fields]))

    def _describe(
        self,
        request: ScoreRequest,
        snapshot: Snapshot,
        ranges: Sequence[Part],
        known_after: datetime | None,
        before: ScoreJob | None,
        last: ScoreJob | None,
    ) -> ScoreJob:
        keep = request.keep if request.keep is not None else before.keep if before else _identifying(request.table)
        keep = keep or tuple(snapshot.schema.names)
        if missing := [name for name in keep if name not in snapshot.schema]:
            raise InvalidInputError(f"the table {snapshot.table!r} has no column {missing[0]!r} to keep")
        ours = (*_OURS, NODE) if request.by_graph else _OURS
        if taken := [name for name in keep if name in ours]:
            raise InvalidInputError(
                f"the column {taken[0]!r} of {snapshot.table!r} cannot stand beside the predictions, which have one so",
                hint="Name the columns to keep with --keep.",
            )
        return ScoreJob(
            id=self._ids.new(),
            endpoint=request.endpoint,
            table=snapshot.table,
            snapshot=snapshot.id,
            version=request.version,
            out=str(request.out),
            format=request.format,
            keep=keep,
            parts=cut_parts(ranges, request.part_rows),
            known_after=known_after,
            at_row_time=request.at_row_time,
            by_graph=request.by_graph,
            replaces=request.all_rows and last is not None,
            started_at=self._clock.now(),
        )

    def _begin(self, job: ScoreJob, stopped: ScoreJob | None) -> None:
        with self._db.begin() as tx:
            if stopped is not None:
                store.put_job(tx, msgspec.structs.replace(stopped, status=JobStatus.REPLACED))
            store.put_job(tx, job)
            data = _describe(job) | {"rows": job.rows}
            self._journal.append(tx, "serving.score.started", f"endpoint/{job.endpoint}", data, actor="user")

    def _run(self, job: ScoreJob, request: ScoreRequest, listener: Listener) -> None:
        with self._db.read() as tx:
            done = {part.number for part in store.list_parts(tx, job.id)}
        left = [number for number in range(len(job.parts)) if number not in done]
        if not left:
            return
        loaded = self._load(job.version)
        frame = self._data.read(job.snapshot)
        requests = TableRequests(loaded, frame.collect_schema(), job.table, request.on_violation)
        columns = list(dict.fromkeys([*job.keep, *requests.columns]))
        with self._open_scorer(loaded, requests, job) as scorer:
            rows_done = sum(job.parts[number].rows for number in done)
            for number in left:
                part = job.parts[number]
                rows = _read_part(frame, part, columns, request.table.known, job.known_after)
                self._score_part(job, number, rows, scorer, request.sensitive)
                rows_done += part.rows
                listener(rows_done, job.rows)

    def _score_part(
        self, job: ScoreJob, number: int, rows: pl.DataFrame, scorer: TableScorer | RowScorer, sensitive: frozenset[str]
    ) -> None:
        now = self._clock.now()
        scores = scorer.score(rows.drop(_NUMBER), now)
        stamps = [
            number_predictions(job.id_prefix, rows[_NUMBER]),
            pl.repeat(job.version, rows.height, dtype=pl.String, eager=True).alias("model_version"),
        ]
        stamped = rows.with_columns(stamps).drop(_NUMBER)
        kept = stamped.select(*job.keep, "prediction_id", "model_version")
        answered = (kept if scores.answered is None else kept[scores.answered]).with_columns(
            scores.predictions.get_columns()
        )
        if answered.height:
            at = pl.lit(now).dt.cast_time_unit("us").alias("scored_at")
            output = open_output(job.format, Path(job.out), job.id, replaces=job.replaces)
            output.write(number, answered.with_columns(at))
        if scores.rejected:
            rejects = open_output("parquet", job.rejects, job.id, replaces=job.replaces)
            rejects.write(
                number,
                rejects_frame(stamped.drop(sensitive.difference(job.keep), strict=False), scores.rejected, sensitive),
            )
        result = PartResult(number, answered.height, len(scores.rejected), _count_reasons(scores.rejected))
        with self._db.begin() as tx:
            store.put_part(tx, job.id, result)

    def _finish(self, job: ScoreJob) -> list[PartResult]:
        open_output(job.format, Path(job.out), job.id, replaces=job.replaces).finish()
        if job.replaces and (job.rejects.exists() or job.rejects.with_name(f".{job.rejects.name}.unfinished").exists()):
            open_output("parquet", job.rejects, job.id, replaces=True).finish()
        with self._db.begin() as tx:
            parts = store.list_parts(tx, job.id)
            ended = msgspec.structs.replace(job, status=JobStatus.COMPLETE, ended_at=self._clock.now())
            store.put_job(tx, ended)
            data = _describe(job) | {
                "answered": sum(part.answered for part in parts),
                "rejected": sum(part.rejected for part in parts),
            }
            self._journal.append(tx, "serving.score.finished", f"endpoint/{job.endpoint}", data, actor="user")
        return parts

    def _nothing_new(self, request: ScoreRequest, duration_s: float) -> ScoreResult:
        with self._db.read() as tx:
            last = store.find_last_complete(tx, str(request.out))
        assert last is not None  # only then is there nothing new
        emptied = msgspec.structs.replace(last, parts=())
        return make_result(
            emptied, [], taken_up=False, duration_s=duration_s, note="nothing is new since the last time"
        )


def _describe(job: ScoreJob) -> dict[str, Any]:
    return {
        "job": job.id,
        "table": job.table,
        "snapshot": job.snapshot,
        "version": job.version,
        "out": job.out,
    }


def _read_part(
    frame: pl.LazyFrame, part: Part, columns: Sequence[str], known: str | None, known_after: datetime | None
) -> pl.DataFrame:
    read = [*columns, *([known] if known is not None and known_after is not None and known not in columns else [])]
    rows = frame.select(read).slice(part.offset, part.rows).collect().with_row_index(_NUMBER, offset=part.offset)
    rows = rows.with_columns(pl.col(_NUMBER).cast(pl.Int64))
    if known is not None and known_after is not None:
        rows = rows.filter(pl.col(known) > known_after)
    return rows.select(*columns, _NUMBER)


def _columns(data: DataService, snapshot: Snapshot) -> pl.Schema:
    return data.read(snapshot.id).collect_schema()


def _identifying(table: Table) -> tuple[str, ...]:
    entity = table.entity.keys if table.entity is not None else ()
    return tuple(dict.fromkeys([*table.key, *entity, *([table.time] if table.time else [])]))


def _count_reasons(rejected: Sequence[Verdict]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for verdict in rejected:
        for reason in dict.fromkeys(f"{found.column}: {found.rule}".lstrip(": ") for found in verdict.violations):
            counts[reason] = counts.get(reason, 0) + 1
    return counts
