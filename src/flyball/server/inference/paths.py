"""Refusals that the protocols over HTTP share."""

from typing import Any

import msgspec

from flyball.core.errors import FlyballError
from flyball.server.inference.messages import Reply, Request, allow_header
from flyball.server.problems import (
    MEDIA_TYPE,
    BodyTooLargeError,
    MediaTypeError,
    MethodNotAllowedError,
    PathUnknownError,
    make_problem,
    status_of,
)

_UNREAD = (BodyTooLargeError, MediaTypeError)
_encode = msgspec.json.Encoder(enc_hook=str).encode


def require_method(request: Request, method: str) -> None:
    """Raise `MethodNotAllowedError` unless a request has that method; HEAD is a GET without the body."""
    if request.method != method and (request.method, method) != ("HEAD", "GET"):
        raise MethodNotAllowedError(request.method, request.path, method)


def unknown_path(request: Request, known: str) -> PathUnknownError:
    """Return the error of an address where nothing is."""
    return PathUnknownError(request.path, known)


def refuse_plainly(error: FlyballError) -> Reply:
    """Return ``{"error": text}``, as the Open Inference Protocol and KServe tell errors."""
    text = f"{error.message} ({error.hint})" if error.hint else error.message
    return Reply(status_for_clients(error), _encode({"error": text}), is_last=is_unread(error))


def refuse_as_problem(error: FlyballError, **more: Any) -> Reply:
    """Return a problem document of RFC 9457, as our own addresses tell errors."""
    problem = make_problem(error, **more)
    is_last = isinstance(error, (*_UNREAD, MethodNotAllowedError, PathUnknownError))
    return Reply(problem["status"], _encode(problem), MEDIA_TYPE, is_last, allow_header(error))


def is_unread(error: FlyballError) -> bool:
    """Tell whether a request was refused before its body was read, so that its connection ends with it."""
    return isinstance(error, _UNREAD)


def status_for_clients(error: FlyballError) -> int:
    """Return the status of an error: what our own protocol calls unprocessable is a bad request elsewhere."""
    status = status_of(error).value
    return 400 if status == 422 else status
