"""The one table from errors to what MLflow's clients understand: an HTTP status and an ``error_code``."""

from http import HTTPStatus

import msgspec

from flyball.core.errors import (
    BackendError,
    BackendUnavailableError,
    ConflictError,
    FlyballError,
    InvalidInputError,
    NotFoundError,
    NotPermittedError,
    PluginError,
)
from flyball.server.problems import BodyTooLargeError, MethodNotAllowedError, PathUnknownError


class Refusal(msgspec.Struct, frozen=True):
    """The body of every answer that is not a success."""

    error_code: str
    message: str


_CODES: dict[type[FlyballError], tuple[HTTPStatus, str]] = {
    BodyTooLargeError: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "INVALID_PARAMETER_VALUE"),
    PathUnknownError: (HTTPStatus.NOT_FOUND, "ENDPOINT_NOT_FOUND"),
    MethodNotAllowedError: (HTTPStatus.METHOD_NOT_ALLOWED, "ENDPOINT_NOT_FOUND"),
    InvalidInputError: (HTTPStatus.BAD_REQUEST, "INVALID_PARAMETER_VALUE"),
    NotFoundError: (HTTPStatus.NOT_FOUND, "RESOURCE_DOES_NOT_EXIST"),
    ConflictError: (HTTPStatus.BAD_REQUEST, "INVALID_PARAMETER_VALUE"),
    NotPermittedError: (HTTPStatus.FORBIDDEN, "PERMISSION_DENIED"),
    BackendUnavailableError: (HTTPStatus.SERVICE_UNAVAILABLE, "TEMPORARILY_UNAVAILABLE"),
    BackendError: (HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL_ERROR"),
    PluginError: (HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL_ERROR"),
    FlyballError: (HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL_ERROR"),
}
# By stable code, so that the table needs no import of every room: what a client tells apart from its class's usual.
_CODES_OF_LEAVES: dict[str, tuple[HTTPStatus, str]] = {
    "tracking/experiment-exists": (HTTPStatus.BAD_REQUEST, "RESOURCE_ALREADY_EXISTS"),
    "registry/model-exists": (HTTPStatus.BAD_REQUEST, "RESOURCE_ALREADY_EXISTS"),
}

UNEXPECTED = Refusal(
    "INTERNAL_ERROR", "something went wrong inside Flyball; the reason is in the home's folder logs, in control.log"
)


def list_codes() -> list[tuple[str, int, str]]:
    """Return what each kind of error is told as: its stable code, the HTTP status, and the client's code."""
    by_code = {kind.code: found for kind, found in _CODES.items()} | _CODES_OF_LEAVES
    return [(f"`{code}`", status.value, name) for code, (status, name) in by_code.items()]


def refuse(error: FlyballError) -> tuple[HTTPStatus, Refusal]:
    """Return the status and the body that tell a client of an error."""
    found = _CODES_OF_LEAVES.get(error.code)
    status, code = found or next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)
    return status, Refusal(code, f"{error.message}. {error.hint}" if error.hint else error.message)
