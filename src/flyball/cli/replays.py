"""The command replay: the time machine."""

from pathlib import Path

import click

from flyball.cli.options import Place, emit, json_option, place_options


@click.command()
@click.argument("endpoint", required=False)
@click.option("--policy", "policies", multiple=True, help='never, drifted, degraded, "every 30d" …; may be repeated.')
@click.option("--from", "start", help="Where simulated life begins [default: after a quarter of the history].")
@click.option("--to", "end", help="Where it ends [default: the history's end].")
@click.option("--candidate", help="A version or its number: replay the requests that really came through it instead.")
@click.option("--last", help="With --candidate: how far back, such as 30d [default: 30d].")
@click.option("--threshold", type=float, help="With --candidate: the chance from which on a decision is yes [0.5].")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write an HTML report to this file.")
@json_option
@place_options
def replay(
    place: Place,
    endpoint: str | None,
    policies: tuple[str, ...],
    start: str | None,
    end: str | None,
    candidate: str | None,
    last: str | None,
    threshold: float | None,
    report: Path | None,
    as_json: bool,
) -> int:
    """Replay the past: the project's whole life under policies, or logged requests through a candidate.

    Without --candidate the same loop as live goes through the project's tables, and policies of retraining are
    compared; without --policy, the triggers that the project declares. Each policy lives in a home of its own, under
    replays in the project's home.

    With --candidate the requests that the endpoint really answered, with features as they were served, go through
    another version before it may go live: first the live version must give its own answers again, then decisions that
    differ, slices, latency, and the metric by the labels that have come since are told.

    Neither touches anything that is live.

    \b
    Examples:
      flyball replay --policy never --policy "every 30d" --policy degraded --report year.html
      flyball replay credit --candidate 4 --last 30d --report candidate.html
    """
    if candidate is not None:
        if policies or start or end:
            raise click.UsageError("--policy, --from and --to live through the past; they do not go with --candidate")
        return _replay_traffic(place, endpoint, candidate, last or "30d", threshold, report, as_json)
    if last or threshold is not None:
        raise click.UsageError("--last and --threshold go with --candidate")
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
    return 0


def _replay_traffic(
    place: Place,
    endpoint: str | None,
    candidate: str,
    last: str,
    threshold: float | None,
    report: Path | None,
    as_json: bool,
) -> int:
    from flyball.cli.traffic_pictures import draw_traffic
    from flyball.core.durations import parse_duration
    from flyball.workspace.traffic_replays import TrafficPlan, replay_traffic
    from flyball.workspace.workspace import Workspace

    plan = TrafficPlan(
        endpoint=endpoint,
        candidate=candidate,
        last=parse_duration(last, what="--last"),
        threshold=threshold,
    )
    result = replay_traffic(Workspace(place.project, place.home), plan)
    if report is not None:
        from flyball.workspace.traffic_report import write_traffic_report

        write_traffic_report(report, result)
    emit(result, as_json=as_json, text=draw_traffic)
    return 0 if result.comparison is not None else 1
