"""Commands that decide what is live: approve, rollback."""

import click

from flyball.cli.options import Place, emit, json_option, place_options
from flyball.cli.running import ask, find_running
from flyball.core.encoding import to_plain


@click.command()
@click.argument("version")
@click.option("--as", "user", required=True, help="Who signs; must have the role that the endpoint asks for.")
@json_option
@place_options
def approve(place: Place, version: str, user: str, as_json: bool) -> None:
    """Sign the evidence of VERSION (name/number), so that it may go live.

    \b
    Example:
      flyball approve credit-risk/7 --as ana
    """
    from flyball.workspace.home import Home

    signed = Home(place.project, place.home).approve(version, user)
    emit(signed, as_json=as_json, text=lambda _: f"{version} is approved by {user}; the loop takes it live")


@click.command()
@click.argument("endpoint")
@click.option("--reason", default="asked for by hand", help="Why; kept in the journal.")
@click.option("--as", "user", default="cli", help="Who asks; kept in the journal.")
@json_option
@place_options
def rollback(place: Place, endpoint: str, reason: str, user: str, as_json: bool) -> None:
    """Go back to the model that was live on ENDPOINT before, with all that belongs to it.

    Features, schema, data tests and thresholds return with the model; nothing is trained.

    \b
    Example:
      flyball rollback credit --reason "wrong prices since noon"
    """
    running = find_running(place.home)
    if running is None:
        from flyball.workspace.workspace import Workspace

        result = Workspace(place.project, place.home).rollback(endpoint, actor=f"user/{user}", reason=reason)
        done = to_plain(result)
    else:
        done = ask(running, f"/endpoints/{endpoint}/rollback", {"reason": reason, "user": user})
    emit(done, as_json=as_json, text=_describe_rollback)


def _describe_rollback(done: dict[str, str]) -> str:
    return f"{done['endpoint']}: {done['now_live']} is live again instead of {done['was_live']}"
