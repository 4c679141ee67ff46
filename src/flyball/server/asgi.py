"""The three types of every ASGI application, and the one that sends a request to one of several."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[..., Awaitable[None]]  # frameworks write the three types in their own ways


def mount(first: Application, serves: Callable[[str], bool], then: Application) -> Application:
    """Return an application that gives ``first`` the paths that it serves, and ``then`` all else and the lifespan.

    A router of a framework would put its layers in front of both.
    """

    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        is_first = scope["type"] == "http" and serves(scope["path"])
        await (first if is_first else then)(scope, receive, send)

    return choose
