"""Which handler a method and a path have: exact paths by one look-up, patterns by their segments."""

from collections.abc import Awaitable, Callable, Iterable
from enum import Enum
from typing import Any
from urllib.parse import unquote

import msgspec

from flyball.core.errors import InvalidInputError
from flyball.server.mlflow.requests import Request
from flyball.server.problems import MethodNotAllowedError, PathUnknownError
from flyball.storage.db import Transaction
from flyball.workspace.home import Home

MAX_BODY_BYTES = 32_000_000
"""Fits the largest request that a client makes: datasets' profiles of 16 MB. Streams have no limit."""

Read = Callable[[Home, Request], Any]
Work = Callable[[Transaction], Any]
Write = Callable[[Home, Request], Work]
Stream = Callable[[Home, Request], Awaitable[Any]]

_PLACES = "a list of the addresses that Flyball serves in docs/reference/mlflow.md"


class Kind(Enum):
    """How a handler is called."""

    READ = "in a thread; it opens its own read transaction"
    LOOKUP = "as a read that finds a few rows by their keys: where the database is a file, on the event loop"
    WRITE = "on the event loop, to check the request; what it returns is called with a transaction shared with others"
    STREAM = "as a coroutine that reads the body itself"


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One address.

    Attributes:
        path: Below ``/api/2.0`` and the like, such as ``/api/2.0/mlflow/runs/get``; ``{name}`` stands for one segment,
            ``{name:path}`` at the end for all that follow.
        max_body_bytes: A longer body is refused unread; not for streams.
        media_types: What the body may be; a browser sends none of them for a page of another site unasked.
    """

    method: str
    path: str
    handler: Callable[..., Any]
    kind: Kind
    max_body_bytes: int = MAX_BODY_BYTES
    media_types: tuple[str, ...] = ("application/json",)


def read(method: str, path: str, handler: Read) -> Route:
    """Return a route whose handler answers without changing anything."""
    return Route(method=method, path=path, handler=handler, kind=Kind.READ)


def lookup(method: str, path: str, handler: Read) -> Route:
    """Return a route whose handler reads a few rows by their keys, which takes less time than changing threads."""
    return Route(method=method, path=path, handler=handler, kind=Kind.LOOKUP)


def write(method: str, path: str, handler: Write) -> Route:
    """Return a route whose handler checks the request and returns the work to be done in a transaction."""
    return Route(method=method, path=path, handler=handler, kind=Kind.WRITE)


def stream(method: str, path: str, handler: Stream) -> Route:
    """Return a route whose handler is a coroutine and reads the body in pieces."""
    return Route(method=method, path=path, handler=handler, kind=Kind.STREAM)


class Router:
    """Finds routes.

    Raises:
        ValueError: Two routes have the same method and path.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[str, dict[str, Route]] = {}
        # What comes before the first name, the segments, and the routes by method.
        self._patterns: list[tuple[str, list[str], dict[str, Route]]] = []
        by_path: dict[str, dict[str, Route]] = {}
        for route in routes:
            methods = by_path.setdefault(route.path, {})
            if route.method in methods:
                raise ValueError(f"{route.method} {route.path} has two handlers")
            methods[route.method] = route
        for path, methods in by_path.items():
            if "{" in path:
                self._patterns.append((path.partition("{")[0], path.split("/"), methods))
            else:
                self._exact[path] = methods
        # Fixed segments before variable ones, so that `logged-models/search` is not the model `search`.
        self._patterns.sort(key=lambda entry: ["{" in segment for segment in entry[1]])

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """Return the route and the values of its path's names.

        Args:
            method: In capitals.
            path: As sent, percent-encoded.

        Raises:
            PathUnknownError: There is nothing at the path.
            MethodNotAllowedError: The path does not take the method.
            InvalidInputError: A segment is not UTF-8.
        """
        if path.startswith("/ajax-api/"):
            path = "/api/" + path[len("/ajax-api/") :]
        methods = self._exact.get(path)
        values: dict[str, str] = {}
        if methods is None or (method not in methods and self._patterns):
            segments = path.split("/")
            for prefix, pattern, below in self._patterns:
                found = _match(pattern, segments) if path.startswith(prefix) else None
                if found is not None and (methods is None or method in below):
                    methods, values = below, found
                    if method in below:
                        break
        if methods is None:
            raise PathUnknownError(path, _PLACES)
        route = methods.get(method)
        if route is None:
            raise MethodNotAllowedError(method, path, " or ".join(sorted(methods)))
        return route, {name: _decode(value) for name, value in values.items()}


def _match(pattern: list[str], segments: list[str]) -> dict[str, str] | None:
    """Return the encoded values of a pattern's names, or None where it does not fit."""
    if len(segments) < len(pattern):
        return None
    values = {}
    for position, part in enumerate(pattern):
        if part.endswith(":path}"):
            values[part[1:-6]] = "/".join(segments[position:])
            return values
        if part.startswith("{"):
            if not segments[position]:
                return None
            values[part[1:-1]] = segments[position]
        elif part != segments[position]:
            return None
    return values if len(segments) == len(pattern) else None


def _decode(value: str) -> str:
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{value[:200]!r} in the address is not UTF-8") from error
