"""Commands over tables: snapshot."""

from typing import TYPE_CHECKING

import click

from flyball.cli.options import Place, emit, json_option, place_options
from flyball.core.durations import format_instant

if TYPE_CHECKING:
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
