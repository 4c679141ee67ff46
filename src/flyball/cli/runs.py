"""The command run. What it imports at the top is all that an unchanged run needs."""

import os
import signal

import click

from flyball.cli.options import Place, emit, json_option, place_options
from flyball.core.durations import format_elapsed
from flyball.core.errors import FlyballError
from flyball.domain.pipelines.parameters import parse_pairs
from flyball.domain.pipelines.results import RunResult, StepStatus
from flyball.domain.pipelines.unchanged import check_unchanged
from flyball.domain.tracking.runs import RunStatus


@click.command()
@click.argument("pipeline")
@click.option("--param", "pairs", multiple=True, metavar="STEP.NAME=VALUE", help="Set a parameter; may be repeated.")
@click.option("--sample", metavar="SHARE", help="Run on a slice of every table, such as 1%; nothing of it goes live.")
@click.option("--why", is_flag=True, help="Say for each step why it ran or did not.")
@click.option("--actor", default="user", hidden=True)
@click.option("--cause", type=int, hidden=True)
@json_option
@place_options
def run(
    place: Place,
    pipeline: str,
    pairs: tuple[str, ...],
    sample: str | None,
    why: bool,
    actor: str,
    cause: int | None,
    as_json: bool,
) -> int:
    """Run PIPELINE; steps whose code, parameters and inputs have not changed are not computed again.

    \b
    Example:
      flyball run training --param train.learning_rate=0.2 --why
    """
    params = parse_pairs(pairs)
    if sample is not None:
        from flyball.domain.data.samples import open_sample_home, parse_share

        place = Place(place.project, open_sample_home(place.home, parse_share(sample)))
    result = check_unchanged(place.home, place.project, pipeline, params, actor=actor) if cause is None else None
    if result is None:
        result = _carry_out(place, pipeline, params, actor, cause)
    emit(result, as_json=as_json, text=lambda found: _describe(found, why=why))
    return {RunStatus.SUCCEEDED: 0, RunStatus.CANCELLED: 130}.get(result.status, 1)


def _carry_out(place: Place, pipeline: str, params: dict[str, str], actor: str, cause: int | None) -> RunResult:
    from flyball.cli.progress import RunBar
    from flyball.server.lifeline import when_supervisor_ends
    from flyball.workspace.runs import run_pipeline

    when_supervisor_ends(lambda: os.kill(os.getpid(), signal.SIGTERM))
    with RunBar() as bar:
        result = run_pipeline(place.project, place.home, pipeline, params, cause=cause, actor=actor, progress=bar)
    if result.status is RunStatus.SUCCEEDED and result.notes.get("version") and not (place.home / "sample").exists():
        _take_first_live(place)
    return result


def _take_first_live(place: Place) -> None:
    """Let an approved version go live at once where none is, so that it can be asked without `flyball up`."""
    from flyball.workspace.workspace import Workspace

    workspace = Workspace(place.project, place.home)
    try:
        workspace.deployer.take_up_first(workspace.endpoints)
    except FlyballError as error:
        click.echo(f"the version is kept, but it could not go live: {error.message}", err=True)


def _describe(result: RunResult, *, why: bool) -> str:
    took = format_elapsed(result.duration)
    lines = [f"run {result.run_id} of {result.pipeline} {result.status.value} in {took}"]
    counted = [f"{count} {status.value}" for status in StepStatus if (count := result.count(status))]
    lines.append("steps: " + (", ".join(counted) or "none"))
    for step in result.steps:
        if why:
            lines.append(f"  {step.name}: {step.status.value}, {step.reason}")
        if step.status is StepStatus.FAILED:
            lines.append(f"step {step.name} failed: {step.error}")
    lines.extend(f"version {standing}" for standing in result.notes.get("standing", []))
    for metrics in result.notes.get("metrics", []):
        lines.append("metrics: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
    lines.extend(f"leak? {leak['kind']}: {leak['message']}" for leak in result.notes.get("leak", []))
    if result.status is RunStatus.FAILED:
        lines.append("Correct it and run the same command again: it goes on from the failed step.")
    return "\n".join(lines)
