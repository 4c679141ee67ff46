"""The command trial."""

from typing import TYPE_CHECKING

import click

from flyball.cli.options import Place, emit, json_option, place_options
from flyball.core.errors import NotFoundError

if TYPE_CHECKING:
    from flyball.domain.loop.trials import TrialLook


@click.command()
@click.argument("endpoint", required=False)
@json_option
@place_options
def trial(place: Place, endpoint: str | None, as_json: bool) -> None:
    """Show how the A/B test or bandit of ENDPOINT stands.

    Looking does no harm: the test holds however often it is looked at.

    \b
    Example:
      flyball trial credit
    """
    from flyball.workspace.workspace import Workspace

    workspace = Workspace(place.project, place.home)
    name = workspace.project.endpoint_or_only(endpoint).name or ""
    look = workspace.deployer.look(name)
    if look is None:
        raise NotFoundError(
            f"no trial is under way on {name!r}",
            hint="Declare one: rollout=[fb.ab_test(...)]; how others ended: flyball history",
        )
    emit(look, as_json=as_json, text=_write)


def _write(look: "TrialLook") -> str:
    result = look.result
    lines = [
        f"{look.stage}: {look.candidate} against {look.live}",
        f"  {look.verdict.summary}",
        f"  live       {_write_arm(look.live, result.live.mean, result.live.rows, result.live.units)}",
        f"  candidate  {_write_arm(look.candidate, result.new.mean, result.new.rows, result.new.units)}",
    ]
    p_value = getattr(result, "p_value", None)
    if p_value is not None:
        lines.append(f"  p-value    {p_value:.3g}, valid at every look")
    share = getattr(result, "share", None)
    if share is not None:
        lines.append(f"  share      {share:.0%} of the traffic next")
    return "\n".join(lines)


def _write_arm(version: str, mean: float | None, rows: int, units: int) -> str:
    return f"{version:<20} {'-' if mean is None else f'{mean:.4g}':>10}  {rows:,} labels of {units:,} units"
