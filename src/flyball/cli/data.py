"""Commands over tables: snapshot, and the group data."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flyball.cli.options import Place, emit, json_option, place_options
from flyball.core.durations import format_instant
from flyball.domain.data.wording import format_number

if TYPE_CHECKING:
    from flyball.domain.data.diffs import TableDiff
    from flyball.workspace.leaks import LeakReport
    from flyball.workspace.tables import CheckedTable, TableSummary, TableViews
    from flyball.workspace.workspace import CheckedSnapshot


@click.command()
@click.argument("table")
@click.option("--accept-schema-change", is_flag=True, help="Take a table whose columns have changed.")
@json_option
@place_options
def snapshot(place: Place, table: str, accept_schema_change: bool, as_json: bool) -> None:
    """Keep TABLE as it is now, judge it by its expectations, and print the snapshot's identity.

    \b
    Example:
      flyball snapshot applications
    """
    from flyball.workspace.workspace import Workspace

    kept = Workspace(place.project, place.home).snapshot(table, accept_schema_change=accept_schema_change)
    emit(kept, as_json=as_json, text=_describe)


def _describe(found: "CheckedSnapshot") -> str:
    kept, report = found.snapshot, found.report
    span = (
        f", {format_instant(kept.time_from)} to {format_instant(kept.time_to)}"
        if kept.time_from and kept.time_to
        else ""
    )
    lines = [f"{kept.table}: snapshot {kept.id}", f"{kept.rows:,} rows, {kept.size_bytes:,} bytes{span}"]
    if report is not None:
        lines.append(
            f"expectations: {'passed' if report.passed else 'FAILED'}, {report.quarantined:,} rows quarantined"
        )
        lines.extend(f"  {result.message}" for result in report.violations)
    return "\n".join(lines)


_HTML = click.Path(dir_okay=False, path_type=Path)


@click.group()
def data() -> None:
    """Look at tables: what they hold, what changed, what could be expected of them, what leaks."""


@data.command("ls")
@json_option
@place_options
def list_tables(place: Place, as_json: bool) -> None:
    """List the project's tables."""
    emit(_views(place).list(), as_json=as_json, text=lambda found: "\n".join(map(_summarise, found)) or "no table")


@data.command()
@click.argument("table")
@json_option
@place_options
def show(place: Place, table: str, as_json: bool) -> None:
    """Show TABLE's columns, its snapshots and its last data tests."""
    emit(_views(place).summarise(table), as_json=as_json, text=_show)


@data.command()
@click.argument("table")
@click.argument("before", default="previous")
@click.argument("after", default="now")
@click.option("--html", type=_HTML, help="Write the comparison with its pictures to a file.")
@json_option
@place_options
def diff(place: Place, table: str, before: str, after: str, html: Path | None, as_json: bool) -> None:
    """Show what changed in TABLE: rows, columns, distributions.

    BEFORE and AFTER are each: now, previous (the newest snapshot of another state), a year, month or day of the
    table's time (two with .. between them), or the beginning of a snapshot's id.

    \b
    Examples:
      flyball data diff orders
      flyball data diff sales 2015-01 2015-02 --html diff.html
    """
    from flyball.workspace.tables import write_diff

    found = _views(place).diff(table, before, after)
    if html is not None:
        write_diff(html, found)
        click.echo(f"written: {html}", err=True)
    emit(found, as_json=as_json, text=_tell_diff)


@data.command()
@click.argument("table")
@click.argument("which", default="now")
@click.option("--html", type=_HTML, help="Where the page goes [default: TABLE-profile.html].")
@place_options
def profile(place: Place, table: str, which: str, html: Path | None) -> None:
    """Write a page with the distribution of each column of TABLE.

    \b
    Example:
      flyball data profile sales 2015-02 --html february.html
    """
    click.echo(f"written: {_views(place).write_profile(table, which, html or Path(f'{table}-profile.html'))}")


@data.command()
@click.argument("table")
@click.argument("which", default="now")
@json_option
@place_options
def infer(place: Place, table: str, which: str, as_json: bool) -> None:
    """Propose expectations of TABLE, as code to edit and paste into the project file.

    \b
    Example:
      flyball data infer orders
    """
    emit(_views(place).infer(table, which), as_json=as_json, text=lambda found: found.code.rstrip())


@data.command()
@click.argument("table")
@click.option("--html", type=_HTML, help="Write the report to a page.")
@json_option
@place_options
def check(place: Place, table: str, html: Path | None, as_json: bool) -> int:
    """Check TABLE by its expectations; ends with status 1 where one of severity fail is broken.

    \b
    Example:
      flyball data check orders --html report.html
    """
    from flyball.workspace.tables import write_check

    checked = _views(place).check(table)
    if html is not None:
        write_check(html, checked)
        click.echo(f"written: {html}", err=True)
    emit(checked, as_json=as_json, text=_tell_check)
    return 0 if checked.report.passed else 1


