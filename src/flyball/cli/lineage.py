"""Commands that look back: trace, history, audit."""

import click

from flyball.cli.options import Place, emit, json_option, place_options


@click.command()
@click.argument("prediction")
@json_option
@place_options
def trace(place: Place, prediction: str, as_json: bool) -> None:
    """Show everything behind PREDICTION (its id), down to the data that trained its model.

    \b
    Example:
      flyball trace 01k8x2v7q4r6t8w0y2a4c6e8g0
    """
    from flyball.cli.pictures import draw_trace
    from flyball.workspace.home import Home
    from flyball.workspace.tracing import trace_prediction

    found = trace_prediction(Home(place.project, place.home), prediction)
    emit(found, as_json=as_json, text=draw_trace)


@click.command()
@click.argument("name")
@click.option("--at", help='The instant, such as "2026-03-01 14:05"; UTC where no zone is given.  [default: now]')
@json_option
@place_options
def history(place: Place, name: str, at: str | None, as_json: bool) -> None:
    """Show what was live on the endpoint NAME at an instant, or what the aliases of the model NAME meant.

    Below it is who moved which alias until then, when and why.

    \b
    Example:
      flyball history credit --at "2026-03-01 14:05"
    """
    from flyball.cli.pictures import draw_history
    from flyball.core.durations import parse_instant
    from flyball.workspace.histories import read_history
    from flyball.workspace.workspace import Workspace

    workspace = Workspace(place.project, place.home)
    instant = workspace.clock.now() if at is None else parse_instant(at, what="--at")
    found = read_history(workspace, name, instant)
    emit(found, as_json=as_json, text=draw_history)


@click.command()
@click.argument("subject")
@json_option
@place_options
def impact(place: Place, subject: str, as_json: bool) -> None:
    """Show what SUBJECT came from and what was made from it: snapshot/ID, run/ID or version/MODEL/NUMBER.

    \b
    Example:
      flyball impact version/credit-risk/3
    """
    from flyball.domain.lineage.service import LineageService
    from flyball.workspace.home import open_journal

    found = LineageService(open_journal(place.project, place.home)).find_impact(subject)
    emit(
        found,
        as_json=as_json,
        text=lambda shown: "\n".join(
            [*(f"from     {one}" for one in shown.came_from), subject, *(f"reached  {one}" for one in shown.reached)]
        ),
    )


@click.group()
def audit() -> None:
    """Check that the journal is whole."""


@audit.command()
@json_option
@place_options
def verify(place: Place, as_json: bool) -> int:
    """Recompute the journal's chain; exit with 1 and the first event that does not fit, if there is one.

    \b
    Example:
      flyball audit verify
    """
    from flyball.workspace.home import open_journal

    result = open_journal(place.project, place.home).verify()
    emit(
        result,
        as_json=as_json,
        text=lambda found: (
            f"the journal is whole: {found.events:,} events, head {found.head[:12]}"
            if found.broken_at is None
            else f"the journal is broken at event {found.broken_at}: {found.reason}"
        ),
    )
    return 0 if result.broken_at is None else 1
