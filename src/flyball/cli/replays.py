"""The command replay: the time machine."""

from pathlib import Path

import click

from flyball.cli.options import Place, emit, json_option, place_options


@click.command()
@click.argument("endpoint", required=False)
@click.option("--policy", "policies", multiple=True, help='never, drifted, degraded, "every 30d" …; may be repeated.')
@click.option("--from", "start", help="Where simulated life begins [default: after a quarter of the history].")
@click.option("--to", "end", help="Where it ends [default: the history's end].")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write an HTML report to this file.")
@json_option
@place_options
def replay(
    place: Place,
    endpoint: str | None,
    policies: tuple[str, ...],
    start: str | None,
    end: str | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Live through the project's past by the same loop as live, and compare policies of retraining.

    Without --policy, the triggers that the project declares. Each policy lives in a home of its own, under
    replays in the project's home; nothing that is live is touched.

    \b
    Example:
      flyball replay --policy never --policy "every 30d" --policy degraded --report year.html
    """
    from flyball.cli.pictures import draw_comparison
    from flyball.cli.progress import ReplayBars
    from flyball.core.durations import parse_instant
    from flyball.workspace.replays import ReplayPlan, replay_policies

    plan = ReplayPlan(
        project=place.project,
        home=place.home,
        endpoint=endpoint,
        policies=policies,
        start=parse_instant(start, what="--from") if start else None,
        end=parse_instant(end, what="--to") if end else None,
    )
    with ReplayBars() as bars:
        result = replay_policies(plan, bars)
    if report is not None:
        from flyball.workspace.report import write_report

        write_report(report, result)
    emit(result, as_json=as_json, text=draw_comparison)