@data.command()
@click.argument("pipeline")
@json_option
@place_options
def leaks(place: Place, pipeline: str, as_json: bool) -> int:
    """Look for leaks in what PIPELINE learns from; ends with status 1 where something is suspected.

    \b
    Example:
      flyball data leaks training
    """
    from flyball.workspace.leaks import look_for_leaks
    from flyball.workspace.workspace import Workspace

    report = look_for_leaks(Workspace(place.project, place.home), pipeline)
    emit(report, as_json=as_json, text=_tell_leaks)
    return 1 if report.leaks else 0


def _views(place: Place) -> "TableViews":
    from flyball.workspace.tables import TableViews
    from flyball.workspace.workspace import Workspace

    return TableViews(Workspace(place.project, place.home))


def _summarise(found: "TableSummary") -> str:
    if not found.snapshots:
        return f"{found.table}: no snapshot yet; {found.source}"
    last = found.snapshots[-1]
    tests = "no data tests" if found.report is None else f"data tests {'passed' if found.report.passed else 'FAILED'}"
    return f"{found.table}: {last.rows:,} rows in snapshot {last.id[:12]} of {len(found.snapshots)}, {tests}"


def _show(found: "TableSummary") -> str:
    lines = [f"{found.table}: {found.source}"]
    if found.snapshots:
        fields = found.snapshots[-1].schema.fields
        lines.extend(f"  {field.name}: {field.dtype}{', may be missing' if field.nullable else ''}" for field in fields)
    lines.append(f"{len(found.snapshots)} snapshots" + (", the newest last" if len(found.snapshots) > 1 else ""))
    lines.extend(
        f"  {kept.id[:12]}  {format_instant(kept.created_at)}  {kept.rows:,} rows, {kept.size_bytes:,} bytes"
        for kept in found.snapshots[-10:]
    )
    if found.report is not None:
        lines.append(f"data tests: {'passed' if found.report.passed else 'FAILED'}")
        lines.extend(f"  {result.message}" for result in found.report.violations)
    return "\n".join(lines)


def _tell_diff(found: "TableDiff") -> str:
    changes = found.changes
    by = f", by {', '.join(changes.key)}" if changes.key else ""
    lines = [
        f"{found.table}: {found.before} ({found.rows[0]:,} rows) against {found.after} ({found.rows[1]:,} rows)",
        f"rows: {changes.added:,} came, {changes.removed:,} went, {changes.changed:,} changed{by}",
    ]
    lines.extend(found.schema)
    lines.extend(f"  {column} changed in {rows:,} rows" for column, rows in changes.columns.items())
    for example in changes.examples:
        key = ", ".join(f"{name} {value}" for name, value in example.key.items())
        lines.append(f"    {key}: {example.column} {example.before} → {example.after}")
    moved = [change for change in found.columns if change.moved >= 0.005]
    told = "the same" if not moved else "how large a share of the rows lies elsewhere"
    lines.append(f"distributions: {told if all(found.rows) else 'nothing to compare'}")
    for change in moved[:12]:
        before, after = change.mean
        means = "" if before is None or after is None else f", mean {format_number(before)} → {format_number(after)}"
        missing = f", missing {change.nulls[0]:.1%} → {change.nulls[1]:.1%}" if any(change.nulls) else ""
        lines.append(f"  {change.column} {change.moved:.1%}{means}{missing}")
    return "\n".join(lines)


def _tell_check(checked: "CheckedTable") -> str:
    report = checked.report
    lines = [
        f"{report.table}: {'passed' if report.passed else 'FAILED'}, {len(report.results)} expectations of "
        f"{report.rows:,} rows, {report.quarantined:,} quarantined"
    ]
    lines.extend(f"  {result.severity}: {result.message}" for result in report.violations)
    if checked.changes:
        lines.append("since the report before:")
        lines.extend(f"  {change}" for change in checked.changes)
    return "\n".join(lines)


def _tell_leaks(report: "LeakReport") -> str:
    if not report.leaks:
        return f"{report.pipeline}: no leak suspected in {report.rows:,} rows"
    count = len(report.leaks)
    lines = [f"{report.pipeline}: {count} suspected leak{'s' if count > 1 else ''} in {report.rows:,} rows"]
    for leak in report.leaks:
        lines.extend([f"  {leak.kind}: {leak.message}", f"    {leak.hint}"])
    return "\n".join(lines)
