"""The command that collects garbage: gc."""

from typing import TYPE_CHECKING

import click

from flyball.cli.options import Place, emit, json_option, place_options

if TYPE_CHECKING:
    from flyball.workspace.collecting import Collected


@click.command()
@click.option("--older-than", default="30d", help="Leave what was deleted, and snapshots made, since [default: 30d].")
@click.option(
    "--grace", default="1d", help="Leave bytes written or asked for since; longer than any upload takes [default: 1d]."
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@json_option
@place_options
def gc(place: Place, older_than: str, grace: str, dry_run: bool, as_json: bool) -> None:
    """Remove for good what was deleted, and bytes that nothing needs. Everything may go on meanwhile.

    What a run, a version, a view or a table's last state refers to stays; so does a deleted run that made a version.

    \b
    Examples:
      flyball gc --dry-run
      flyball gc --older-than 7d
    """
    from flyball.core.durations import parse_duration
    from flyball.workspace.collecting import Collector
    from flyball.workspace.home import Home

    collector = Collector(
        Home(place.project, place.home),
        older_than=parse_duration(older_than, what="--older-than"),
        grace=parse_duration(grace, what="--grace"),
    )
    emit(collector.collect(is_dry=dry_run), as_json=as_json, text=_describe)


def _describe(found: "Collected") -> str:
    storage = found.storage
    counts = {
        "deleted runs": found.runs,
        "deleted experiments": found.experiments,
        "deleted logged models": found.logged_models,
        "files of these": found.artifacts,
        "results of steps": found.results,
        "old snapshots": found.snapshots,
        "packages": found.packages,
        "contents": storage.blobs,
        "files of parts, compacted": storage.parts,
        "copies": storage.copies,
        "unfinished files": storage.unfinished,
    }
    lines = [f"{count:>10,}  {name}" for name, count in counts.items() if count]
    if found.kept_runs:
        lines.append(f"{found.kept_runs:>10,}  deleted runs stay, since they made versions that are there")
    verb = "would be freed" if found.is_dry else "freed"
    return "\n".join([*lines, f"{found.freed_bytes:,} bytes {verb}"])
