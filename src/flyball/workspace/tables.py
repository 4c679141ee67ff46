"""Looking at a project's tables: which rows are meant, what they hold, what changed, what could be expected."""

import re
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
import polars as pl

from flyball.core.durations import format_instant, parse_instant
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
    """Rows of a table, and what they are in words."""

    rows: pl.LazyFrame
    words: str


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

    def choose(self, table: str, which: str = _NOW) -> ChosenRows:
        """Return rows of a table.

        Args:
            table: Its name.
            which: ``now``; ``previous`` (the snapshot before the last one); a year, month or day of its time, or two
                with ``..`` between them; or the beginning of a snapshot's id.

        Raises:
            NotFoundError: There is no such snapshot.
            InvalidInputError: The table has no time, or several snapshots begin so.
        """
        declared = self._workspace.project.table(table)
        if which == _NOW or _is_period(which):
            snapshot = self._data.snapshot(declared, actor="user")
            rows = self._data.read(snapshot.id)
            return (
                ChosenRows(rows, f"now, snapshot {snapshot.id[:12]}")
                if which == _NOW
                else _period(declared, rows, which)
            )
        self._data.declare(declared)
        known = self._data.list(table)
        if which == _PREVIOUS:
            if len(known) < 2:
                raise NotFoundError(f"the table {table!r} has no snapshot before the last one")
            found = [known[-2]]
        else:
            found = [snapshot for snapshot in known if snapshot.id.startswith(which)]
        if len(found) != 1:
            what = "no snapshot" if not found else f"{len(found)} snapshots"
            raise NotFoundError(
                f"{what} of the table {table!r} begin with {which!r}", hint=f"See them with: flyball data show {table}"
            )
        return ChosenRows(
            self._data.read(found[0].id), f"snapshot {found[0].id[:12]} of {format_instant(found[0].created_at)}"
        )

    def diff(self, table: str, before: str, after: str) -> TableDiff:
        """Compare two sets of rows of a table; see `choose`."""
        declared = self._workspace.project.table(table)
        one, two = self.choose(table, before), self.choose(table, after)
        keys = declared.key or (declared.entity.keys if declared.entity else ())
        return diff_frames(one.rows, two.rows, table=table, names=(one.words, two.words), key=keys)

    def infer(self, table: str, which: str = _NOW) -> Proposal:
        """Propose expectations that a table meets now."""
        declared = self._workspace.project.table(table)
        frame = self.choose(table, which).rows.collect()
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
        write_bytes(path, draw_profile(chosen.rows.collect(), table=table, note=chosen.words).encode(), durable=False)
        return path


def write_diff(path: Path, diff: TableDiff) -> None:
    """Write a comparison as a page."""
    write_bytes(path, draw_diff(diff).encode(), durable=False)


def write_check(path: Path, checked: CheckedTable) -> None:
    """Write a report as a page."""
    write_bytes(path, draw_report(checked.report, checked.changes).encode(), durable=False)


def _is_period(which: str) -> bool:
    return all(_PERIOD.fullmatch(part) for part in which.split("..")) and which.count("..") <= 1


def _period(table: Table, rows: pl.LazyFrame, which: str) -> ChosenRows:
    if table.time is None:
        raise InvalidInputError(f"the {table.label} has no time, so it has no rows of {which}")
    first, _, last = which.partition("..")
    begin, end = _begin(first), _end(last or first)
    return ChosenRows(rows.filter(pl.col(table.time).is_between(begin, end, closed="left")), which)


def _begin(text: str) -> datetime:
    return parse_instant(text + "-01" * (2 - text.count("-")), what="period")


def _end(text: str) -> datetime:
    begin, parts = _begin(text), text.count("-")
    if parts == 0:
        return begin.replace(year=begin.year + 1)
    if parts == 1:
        return begin.replace(year=begin.year + begin.month // 12, month=begin.month % 12 + 1)
    return datetime.fromtimestamp(begin.timestamp() + 86_400, begin.tzinfo)
