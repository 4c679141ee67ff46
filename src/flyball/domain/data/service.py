"""The one way to a project's data: snapshots, their rows, and how they fare against expectations."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from shutil import rmtree

import msgspec
import polars as pl

from flyball.core.clock import Clock
from flyball.core.durations import to_us
from flyball.core.errors import InvalidInputError, UnknownNameError
from flyball.core.hashing import digest_value
from flyball.domain.data import store
from flyball.domain.data.contents import (
    added_files,
    content_id,
    declaration_digest,
    read_content,
    store_content,
)
from flyball.domain.data.cuts import cut_snapshot, known_by
from flyball.domain.data.describing import Source
from flyball.domain.data.digests import FileDigests
from flyball.domain.data.opening import fingerprint, opened_source
from flyball.domain.data.reports import Report
from flyball.domain.data.rules import Rule, encode_rules, rule_name
from flyball.domain.data.samples import sample_rows
from flyball.domain.data.schemas import Schema, UnsupportedColumnError
from flyball.domain.data.snapshots import (
    Content,
    SchemaChangedError,
    Snapshot,
    SnapshotNotFoundError,
    Watch,
)
from flyball.domain.data.surroundings import Surroundings
from flyball.domain.data.table_checks import compile_table, rows_to_keep
from flyball.domain.data.table_rules import Fresh, References, RowsAtLeast, RowsAtMost
from flyball.domain.data.tables import Table
from flyball.domain.journal.service import Journal
from flyball.storage.blobs import LocalBlobStore
from flyball.storage.db import Database

STREAMS = "streams"
"""The folder beside the blobs in which tables that come from streams keep what they took."""
Reports = list[Report]  # in the class below, `list` is a method


class DataService:
    """Makes, reads and checks snapshots. Safe to share between threads.

    Args:
        db: Where snapshots and reports are described.
        journal: Told of both.
        clock: Tells when they were made.
        blobs: Keeps the rows' bytes.
        root: The project's folder, at which relative sources start.
        sample: Which share of every table's rows snapshots have.
    """

    def __init__(
        self,
        db: Database,
        journal: Journal,
        clock: Clock,
        blobs: LocalBlobStore,
        root: Path,
        *,
        sample: float = 1.0,
    ) -> None:
        self._db = db
        self._journal = journal
        self._clock = clock
        self._blobs = blobs
        self._root = root.resolve()
        self._digests = FileDigests(db, blobs)
        self._declared: dict[str, Table] = {}
        self._sample = sample
        self._kept = blobs.root.parent / STREAMS

    def snapshot(
        self,
        table: Table,
        *,
        as_of: datetime | None = None,
        actor: str = "system",
        cause: int | None = None,
        accept_schema_change: bool = False,
    ) -> Snapshot:
        """Return the snapshot of a table's present state, made if there is none yet.

        Args:
            table: The declaration.
            as_of: Rows that became known later (by ``known``, else ``time``) are left out; a table with neither
                column is taken whole.
            actor: Who or what asks.
            cause: The event that brought it about.
            accept_schema_change: Whether the source may have other columns than when it was last read.

        Raises:
            InvalidInputError: The source's rows cannot be used as declared; see `contents.store_content`.
            NotFoundError: There is no source.
            SchemaChangedError: The source has other columns than in the last snapshot.
            BackendError: A file is cut off or corrupt, or the disk is full.
        """
        name = table.required_name
        self.declare(table)
        declaration = declaration_digest(table, self._root, self._digests.digest)
        with opened_source(table, self._root, self._kept, self._digests.digest_all, self._blobs) as source:
            content, is_new = self._content(source, declaration, accept_schema_change=accept_schema_change)
        snapshot = cut_snapshot(content, table, self._blobs, as_of=as_of, share=self._sample, now=self._clock.now())
        with self._db.read() as tx:
            existing = store.find_snapshot(tx, snapshot.id, name)
        if existing is not None and not is_new:
            return existing
        data = {
            "snapshot": snapshot.id,
            "content": content.id,
            "rows": snapshot.rows,
            "bytes": snapshot.size_bytes,
            "files": len(snapshot.files),
            "as_of_us": None if snapshot.as_of is None else to_us(snapshot.as_of),
        }
        with self._db.begin() as tx:
            store.put_content(tx, content)
            existing = store.find_snapshot(tx, snapshot.id, name)
            if existing is not None:
                return existing
            event = self._journal.append(tx, "data.snapshot.created", f"table/{name}", data, actor=actor, cause=cause)
            store.put_snapshot(tx, snapshot, declaration, event.seq)
        return snapshot

    def watch(self, table: Table, *, actor: str = "system") -> Snapshot:
        """Return the snapshot of a table's present state; tell the journal if it is not what it last held.

        Each change brings one event ``data.table.grown``, whoever watches and whatever was killed meanwhile: it is
        written together with what the table holds by then.
        """
        name = table.required_name
        while True:
            seen = self.fingerprint(table)
            with self._db.read() as tx:
                last = store.find_watch(tx, name)
            snapshot = self.snapshot(table, actor=actor)
            held = Watch(
                table=name,
                fingerprint=seen,
                content_id=snapshot.digest,
                rows=snapshot.rows,
                files=len(snapshot.files),
            )
            if last == held or self._note_change(last, held, snapshot, actor):
                return snapshot

    def _note_change(self, last: Watch | None, held: Watch, snapshot: Snapshot, actor: str) -> bool:
        """Keep what a table holds and tell of the change; not where another process has kept something meanwhile.

        What was looked at before that may be older than what it saw: it would be told as a change back.
        """
        with self._db.begin() as tx:
            if store.find_watch(tx, held.table) != last:
                return False
            store.put_watch(tx, held)
            if last is not None and last.content_id != held.content_id:
                data = {
                    "snapshot": snapshot.id,
                    "rows": held.rows,
                    "rows_added": held.rows - last.rows,
                    "files_added": held.files - last.files,
                }
                self._journal.append(tx, "data.table.grown", f"table/{held.table}", data, actor=actor)
        return True

    def declare(self, table: Table) -> None:
        """Make a declaration known, as `snapshot` does: what a sample is chosen by, and what its keys point to."""
        self._declared.update({table.required_name: table, **table.referenced})

    def get(self, snapshot_id: str) -> Snapshot:
        """Return a snapshot by its id.

        Raises:
            SnapshotNotFoundError: There is none.
        """
        with self._db.read() as tx:
            found = store.find_snapshot(tx, snapshot_id)
        if found is None:
            raise SnapshotNotFoundError(snapshot_id)
        return found

    def list(self, table: Table | str | None = None) -> list[Snapshot]:
        """Return the snapshots of a table, or of all, in the order in which they were made."""
        name = table.required_name if isinstance(table, Table) else table
        with self._db.read() as tx:
            return store.list_snapshots(tx, name)

    def read(self, snapshot_id: str, *, without_quarantined: Sequence[Rule] = ()) -> pl.LazyFrame:
        """Return a snapshot's rows in stored order, the same whenever it is called; instants are UTC microseconds.

        Args:
            snapshot_id: The snapshot.
            without_quarantined: Expectations, such as ``table.expectations``; rows that break one of severity
                ``quarantine`` are left out.

        Raises:
            SnapshotNotFoundError: There is no such snapshot.
            NotFoundError: Its stored bytes are gone.
        """
        snapshot = self.get(snapshot_id)
        frame = self._read_whole(snapshot)
        if snapshot.sample < 1:
            frame = frame.filter(sample_rows(self._table(snapshot.table), snapshot.sample))
        if snapshot.as_of is not None:
            frame = frame.filter(known_by(self._instants(snapshot), snapshot.as_of))
        if any(rule.severity == "quarantine" for rule in without_quarantined):
            around = self._around(snapshot)
            frame = frame.filter(rows_to_keep(without_quarantined, frame.collect_schema(), around))
        return frame

    def read_added(self, snapshot: Snapshot, before: Snapshot) -> pl.LazyFrame | None:
        """Return the rows of the files by which a table has grown; None where it has changed in another way."""
        with self._db.read() as tx:
            new, old = store.find_content(tx, snapshot.digest), store.find_content(tx, before.digest)
        if new is None or old is None or snapshot.sample < 1 or snapshot.as_of is not None or before.as_of is not None:
            return None
        files = added_files(new, old)
        return None if files is None else read_content(msgspec.structs.replace(new, files=files), self._blobs)

    def check(
        self, snapshot: Snapshot, expectations: Sequence[Rule], *, actor: str = "system", cause: int | None = None
    ) -> Report:
        """Check a snapshot and keep the report; the same check of the same snapshot is made once.

        Call ``require_passed()`` on the report to stop where it did not pass.
        """
        rules = tuple(_scaled(rule, snapshot.sample) for rule in expectations)
        around = self._around(snapshot)
        seen = [[key.table, self._referenced(key.table, snapshot).id] for key in rules if isinstance(key, References)]
        if any(isinstance(rule, Fresh) for rule in rules):
            seen.append(["now", str(around.now)])
        report_id = digest_value([snapshot.id, snapshot.table, encode_rules(rules).decode(), *seen])
        with self._db.read() as tx:
            existing = store.find_report(tx, report_id)
        if existing is not None:
            return existing
        found = compile_table(rules, around)(self.read(snapshot.id))
        report = Report(
            rows=found.rows,
            results=found.results,
            quarantined=found.quarantined,
            snapshot_id=snapshot.id,
            table=snapshot.table,
            created_at=self._clock.now(),
        )
        data = {
            "snapshot": snapshot.id,
            "report": report_id,
            "passed": report.passed,
            "rows": report.rows,
            "quarantined": report.quarantined,
            "broken": [
                [broken.rule.column, rule_name(broken.rule), broken.severity, broken.violations]
                for broken in report.violations
            ],
        }
        with self._db.begin() as tx:
            existing = store.find_report(tx, report_id)
            if existing is not None:
                return existing
            event = self._journal.append(
                tx, "data.snapshot.checked", f"table/{snapshot.table}", data, actor=actor, cause=cause
            )
            store.put_report(tx, report_id, report, event.seq)
        return report

    def last_report(self, table: str, *, before: Report | None = None) -> Report | None:
        """Return the report of a table that was made last; the one before another with ``before``."""
        with self._db.read() as tx:
            return store.last_report(tx, table, before)

    def reports(self, snapshot_id: str) -> Reports:
        """Return the reports of a snapshot in the order in which they were made."""
        with self._db.read() as tx:
            return store.list_reports(tx, snapshot_id)

    def fingerprint(self, table: Table) -> str:
        """Return a token that changes when a table's source does; looks at folder entries only.

        Raises:
            SourceMissingError: There is no source.
        """
        return fingerprint(table, self._root, self._kept)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give a new folder beside the stored rows; it is gone afterwards."""
        folder = self._blobs.unfinished()
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            rmtree(folder, ignore_errors=True)

    def _around(self, snapshot: Snapshot) -> Surroundings:
        def values(table: str, column: str) -> pl.Series:
            # All of it, also where this home works with a sample.
            frame = self._read_whole(self._referenced(table, snapshot))
            if column not in (names := frame.collect_schema().names()):
                raise UnknownNameError(f"column of the table {table!r}, in which values must occur,", column, names)
            return frame.select(pl.col(column).drop_nulls().unique()).collect().to_series()

        def shares(reference: str, column: str) -> dict[str, float]:
            values = pl.col(column).cast(pl.String).drop_nulls().alias("value")
            counted = self.read(reference).select(values.value_counts(normalize=True)).unnest("value").collect()
            return dict(counted.iter_rows())

        return Surroundings(now=self._clock.now(), values=values, shares=shares)

    def _instants(self, snapshot: Snapshot) -> tuple[str, ...]:
        with self._db.read() as tx:
            content = store.find_content(tx, snapshot.digest)
        return content.instants if content else ()

    def _read_whole(self, snapshot: Snapshot) -> pl.LazyFrame:
        with self._db.read() as tx:
            content = store.find_content(tx, snapshot.digest)
        if content is None:
            raise SnapshotNotFoundError(snapshot.id)
        return read_content(content, self._blobs)

    def _table(self, name: str) -> Table:
        declared = self._declared.get(name)
        if declared is None:
            raise InvalidInputError(f"the table {name!r} is sampled by its key, which only its project can tell")
        return declared

    def _referenced(self, table: str, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot of another table that a foreign key is looked up in: what was known at the same time."""
        declared = self._declared.get(table)
        if declared is not None:
            return self.snapshot(declared, as_of=snapshot.as_of)
        with self._db.read() as tx:
            last = store.last_snapshot(tx, table)
        if last is None:
            raise SnapshotNotFoundError(table)
        return last[0]

    def _content(self, source: Source, declaration: str, *, accept_schema_change: bool) -> tuple[Content, bool]:
        id_ = content_id(source, declaration)
        with self._db.read() as tx:
            content = store.find_content(tx, id_)
            last = store.last_snapshot(tx, source.table.required_name)
        if content is not None and all(self._blobs.has(file.digest) for file in content.files):
            return content, False

        def check_schema(schema: Schema) -> None:
            # Where the declaration changed as well, other columns are what its author wants.
            if last is None or accept_schema_change or last[1] != declaration:
                return
            if changes := last[0].schema.changes_to(schema):
                raise SchemaChangedError(source.table.required_name, changes)

        before = None
        if last is not None and last[1] == declaration:
            with self._db.read() as tx:
                before = store.find_content(tx, last[0].digest)
        try:
            return store_content(source, id_, self._blobs, check_schema, before), True
        except UnsupportedColumnError as error:
            hint = f"Leave it out in sql=, or write it as CAST({error.column} AS TEXT)." if source.table.sql else ""
            raise UnsupportedColumnError(error.column, error.dtype, of=source.table.label, hint=hint) from error


def _scaled(rule: Rule, sample: float) -> Rule:
    """Ask a sample for so many rows as its share of the table's."""
    if isinstance(rule, RowsAtLeast | RowsAtMost):
        return msgspec.structs.replace(rule, rows=int(rule.rows * sample))
    return rule
