"""The one table from errors to HTTP, for every HTTP surface: problem documents of RFC 9457."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

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
from flyball.domain.serving.answers import Problem, RequestRefusedError

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:flyball:"
_MOST_ERRORS = 100


class BodyTooLargeError(InvalidInputError):
    """A request's body is longer than what is read."""

    code = "http/body-too-large"

    def __init__(
        self, limit_bytes: int, *, hint: str = "Send fewer rows at once, or raise max_body_bytes in flyball.toml."
    ) -> None:
        super().__init__(f"the body is longer than {limit_bytes:,} bytes", hint=hint)


class BodyUnreadableError(InvalidInputError):
    """A request's body is not what it should be: JSON, or another kind that the address takes."""

    code = "http/body-unreadable"

    def __init__(self, reason: str, *, wanted: str = "JSON in UTF-8") -> None:
        super().__init__(f"the body is not {wanted}: {reason}")


class MediaTypeError(InvalidInputError):
    """A request's body is of a kind that is not read."""

    code = "http/media-type"

    def __init__(self, header: str, found: str, wanted: str) -> None:
        super().__init__(f"a body with {header} {found!r} is not read", hint=f"Send {wanted}.")


class PathUnknownError(NotFoundError):
    """Nothing is at an address."""

    code = "http/path-unknown"

    def __init__(self, path: str, known: str) -> None:
        super().__init__(f"there is nothing at {path[:200]!r}", hint=f"There is {known}.")


class MethodNotAllowedError(InvalidInputError):
    """An address does not take that method."""

    code = "http/method-not-allowed"

    def __init__(self, method: str, path: str, allowed: str) -> None:
        super().__init__(f"{path[:200]!r} does not take {method[:20]}", hint=f"Use {allowed}.")
        self.allowed = allowed


class TooBusyError(BackendUnavailableError):
    """More requests wait than can be answered in time."""

    code = "http/too-busy"
    retry_after_s = 1

    def __init__(self, waiting: int) -> None:
        super().__init__(
            f"{waiting:,} requests wait already, so this one is not taken",
            hint="Send it again a little later; or let more processes answer, with gateway_processes.",
        )


class TimedOutError(BackendUnavailableError):
    """A model did not answer in time."""

    code = "http/timed-out"

    def __init__(self, timeout_s: float) -> None:
        super().__init__(
            f"no answer came within {timeout_s:g} seconds",
            hint="Ask for fewer rows, or raise gateway_timeout_seconds in flyball.toml.",
        )


_STATUS: dict[type[FlyballError], HTTPStatus] = {
    TooBusyError: HTTPStatus.TOO_MANY_REQUESTS,
    TimedOutError: HTTPStatus.GATEWAY_TIMEOUT,
    BodyTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    BodyUnreadableError: HTTPStatus.BAD_REQUEST,
    MediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    MethodNotAllowedError: HTTPStatus.METHOD_NOT_ALLOWED,
    InvalidInputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotFoundError: HTTPStatus.NOT_FOUND,
    ConflictError: HTTPStatus.CONFLICT,
    NotPermittedError: HTTPStatus.FORBIDDEN,
    BackendUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    BackendError: HTTPStatus.BAD_GATEWAY,
    PluginError: HTTPStatus.INTERNAL_SERVER_ERROR,
    FlyballError: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def status_of(error: FlyballError) -> HTTPStatus:
    """Return the status of an error: that of the nearest class in the table."""
    return next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)


def make_problem(error: FlyballError, **more: Any) -> dict[str, Any]:
    """Return the problem document of an error, with further members at its end."""
    status = status_of(error)
    problem: dict[str, Any] = {
        "type": f"{TYPE_PREFIX}{error.code}",
        "title": status.phrase,
        "status": status.value,
        "detail": error.message,
        "hint": error.hint,
    }
    if isinstance(error, RequestRefusedError):
        problem["errors"] = list_errors(error.problems)
    return problem | more


def make_unexpected_problem() -> dict[str, Any]:
    """Return the problem document of what should not have happened; the log has the details."""
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    return {
        "type": f"{TYPE_PREFIX}http/unexpected",
        "title": status.phrase,
        "status": status.value,
        "detail": "something went wrong inside Flyball",
        "hint": "The reason is in the process's log, in the home's folder logs.",
    }


def list_errors(problems: Sequence[Problem]) -> list[dict[str, str]]:
    """Return the members of ``errors``: field and message; not more than anybody reads."""
    return [{"field": problem.field, "message": problem.message} for problem in problems[:_MOST_ERRORS]]
