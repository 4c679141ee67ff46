"""Runs the gateway's application in this process."""

import uvicorn

from flyball.server.asgi import Application

_DRAIN_S = 10
_BACKLOG = 2_048


def serve(app: Application, host: str, port: int) -> None:
    """Answer until SIGTERM or SIGINT, then finish the requests under way.

    The server was chosen by measurement: uvicorn with uvloop and httptools.
    """
    uvicorn.run(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=_DRAIN_S,
    )
