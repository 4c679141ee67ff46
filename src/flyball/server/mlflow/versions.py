"""What the server says of itself."""

from flyball.server.mlflow.answers import Answer
from flyball.server.mlflow.requests import Request
from flyball.server.mlflow.routing import Route, lookup
from flyball.workspace.home import Home

PROTOCOL_VERSION = "3.17.2"
"""The release of MLflow whose protocol is spoken; clients choose what they send by it."""


def tell_version(_home: Home, _request: Request) -> Answer:
    """Answer the release whose protocol is spoken, as plain text."""
    return Answer(PROTOCOL_VERSION.encode(), "text/plain; charset=utf-8")


ROUTES: tuple[Route, ...] = (lookup("GET", "/version", tell_version),)
