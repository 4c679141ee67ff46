"""What `flyball demo` shows: a year in the life of a model, told month by month."""

import importlib.util
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.text import Text

from flyball.cli.options import HOME, Place
from flyball.cli.pictures import draw_comparison
from flyball.cli.progress import ReplayBars
from flyball.core.clock import monotonic_s
from flyball.core.durations import parse_instant
from flyball.core.errors import NotFoundError
from flyball.domain.loop.reports import Mark, MarkKind, PolicyResult, ReplayReport
from flyball.workspace.replays import DECLARED, ReplayPlan, replay_policies
from flyball.workspace.report import write_report
from flyball.workspace.workspace import Workspace

_SIMULATOR = "simulate.py"
_BEGIN = "2025-01-01"
_POLICIES = (DECLARED, "never", "every 30d")
_SIGNS = {
    MarkKind.ALERT: ("alert", "yellow"),
    MarkKind.RETRAINING: ("retrain", "cyan"),
    MarkKind.REJECTED: ("rejected", "red"),
    MarkKind.ROLLOUT: ("rollout", "blue"),
    MarkKind.PROMOTED: ("live", "green"),
    MarkKind.ROLLBACK: ("rollback", "red"),
}


def play_demo(place: Place, seed: int, *, is_quiet: bool = False) -> ReplayReport:
    """Make the example's data, live through its year, tell the story and leave the project where it is.

    Args:
        place: The project's folder, which holds the example, and its home.
        seed: For the simulator of the year.
        is_quiet: Whether to tell nothing.
    """
    began = monotonic_s()
    folder = place.project
    console = Console(highlight=False, soft_wrap=True, quiet=is_quiet)
    console.print(Text("Flyball demo: a lender's year, lived through by the same loop as live", style="bold"))
    _simulate(folder, seed)
    plan = ReplayPlan(
        project=folder,
        home=place.home,
        policies=_POLICIES,
        start=parse_instant(_BEGIN),
        into_home=True,
    )
    with ReplayBars() as bars:
        report = replay_policies(plan, bars)
    page = folder / "report.html"
    write_report(page, report)
    _tell(console, report)
    _show_around(console, place, page, monotonic_s() - began)
    return report


def _simulate(folder: Path, seed: int) -> None:
    spec = importlib.util.spec_from_file_location("flyball_demo_simulator", folder / _SIMULATOR)
    if spec is None or spec.loader is None:
        raise NotFoundError(f"the demo's {_SIMULATOR} is missing", hint="Install Flyball again.")
    simulator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(simulator)
    simulator.write(folder / "data", seed=seed)


def _tell(console: Console, report: ReplayReport) -> None:
    declared = report.policies[0]
    for month, points in _months(report, declared):
        console.print()
        console.print(Text(f"{month:%B %Y}", style="bold") + Text(_figures(report, month), style="dim"))
        for mark in points:
            sign, colour = _SIGNS[mark.kind]
            line = Text(f"  {mark.at:%d %b %H:%M}  ") + Text(f"{sign:9}", style=colour) + Text(mark.text)
            console.print(line)
        if not points:
            console.print(Text("  a quiet month", style="dim"))
    console.print()
    console.print(draw_comparison(report), markup=False)


def _months(report: ReplayReport, policy: PolicyResult) -> Iterator[tuple[datetime, Sequence[Mark]]]:
    months = [point.at for point in policy.performance] or [report.start]
    for begin, after in zip(months, [*months[1:], report.end], strict=True):
        yield begin, [mark for mark in policy.marks if begin <= mark.at < after or (mark.at == report.end == after)]


def _figures(report: ReplayReport, month: datetime) -> str:
    parts = []
    for policy in report.policies:
        point = next((point for point in policy.performance if point.at == month), None)
        if point is not None and point.value is not None:
            parts.append(f"{policy.name} {point.value:.3f}")
    return f"   {report.metric}: {', '.join(parts)}" if parts else ""


def _show_around(console: Console, at: Place, page: Path, took_s: float) -> None:
    workspace = Workspace(at.project, at.home)
    [endpoint] = workspace.endpoints
    last = workspace.predictions.latest(endpoint, 1)
    # After `make demo` the command lies in a virtual environment that no shell has entered yet.
    flyball = "flyball" if shutil.which("flyball") else _relative(Path(sys.argv[0]).absolute())
    place = _relative(at.project)
    if at.home != at.project / HOME:
        place += f" --home {_relative(at.home)}"
    console.print()
    console.print(Text(f"The year took {took_s:.0f} seconds. Its page: {_relative(page)}", style="bold"))
    console.print("The project is left as it stands at the end of the year. Look around in it:")
    if not last.is_empty():
        console.print(f"  {flyball} trace {last['id'][0]} --project {place}")
    console.print(f"  {flyball} status --project {place}")
    console.print(f'  {flyball} history {endpoint} --at "2025-08-20" --project {place}')
    console.print(f"  {flyball} audit verify --project {place}")
    console.print(f"  {flyball} up --project {place}")


def _relative(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
