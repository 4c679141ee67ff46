"""Looking at a project's tables: which rows are meant, what they hold, what changed, what could be expected."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec
import polars as pl

from flyball.core.durations import format_instant
from flyball.core.errors import InvalidInputError, NotFoundError
from flyball.core.files import write_bytes
from flyball.domain.data.diffs import TableDiff, diff_frames, diff_reports
from flyball.domain.data.inferring import Proposal, propose_expectations
from flyball.domain.data.pages import draw_diff, draw_profile, draw_report
from flyball.domain.data.reports import Report
from flyball.domain.data.snapshots import Snapshot
from flyball.domain.data.tables import Table
from flyball.storage.tables.urls import mask
from flyball.workspace.workspace import Workspace

_PERIOD = re.compile(r"\d{4}(?:-\d{2}(?:-\d{2})?)?")
_NOW, _PREVIOUS = "now", "previous"


class TableSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One table of the project: its snapshots, newest last, and whether its last data tests passed."""

    table: str
    source: str
    snapshots: tuple[Snapshot, ...]
    report: Report | None


class CheckedTable(msgspec.Struct, frozen=True, kw_only=True):
    """A table's report, and what changed since the one before."""

    report: Report
    changes: list[str]


class ChosenRows(NamedTuple):
    """Rows of a table, what they are in words, and the content of the snapshot that they lie in."""

    rows: pl.LazyFrame
    words: str
    content: str


class TableViews:
    """What `flyball data` shows.

    Args:
        workspace: The project and its home.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._data = workspace.data

    def summarise(self, table: str) -> TableSummary:
        """Return a table's snapshots and its last report.

        Raises:
            UnknownNameError: The project declares no such table.
        """
        declared = self._workspace.project.table(table)
        return TableSummary(
            table=table,
            source=mask(declared.source),
            snapshots=tuple(self._data.list(table)),
            report=self._data.last_report(table),
        )

    def list(self) -> "list[TableSummary]":
        """Return all tables of the project, in the order of their names."""
        return [self.summarise(name) for name in sorted(self._workspace.project.tables)]

    def choose(self, table: str, which: str = _NOW, *, than: str | None = None) -> ChosenRows:
        """Return rows of a table.

        Args:
            table: Its name.
            which: ``now``; ``previous`` (as the newest snapshot of another state has them); a year, month or day of
                its time, or two with ``..`` between them; or the beginning of a snapshot's id.
            than: The content to which ``previous`` is another; by default that of the last snapshot.

        Raises:
            NotFoundError: There is no such snapshot.
            InvalidInputError: The table has no time, or several snapshots begin so.
        """
        declared = self._workspace.project.table(table)
        if which == _NOW or _is_period(which):
            snapshot = self._data.snapshot(declared, actor="user")
            rows, words = self._data.read(snapshot.id), f"now, snapshot {snapshot.id[:12]}"
            if which != _NOW:
                rows, words = _period(declared, rows, which), which
        else:
            self._data.declare(declared)
            known = self._data.list(table)
            snapshot = _previous(known, table, than) if which == _PREVIOUS else _by_id(known, table, which)
            rows = self._data.read(snapshot.id)
            words = f"snapshot {snapshot.id[:12]} of {format_instant(snapshot.created_at)}"
        return ChosenRows(rows, words, snapshot.digest)

    def diff(self, table: str, before: str, after: str) -> TableDiff:
        """Compare two sets of rows of a table; see `choose`."""
        declared = self._workspace.project.table(table)
        # What the previous state is can only be told when the present one is known, which may be new.
        if after == _PREVIOUS:
            one = self.choose(table, before)
            two = self.choose(table, after, than=one.content)
        else:
            two = self.choose(table, after)
            one = self.choose(table, before, than=two.content)
        keys = declared.key or (declared.entity.keys if declared.entity else ())
        return diff_frames(one.rows, two.rows, table=table, names=(one.words, two.words), key=keys)

    def infer(self, table: str, which: str = _NOW) -> Proposal:
        """Propose expectations that a table meets now."""
        declared = self._workspace.project.table(table)
        frame = self._collect(table, self.choose(table, which))
        return propose_expectations(frame, table=table, keys=declared.key, time=declared.time)

    def check(self, table: str) -> CheckedTable:
        """Check a table as it is now.

        Raises:
            InvalidInputError: Nothing is expected of it.
        """
        declared = self._workspace.project.table(table)
        if not declared.expectations:
            raise InvalidInputError(
                f"nothing is expected of the table {table!r}", hint=f"Let it be proposed: flyball data infer {table}"
            )
        snapshot = self._data.snapshot(declared, actor="user")
        report = self._data.check(snapshot, declared.expectations, actor="user")
        before = self._data.last_report(table, before=report)
        return CheckedTable(report=report, changes=diff_reports(before, report) if before else [])

    def write_profile(self, table: str, which: str, path: Path) -> Path:
        """Write a table's profile as a page."""
        chosen = self.choose(table, which)
        page = draw_profile(self._collect(table, chosen), table=table, note=chosen.words)
        write_bytes(path, page.encode(), durable=False)
        return path

    def _collect(self, table: str, chosen: ChosenRows) -> pl.DataFrame:
        """Return rows to look at.

        Raises:
            InvalidInputError: There are none.
        """
        frame = chosen.rows.collect()
        if frame.is_empty():
            raise InvalidInputError(
                f"the table {table!r} has no rows of {chosen.words}",
                hint=f"See from when to when its rows are with: flyball snapshot {table}",
            )
        return frame


