"""The one tree of errors, split by what the caller can do.

::

    FlyballError                     code, message, hint; no HTTP status, no exit code
    ├── InvalidInputError            the caller must change the request          REST 422   exit 1
    ├── NotFoundError                the name or id does not exist               REST 404   exit 1
    ├── ConflictError                it exists, but its state forbids this       REST 409   exit 1
    ├── NotPermittedError            who asks may not do this                    REST 403   exit 1
    ├── BackendError                 something outside Flyball failed            REST 502   exit 1
    │   └── BackendUnavailableError  ... and trying again may help               REST 503   exit 75
    └── PluginError                  an installed plugin is missing or breaks    REST 500   exit 1

Leaves live in the room that raises them.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class FlyballError(Exception):
    """Anything Flyball refuses or fails at, told so that a person can act on it.

    Attributes:
        code: Stable, documented identifier such as ``registry/approval-missing``.
        message: What was asked and what was found, by name.
        hint: One thing to do, preferably a command; empty when there is none.
    """

    code = "flyball/error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class InvalidInputError(FlyballError):
    """The caller must change the request."""

    code = "flyball/invalid-input"


class NotFoundError(FlyballError):
    """The name or id does not exist."""

    code = "flyball/not-found"


class ConflictError(FlyballError):
    """It exists, but its state forbids this."""

    code = "flyball/conflict"


class NotPermittedError(FlyballError):
    """Who asks may not do this."""

    code = "flyball/not-permitted"


class BackendError(FlyballError):
    """Something outside Flyball failed."""

    code = "flyball/backend"


class BackendUnavailableError(BackendError):
    """Something outside Flyball failed, and trying again may help."""

    code = "flyball/backend-unavailable"


class PluginError(FlyballError):
    """An installed plugin is missing or breaks."""

    code = "flyball/plugin"


class UnknownNameError(NotFoundError):
    """No thing of that kind has that name."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, hint: str = "") -> None:
        names = sorted(known)
        close = get_close_matches(name, names, n=1)
        if close:
            found = f"did you mean {close[0]!r}?"
        elif names:
            found = f"there is {', '.join(names[:8])}{' …' if len(names) > 8 else ''}"
        else:
            found = "there is none"
        super().__init__(f"no {kind} is named {name!r}; {found}", hint=hint)
