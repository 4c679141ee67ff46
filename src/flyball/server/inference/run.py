"""Runs the gateway's application in this process."""

import uvicorn

from flyball.server.asgi import Application
from flyball.server.inference.connections import make_connection_class
from flyball.server.inference.short_way import ShortWay

_DRAIN_S = 10
_BACKLOG = 2_048


def serve(app: Application, host: str, port: int, short_way: ShortWay) -> None:
    """Answer until SIGTERM or SIGINT, then finish the requests under way.

    The server was chosen by measurement: uvicorn with uvloop and httptools.
    """
    uvicorn.run(
        app,
        host=host,
        port=port,
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
        backlog=_BACKLOG,
        timeout_graceful_shutdown=_DRAIN_S,
    )