def write_diff(path: Path, diff: TableDiff) -> None:
    """Write a comparison as a page."""
    write_bytes(path, draw_diff(diff).encode(), durable=False)


def write_check(path: Path, checked: CheckedTable) -> None:
    """Write a report as a page."""
    write_bytes(path, draw_report(checked.report, checked.changes).encode(), durable=False)


def _is_period(which: str) -> bool:
    return all(_PERIOD.fullmatch(part) for part in which.split("..")) and which.count("..") <= 1


def _previous(known: list[Snapshot], table: str, than: str | None) -> Snapshot:
    """Return the newest snapshot of another content; the one of all of its rows, where there is one."""
    content = than or (known[-1].digest if known else "")
    others = [snapshot for snapshot in known if snapshot.digest != content]
    if not others:
        raise NotFoundError(
            f"the table {table!r} has no snapshot before the last one",
            hint=f"Compare two months instead, such as: flyball data diff {table} 2026-01 2026-02",
        )
    newest = [snapshot for snapshot in others if snapshot.digest == others[-1].digest]
    return next((snapshot for snapshot in newest if snapshot.as_of is None), newest[-1])


def _by_id(known: list[Snapshot], table: str, prefix: str) -> Snapshot:
    found = [snapshot for snapshot in known if snapshot.id.startswith(prefix)]
    if len(found) != 1:
        what = "no snapshot of" if not found else f"{len(found)} snapshots of"
        raise NotFoundError(
            f"{what} the table {table!r} {'has an id that begins' if not found else 'have ids that begin'} with "
            f"{prefix!r}",
            hint=f"See them with: flyball data show {table}; or name a year, month or day, such as 2026-01.",
        )
    return found[0]


def _period(table: Table, rows: pl.LazyFrame, which: str) -> pl.LazyFrame:
    if table.time is None:
        raise InvalidInputError(f"the {table.label} has no time, so it has no rows of {which}")
    first, _, last = which.partition("..")
    begin, end = _begin(first), _end(last or first)
    if end <= begin:
        raise InvalidInputError(f"the period {which} ends before it begins", hint="Write the earlier end first.")
    return rows.filter(pl.col(table.time).is_between(begin, end, closed="left"))


def _begin(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text + "-01" * (2 - text.count("-"))).replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidInputError(
            f"{text!r} is no year, month or day", hint="Write it as 2026, 2026-03 or 2026-03-01."
        ) from error


def _end(text: str) -> datetime:
    begin, parts = _begin(text), text.count("-")
    if begin.year == datetime.max.year:
        return datetime.max.replace(tzinfo=UTC)
    if parts == 0:
        return begin.replace(year=begin.year + 1)
    if parts == 1:
        return begin.replace(year=begin.year + begin.month // 12, month=begin.month % 12 + 1)
    return begin + timedelta(days=1)
