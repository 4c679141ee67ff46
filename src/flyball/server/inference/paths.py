"""Refusals that every protocol over HTTP shares."""

from flyball.server.inference.messages import Request
from flyball.server.problems import MethodNotAllowedError, PathUnknownError


def require_method(request: Request, method: str) -> None:
    """Raise `MethodNotAllowedError` unless a request has that method."""
    if request.method != method:
        raise MethodNotAllowedError(request.method, request.path, method)


def unknown_path(request: Request, known: str) -> PathUnknownError:
    """Return the error of an address where nothing is."""
    return PathUnknownError(request.path, known)
