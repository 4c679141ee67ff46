"""Commands about runs: list, show, send."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flyball.cli.options import Place, emit, json_option, place_options
from flyball.core.durations import format_elapsed

if TYPE_CHECKING:
    from flyball.domain.tracking.runs import RunDetail
    from flyball.domain.tracking.shipping import Sent
    from flyball.workspace.home import Home

_NAME_TAG = "mlflow.runName"
_SYSTEM_TAGS = "mlflow."
_METRICS_SHOWN = 3
_LONGEST_CELL = 40
_LONGEST_VALUE = 2_000


@click.group()
def runs() -> None:
    """Look at runs, whoever made them, and send what programs could not send."""


@runs.command("list")
@click.option("--experiment", help="Only of this experiment, or pipeline.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, help="How many at most [default: 20].")
@json_option
@place_options
def list_(place: Place, experiment: str | None, limit: int, as_json: bool) -> None:
    """List runs of pipelines, of fb.run() and of MLflow's clients, the newest first.

    \b
    Example:
      flyball runs list --experiment credit
    """
    from flyball.workspace.home import Home

    home = Home(place.project, place.home)
    listed = home.tracking.list_runs(pipeline=experiment, limit=limit)
    if experiment is not None and not listed:
        _require_experiment(home, experiment)
    found = [home.tracking.describe_run(run.id) for run in listed]
    emit({"runs": found}, as_json=as_json, text=lambda page: _draw_list(page["runs"]))


@runs.command()
@click.argument("run_id")
@json_option
@place_options
def show(place: Place, run_id: str, as_json: bool) -> None:
    """Show what was logged to RUN_ID.

    \b
    Example:
      flyball runs show 01kb2m8y3v6q0s4n8x9d2w1c5e
    """
    import msgspec

    from flyball.domain.tracking.runs import Link
    from flyball.workspace.home import Home

    home = Home(place.project, place.home)
    detail = home.tracking.describe_run(run_id)
    versions, _ = home.client_registry.search_versions(filter_text=f"run_id = '{detail.run.id}'")
    made = [Link(kind="version", ref=found.version.ref) for found in versions]
    outputs = list(dict.fromkeys([*detail.outputs, *made]))
    emit(msgspec.structs.replace(detail, outputs=outputs), as_json=as_json, text=_draw)


@runs.command()
@click.option("--to", "server", metavar="URL", help="Send all to this server, such as when theirs has moved.")
@click.option("--again", is_flag=True, help="Also try what was refused and set aside.")
@json_option
@place_options
def send(place: Place, server: str | None, again: bool, as_json: bool) -> int:
    """Send what programs could not send before they ended, each run to the server or home it was bound for.

    \b
    Example:
      flyball runs send --to http://127.0.0.1:3592
    """
    from flyball.cli.main import TRY_AGAIN
    from flyball.domain.tracking.spool import list_refused, take_back
    from flyball.workspace.live_runs import SPOOL_FOLDER, send_spools

    if again:
        take_back(place.home / SPOOL_FOLDER)
    sent = send_spools(place.project, place.home, server)
    aside = list_refused(place.home / SPOOL_FOLDER)
    emit(sent, as_json=as_json, text=lambda found: _draw_sent(found, aside))
    return TRY_AGAIN if sent.waiting else 0


def _require_experiment(home: "Home", name: str) -> None:
    from flyball.core.errors import UnknownNameError
    from flyball.domain.tracking.experiments import ExperimentNotFoundError

    try:
        home.experiments.get_by_name(name)
    except ExperimentNotFoundError as error:
        known, _ = home.experiments.search()
        raise UnknownNameError("experiment", name, [experiment.name for experiment in known]) from error


def _draw_list(found: "list[RunDetail]") -> str:
    head = ("run", "experiment", "name", "status", "started", "took", "metrics")
    rows = [head, *(_row(detail) for detail in found)]
    if not found:
        return "there is no run"
    widths = [max(len(row[column]) for row in rows) for column in range(len(head) - 1)]
    return "\n".join(
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    )


def _row(detail: "RunDetail") -> tuple[str, str, str, str, str, str, str]:
    run = detail.run
    metrics = [f"{_plain(name)} {_number(value)}" for name, value in list(detail.metrics.items())[:_METRICS_SHOWN]]
    more = len(detail.metrics) - _METRICS_SHOWN
    return (
        run.id,
        _plain(run.pipeline, _LONGEST_CELL),
        _plain(detail.tags.get(_NAME_TAG, ""), _LONGEST_CELL),
        run.status.value,
        _instant(run.started_at),
        format_elapsed(run.duration) if run.duration is not None else "",
        ", ".join(metrics) + (f" and {more} more" if more > 0 else ""),
    )


def _draw(detail: "RunDetail") -> str:
    run = detail.run
    name = detail.tags.get(_NAME_TAG)
    lines = [
        f"run {run.id}" + (f" ({_plain(name)})" if name else ""),
        f"of {_plain(run.pipeline)}, {run.status.value}, by {_plain(run.actor)}",
        f"started {_instant(run.started_at)}" + (f", took {format_elapsed(run.duration)}" if run.duration else ""),
    ]
    if run.error:
        lines.append(f"error: {run.error}")
    tags = {name: value for name, value in detail.tags.items() if not name.startswith(_SYSTEM_TAGS)}
    lines += _section("parameters", {name: str(value) for name, value in detail.params.items()})
    lines += _section("metrics (their last values)", {name: _number(value) for name, value in detail.metrics.items()})
    lines += _section("tags", tags)
    lines += _section("files", {file.name: f"{file.size_bytes:,} B" for file in detail.artifacts})
    lines += _section("read", {link.ref: link.kind for link in detail.inputs})
    lines += _section("made", {link.ref: link.kind for link in detail.outputs})
    return "\n".join(lines)


def _section(title: str, rows: dict[str, str]) -> list[str]:
    if not rows:
        return []
    shown = {_plain(name): _plain(value) for name, value in rows.items()}
    width = max(map(len, shown))
    return ["", title, *(f"  {name.ljust(width)}  {value}" for name, value in shown.items())]


def _plain(text: str, longest: int = _LONGEST_VALUE) -> str:
    """Return what clients wrote as one line that cannot steer a terminal, cut where it is long."""
    line = "".join(sign if sign.isprintable() else " " for sign in text)
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _draw_sent(sent: "Sent", aside: dict[Path, str]) -> str:
    lines = [f"run {run_id} is kept" for run_id in sent.complete]
    lines += [f"run {run_id} waits: {reason}" for run_id, reason in sent.waiting.items()]
    lines += [f"refused, and set aside in {folder}: {reason}" for folder, reason in aside.items()]
    return "\n".join(lines) or "nothing was left to send"


def _number(value: float) -> str:
    return f"{value:.6g}"


def _instant(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S}"
