"""Commands around a running endpoint: up, predict, label."""

from typing import Any

import click

from flyball.cli.options import Place, emit, json_option, place_options
from flyball.cli.running import ask, find_running
from flyball.core.encoding import from_json
from flyball.core.errors import InvalidInputError
from flyball.core.settings import PROJECT_FILE, has_project, load_settings
from flyball.server.ports import find_grpc_port, host_of_url
from flyball.server.up import Up


@click.command()
@click.option("--host", help="A loopback address [default: 127.0.0.1].")
@click.option(
    "--port", type=click.IntRange(1, 65533), help="The API's port; predictions are one above [default: 3592]."
)
@place_options
def up(place: Place, host: str | None, port: int | None) -> None:
    """Start the API, the endpoints and the loop, until Ctrl-C.

    In a folder without a project, starts a server for runs, models and traces of other programs alone: for what
    `fb.run()` and MLflow's clients log.

    \b
    Example:
      flyball up --port 3592
    """
    settings, _ = load_settings(place.project, {"host": host, "port": port})

    def tell(line: str) -> None:
        click.echo(line, err=True)

    if not has_project(place.project):
        address = f"http://{host_of_url(settings.host)}:{settings.port}"
        greeting = [
            f"There is no {PROJECT_FILE} in {str(place.project)!r}: runs and models of other programs are kept.",
            f"MLflow       export MLFLOW_TRACKING_URI={address}",
            f"fb.run()     export FLYBALL_SERVER={address}",
            "Ctrl-C stops everything.",
        ]
        Up(place.project, place.home, settings.host, settings.port, tell, greeting, roles=["control"]).run()
        return
    endpoints = _list_endpoints(place)
    grpc_port = find_grpc_port(settings.port, settings.grpc_port)
    base = f"http://{host_of_url(settings.host)}"
    greeting = [
        f"API          {base}:{settings.port}          (GET /health, /status, /events)",
        *(f"predictions  {base}:{settings.port + 1}/predict/{name}" for name in endpoints),
        f"protocols    {base}:{settings.port + 1}/          (Open Inference, KServe, MLflow; /openapi.json, /metrics)",
        *([f"gRPC         {host_of_url(settings.host)}:{grpc_port}"] if grpc_port else []),
        "Ctrl-C stops everything.",
    ]
    further_ports = [settings.port + 1, *([grpc_port] if grpc_port else [])]
    system = Up(place.project, place.home, settings.host, settings.port, tell, greeting, further_ports)
    system.run()


def _list_endpoints(place: Place) -> list[str]:
    """Return a project's endpoints; a project that does not load is told of here, not in a log."""
    from flyball.workspace.outline import find_outline, keep_outline

    outline = find_outline(place.home, place.project)
    if outline is not None:
        return list(outline.endpoints)
    from flyball.workspace.project import Project

    project = Project.load(place.project)
    keep_outline(place.home, project)
    return list(project.endpoints)


@click.command()
@click.argument("endpoint")
@click.option("--json", "request", required=True, help="The request: one JSON object of named fields.")
@click.option("--explain", is_flag=True, help="Tell what each feature added to the prediction.")
@place_options
def predict(place: Place, endpoint: str, request: str, explain: bool) -> None:
    """Ask ENDPOINT for a prediction and print the answer as JSON.

    Asks the running `flyball up` of this home; without one, computes and logs the prediction here.

    \b
    Example:
      flyball predict credit --json '{"customer_id": 17, "income": 52000, "term_months": 36}'
    """
    body = from_json(request, dict[str, Any], what="the request")
    running = find_running(place.home)
    if running is None:
        answer = _compute(place, endpoint, body, explain=explain)
    else:
        host, port = running
        answer = ask((host, port + 1), f"/predict/{endpoint}{'?explain=true' if explain else ''}", body)
    emit(answer, as_json=False)


@click.command()
@click.argument("prediction")
@click.argument("value")
@click.option("--at", help="When it happened, such as 2026-03-01T14:05 [default: now].")
@json_option
@place_options
def label(place: Place, prediction: str, value: str, at: str | None, as_json: bool) -> None:
    """Say how PREDICTION (its id) turned out: VALUE is what really happened, or null to take back what was said.

    \b
    Example:
      flyball label 01k8x2v7q4r6t8w0y2a4c6e8g0 1
    """
    from flyball.core.durations import parse_instant
    from flyball.workspace.home import Home

    home = Home(place.project, place.home)
    kept = home.label(prediction, _read_value(value), at=parse_instant(at, what="--at") if at else None)
    emit(kept, as_json=as_json, text=lambda kept: _tell_label(prediction, kept.value))


def _tell_label(prediction: str, value: Any) -> str:
    if value is None:
        return f"taken back: {prediction} has no label"
    from flyball.domain.data.wording import format_value

    return f"kept: {prediction} turned out to be {format_value(value)}"


def _read_value(text: str) -> Any:
    try:
        value = from_json(text, Any)
    except InvalidInputError:
        return text
    return value if value is None or isinstance(value, int | float | bool | str) else text


def _compute(place: Place, endpoint: str, body: dict[str, Any], *, explain: bool) -> Any:
    from flyball.workspace.workspace import Workspace

    return Workspace(place.project, place.home).data_plane.predict_one(endpoint, body, explain=explain)
