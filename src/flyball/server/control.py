"""The control plane's process: ``python -m flyball.server.control PROJECT HOME HOST PORT``."""

import gc
import os
import signal
import sys
from pathlib import Path

import uvicorn

from flyball.server.asgi import mount
from flyball.server.lifeline import when_supervisor_ends
from flyball.server.mlflow.app import MlflowApp, serves
from flyball.server.rest.app import make_app
from flyball.server.spools import start_taking_up
from flyball.workspace.workspace import Workspace


def main(project: str, home: str, host: str, port: str) -> None:
    """Run the process until SIGTERM, or until its supervisor ends."""
    when_supervisor_ends(lambda: os.kill(os.getpid(), signal.SIGTERM))
    workspace = Workspace(Path(project), Path(home))
    start_taking_up(workspace)
    app = mount(MlflowApp(workspace), serves, make_app(workspace, inference=(host, int(port) + 1)))
    # What is loaded stays, and a page of a thousand runs makes a hundred thousand objects: looking through them again
    # and again for cycles would take as long as the page.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    uvicorn.run(app, host=host, port=int(port), log_level="warning", access_log=False)


if __name__ == "__main__":
    main(*sys.argv[1:5])
