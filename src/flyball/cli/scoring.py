"""The command score: predictions for a whole table."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flyball.cli.options import Place, emit, json_option, place_options

if TYPE_CHECKING:
    from flyball.domain.serving.score_requests import ScoreResult

_REASONS_SHOWN = 8
_MANY = 10_000


@click.command()
@click.argument("endpoint")
@click.option("--table", required=True, help="The table whose rows are scored.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder that the predictions go to.")
@click.option("--version", help="A version or its number [default: the one that is live].")
@click.option(
    "--format", "format_", type=click.Choice(["parquet", "delta"]), default="parquet", help="What --out is or becomes."
)
@click.option("--keep", help="Columns of the table beside each prediction: a,b,c [default: key, entity and time].")
@click.option("--at-row-time", is_flag=True, help="Use stored features of each row's time [default: those of now].")
@click.option("--all", "all_rows", is_flag=True, help="Score every row again, in place of what is in --out.")
@json_option
@place_options
def score(
    place: Place,
    endpoint: str,
    table: str,
    out: Path,
    version: str | None,
    format_: str,
    keep: str | None,
    at_row_time: bool,
    all_rows: bool,
    as_json: bool,
) -> None:
    """Predict the rows of a table by the model and the rules of ENDPOINT.

    Called again, it scores only what is new in the table. Killed, it goes on where it stopped. Rows that the endpoint
    would not answer go to the folder OUT.rejects, each with its reasons.

    \b
    Example:
      flyball score credit --table applications --out scores/
    """
    from flyball.cli.progress import RowsBar
    from flyball.workspace.scores import ScorePlan, score_table
    from flyball.workspace.workspace import Workspace

    plan = ScorePlan(
        endpoint=endpoint,
        table=table,
        out=out,
        version=version,
        format="delta" if format_ == "delta" else "parquet",
        keep=tuple(name.strip() for name in keep.split(",")) if keep else None,
        at_row_time=at_row_time,
        all_rows=all_rows,
    )
    with RowsBar(f"scoring {table}") as bar:
        result = score_table(Workspace(place.project, place.home), plan, bar.tell)
    emit(result, as_json=as_json, text=_tell)


def _tell(result: "ScoreResult") -> str:
    if not result.rows:
        return f"nothing is new in {result.table}; {result.out} is up to date"
    speed = f"{result.rows / result.duration_s:,.0f} rows/s" if result.rows >= _MANY and not result.taken_up else ""
    lines = [
        f"scored {result.answered:,} of {result.rows:,} rows of {result.table} by {result.version}  {speed}".rstrip()
    ]
    lines.append(f"  predictions  {result.out}")
    if result.rejected:
        lines.append(f"  rejected     {result.rejected:,} rows, in {result.rejects}:")
        shown = list(result.reasons.items())[:_REASONS_SHOWN]
        lines += [f"    {count:>9,}  {reason}" for reason, count in shown]
    if result.note:
        lines.append(f"  {result.note}")
    return "\n".join(lines)
