"""The control plane's routes. No logic: read the request, call one service, answer."""

from datetime import datetime
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, get, post
from litestar.exceptions import HTTPException, NotFoundException, ValidationException
from litestar.openapi.config import OpenAPIConfig

from flyball.core.durations import parse_instant
from flyball.core.encoding import to_plain
from flyball.core.errors import FlyballError, InvalidInputError
from flyball.server.problems import MEDIA_TYPE, PathUnknownError, make_problem
from flyball.server.rest.runs import make_run_routes
from flyball.version import __version__
from flyball.workspace.histories import read_history
from flyball.workspace.status import read_status
from flyball.workspace.tracing import trace_prediction
from flyball.workspace.workspace import Workspace

_EVENTS_PAGE = 1_000


class Label(msgspec.Struct, forbid_unknown_fields=True):
    """How a prediction turned out.

    Attributes:
        prediction_id: The id that came with the answer.
        value: What really happened, of the type the model predicts.
        at: When it happened; now by default.
    """

    prediction_id: str
    value: float | int | str | bool
    at: str | None = None


class Approval(msgspec.Struct, forbid_unknown_fields=True):
    """Who says yes to a version."""

    user: str


class RollbackRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Why a rollback is asked for, and by whom."""

    reason: str = "asked for by hand"
    user: str = "api"


def make_app(workspace: Workspace) -> Litestar:
    """Return the control plane's ASGI application.

    Args:
        workspace: What it serves.
    """

    @get("/status", sync_to_thread=True)
    def status() -> Any:
        """Return what is live, what is watched and what waits for a person."""
        return to_plain(read_status(workspace))

    @get("/events", sync_to_thread=True)
    def events(after: int = 0, kind: str | None = None, subject: str | None = None) -> Any:
        """Return events of the journal after a number, at most 1,000."""
        kinds = [kind] if kind else []
        return to_plain(workspace.journal.list_events(after=after, kinds=kinds, subject=subject, limit=_EVENTS_PAGE))

    @get("/predictions/{prediction_id:str}/trace", sync_to_thread=True)
    def trace(prediction_id: str) -> Any:
        """Return everything behind one prediction."""
        return to_plain(trace_prediction(workspace, prediction_id))

    @get("/endpoints/{name:str}/history", sync_to_thread=True)
    def history(name: str, at: str) -> Any:
        """Return what was live at an instant."""
        return to_plain(read_history(workspace, name, parse_instant(at, what="at")))

    @post("/labels", sync_to_thread=True, status_code=201)
    def label(data: Label) -> Any:
        """Say how a prediction turned out."""
        at: datetime | None = parse_instant(data.at, what="at") if data.at else None
        return to_plain(workspace.label(data.prediction_id, data.value, at=at))

    @post("/endpoints/{name:str}/rollback", sync_to_thread=True, status_code=200)
    def rollback(name: str, data: RollbackRequest) -> Any:
        """Go back to the model that was live before."""
        return to_plain(workspace.rollback(name, actor=f"user/{data.user}", reason=data.reason))

    @post("/versions/{model:str}/{number:int}/approve", sync_to_thread=True, status_code=200)
    def approve(model: str, number: int, data: Approval) -> Any:
        """Sign a version's evidence as a user."""
        return to_plain(workspace.approve(f"{model}/{number}", data.user))

    return Litestar(
        [status, events, trace, history, label, rollback, approve, *make_run_routes(workspace)],
        exception_handlers={FlyballError: _tell, HTTPException: _tell_of_request},
        openapi_config=OpenAPIConfig(title="Flyball", version=__version__),
        request_max_body_size=workspace.settings.max_body_bytes,
    )


def _tell(_request: Request[Any, Any, Any], error: FlyballError) -> Response[Any]:
    problem = make_problem(error)
    return Response(problem, status_code=problem["status"], media_type=MEDIA_TYPE)


def _tell_of_request(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    problem: dict[str, Any]
    if isinstance(error, NotFoundException):
        unknown = PathUnknownError(request.url.path, _hint(request.url.path))
        # Clients of MLflow that were given an address with a path get here; these two members are what they show.
        problem = make_problem(unknown, error_code="ENDPOINT_NOT_FOUND", message=f"{unknown.message}. {unknown.hint}")
    elif isinstance(error, ValidationException):
        details = "; ".join(
            f"{found.get('key', 'body')}: {found.get('message')}"
            for found in error.extra or []
            if isinstance(found, dict)
        )
        problem = make_problem(InvalidInputError(f"the request does not fit: {details or error.detail}"))
    else:
        problem = {"type": "about:blank", "title": error.detail, "status": error.status_code, "detail": error.detail}
    return Response(problem, status_code=problem["status"], media_type=MEDIA_TYPE)


def _hint(path: str) -> str:
    if "/api/2.0/" in path or "/api/3.0/" in path:
        return "MLflow's protocol at the server's address alone: MLFLOW_TRACKING_URI is like http://127.0.0.1:3592"
    return "/status, /events, /schema and MLflow's protocol; runs are shown by flyball runs list"
