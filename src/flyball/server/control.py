"""The control plane's process: ``python -m flyball.server.control PROJECT HOME HOST PORT``."""

import gc
import os
import signal
import sys
from pathlib import Path

import uvicorn

from flyball.core.settings import has_project
from flyball.server.asgi import Application, Deferred, mount
from flyball.server.health import Health
from flyball.server.lifeline import when_supervisor_ends
from flyball.server.mlflow.app import MlflowApp, serves
from flyball.server.spools import start_taking_up
from flyball.server.webhooks import start_telling
from flyball.server.welcome import welcome
from flyball.workspace.home import Home

_KEEP_ALIVE_S = 75


def main(project: str, home: str, host: str, port: str) -> None:
    """Run the process until SIGTERM, or until its supervisor ends."""
    when_supervisor_ends(lambda: os.kill(os.getpid(), signal.SIGTERM))
    root, place = Path(project), Path(home)
    rooms = Home(root, place)
    rooms.db.make_room()
    start_taking_up(rooms)
    start_telling(rooms)
    is_whole = has_project(root)

    def make_rest() -> Application:
        from flyball.server.rest.app import make_app
        from flyball.workspace.workspace import Workspace

        return make_app(Workspace(root, place, settings=rooms.settings))

    # Where runs and versions alone are served, nobody may ever ask for the rest, which takes long to load.
    rest = Deferred(make_rest)
    if is_whole:
        rest.load()
    health = Health(place, (host, int(port) + 1) if is_whole else None)
    rest_and_page = mount(welcome, lambda path: path == "/", rest)
    app = mount(MlflowApp(rooms), serves, mount(health, lambda path: path == "/health", rest_and_page))
    # What is loaded stays, and a page of a thousand runs makes a hundred thousand objects: looking through them again
    # and again for cycles would take as long as the page.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    uvicorn.run(
        app,
        host=host,
        port=int(port),
        log_level="warning",
        access_log=False,
        lifespan="off",
        # Each line of an answer's head costs a client time, and a client that logs every minute a new connection.
        server_header=False,
        date_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )


if __name__ == "__main__":
    main(*sys.argv[1:5])
