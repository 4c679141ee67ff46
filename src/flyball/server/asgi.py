"""The three types of every ASGI application, one that sends requests to several, and one that is made when asked."""

import asyncio
import threading
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


class Deferred:
    """An application that is made, in a thread, when the first request for it comes.

    Args:
        make: Makes it.
    """

    def __init__(self, make: Callable[[], Application]) -> None:
        self._make = make
        self._made: Application | None = None
        self._lock = threading.Lock()

    def load(self) -> Application:
        """Return the application; the first call makes it."""
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        made = self._made
        if made is None:
            made = await asyncio.to_thread(self.load)
        await made(scope, receive, send)
