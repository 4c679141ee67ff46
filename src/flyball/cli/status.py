"""The command status."""

import click

from flyball.cli.options import Place, emit, json_option, place_options


@click.command()
@json_option
@place_options
def status(place: Place, as_json: bool) -> None:
    """Show what is live, what is watched and what needs you.

    \b
    Example:
      flyball status
    """
    from flyball.cli.pictures import draw_status
    from flyball.workspace.status import read_status
    from flyball.workspace.workspace import Workspace

    emit(read_status(Workspace(place.project, place.home)), as_json=as_json, text=draw_status)
