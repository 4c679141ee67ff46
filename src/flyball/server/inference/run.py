"""Runs the gateway's application in this process."""

import socket

import uvicorn

from flyball.server.asgi import Application
from flyball.server.inference.connections import make_connection_class
from flyball.server.inference.short_way import ShortWay

_DRAIN_S = 10
_KEEP_ALIVE_S = 60
_BACKLOG = 2_048


def serve(app: Application, host: str, port: int, short_way: ShortWay, *, is_shared: bool = False) -> None:
    """Answer until SIGTERM or SIGINT, then finish the requests under way.

    The server was chosen by measurement: uvicorn with uvloop and httptools.

    Args:
        app: Answers.
        host: Where to listen.
        port: Its port.
        short_way: Answers what is short enough.
        is_shared: Whether several processes listen at the same address; the kernel spreads connections over them.
    """
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=make_connection_class(short_way),
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_DRAIN_S,
    )
    with _listen(host, port, is_shared=is_shared) as listening:
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int, *, is_shared: bool) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind((host, port))
    listening.listen(_BACKLOG)
    listening.set_inheritable(False)
    return listening
